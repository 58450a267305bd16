"""Statistics of crops, by the untrained parts of a network: computed once, then read from disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from tqdm import tqdm

from deepfake.content.inputs import Judge, read_still
from deepfake.networks.pictures import StatisticsNet
from deepfake.preprocess import ImagePreprocess
from deepfake.reasons import Code

from ..export import compile_graph, export_onnx
from ..files import write_array, write_arrays
from ..imagenet import load_mobilenet
from ..perturb import PICTURE_VIEWS
from .bank import Bank
from .data import Picture

Statistics = npt.NDArray[np.float32]
BATCH = 32
BLOCK = 48
"""Pictures that a process takes at a time."""


@dataclass(frozen=True)
class PictureStatistics:
    """Statistics of windows (windows, features); ``files`` and ``views`` (windows,) say of which
    picture, by its place in the list, and of which view, by its place in ``names``.
    """

    statistics: Statistics
    files: npt.NDArray[np.int64]
    views: npt.NDArray[np.int64]
    names: tuple[str, ...]


def new_network(parts: dict[str, dict[str, Any]], *, weights: Path) -> StatisticsNet:
    """A network whose trunk has ImageNet weights."""
    import torch

    torch.manual_seed(0)
    network = StatisticsNet(parts=parts)
    places = {"conv_stem": "parts.trunk.stem.0", "bn1": "parts.trunk.stem.1"}
    for index in range(int(parts["trunk"]["stages"])):
        places[f"blocks.{index}"] = f"parts.trunk.stages.{index}"
    load_mobilenet(network, weights, places=places)
    return network.eval()


def measure_bank(
    network: StatisticsNet,
    bank: Bank,
    *,
    preprocess: ImagePreprocess,
    cache: Path,
    workers: int = 1,
) -> Statistics:
    """Statistics of all crops (couples, 2, features)."""
    graph = _export(network, preprocess, cache)
    path = cache / f"bank-{graph.stem}-{_digest(bank.key)}.npy"
    if not path.exists():
        flat = bank.crops.reshape(-1, *bank.crops.shape[2:])
        starts = range(0, len(flat), 16 * BATCH)
        parts = Parallel(n_jobs=workers)(
            delayed(_measure_crops)(graph, flat[start : start + 16 * BATCH], preprocess)
            for start in tqdm(starts, desc="statistics of crops", mininterval=5)
        )
        write_array(path, np.concatenate(parts))
    found = np.load(path).astype(np.float32)
    return np.asarray(found.reshape(len(bank.crops), 2, -1))


def measure_pictures(
    network: StatisticsNet,
    pictures: Sequence[Picture],
    *,
    views: Sequence[str],
    judge: Judge,
    cache: Path,
    workers: int = 1,
) -> PictureStatistics:
    """Statistics of the windows of every picture in every view, read as in use."""
    assert isinstance(judge.preprocess, ImagePreprocess)
    graph = _export(network, judge.preprocess, cache)
    hashes = [picture.item.facts["sha256"] for picture in pictures]
    key = [hashes, list(views), asdict(judge.preprocess), asdict(judge.limits)]
    path = cache / f"files-{graph.stem}-{_digest(key)}.npz"
    if not path.exists():
        found = run_pictures(graph, pictures, views=views, judge=judge, workers=workers)
        statistics = found.statistics.astype(np.float16)
        write_arrays(path, statistics=statistics, files=found.files, views=found.views)
    with np.load(path, allow_pickle=False) as stored:
        statistics = stored["statistics"].astype(np.float32)
        return PictureStatistics(statistics, stored["files"], stored["views"], tuple(views))


def run_pictures(
    graph: Path,
    pictures: Sequence[Picture],
    *,
    views: Sequence[str],
    judge: Judge,
    workers: int = 1,
) -> PictureStatistics:
    """What ``graph`` says about the windows of every picture in every view in which the detector
    would judge it.
    """
    blocks = [pictures[start : start + BLOCK] for start in range(0, len(pictures), BLOCK)]
    parts = Parallel(n_jobs=workers)(
        delayed(_run_block)(graph, block, views, judge, BLOCK * number)
        for number, block in enumerate(tqdm(blocks, desc="files in all views", mininterval=5))
    )
    values, places = (np.concatenate(some) for some in zip(*parts, strict=True))
    return PictureStatistics(values, places[:, 0], places[:, 1], tuple(views))


def _measure_crops(
    graph: Path, crops: npt.NDArray[np.uint8], preprocess: ImagePreprocess
) -> npt.NDArray[np.float16]:
    compiled = compile_graph(graph, threads=1)
    return np.concatenate(
        [
            compiled(preprocess.scale(crops[start : start + BATCH]))["logits"].astype(np.float16)
            for start in range(0, len(crops), BATCH)
        ]
    )


def _run_block(
    graph: Path,
    pictures: Sequence[Picture],
    views: Sequence[str],
    judge: Judge,
    first: int,
) -> tuple[Statistics, npt.NDArray[np.int64]]:
    assert isinstance(judge.preprocess, ImagePreprocess)
    compiled, scale = compile_graph(graph, threads=1), judge.preprocess.scale
    values, places = [], []
    for number, picture in enumerate(pictures):
        for view, name in enumerate(views):
            batch = read_still(PICTURE_VIEWS[name](picture.pixels), judge)
            if not isinstance(batch, Code):
                values.append(np.array(compiled(scale(batch))["logits"]))
                places += [(first + number, view)] * len(batch)
    return np.concatenate(values), np.array(places)


def _export(network: StatisticsNet, preprocess: ImagePreprocess, cache: Path) -> Path:
    """The graph of the untrained parts alone, named after their weights."""
    import torch

    class Parts(torch.nn.Module):
        def forward(self, crops: torch.Tensor) -> torch.Tensor:
            return network.statistics(crops)

    digest = hashlib.sha256(repr(preprocess.side_pixels).encode())
    for name, value in [*network.parts.named_parameters(), *network.parts.named_buffers()]:
        digest.update(name.encode() + value.detach().numpy().tobytes())
    digest.update(repr(network.parts).encode())
    path = cache / f"{digest.hexdigest()[:12]}.onnx"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        side = preprocess.side_pixels
        export_onnx(Parts().eval(), np.zeros((2, 3, side, side), np.float32), path)
    return path


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
