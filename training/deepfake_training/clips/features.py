"""What the trunks of both tiers make of frames of clips, kept on disk as it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from joblib import Parallel, delayed
from torch import nn
from tqdm import tqdm

from deepfake.bundle import Bundle
from deepfake.content.inputs import read_frame
from deepfake.engine.torch_backend import load_network
from deepfake.preprocess import ImagePreprocess, Pixels
from deepfake.reasons import Code

from ..export import compile_graph, export_onnx
from ..files import write_arrays
from ..perturb import jpeg, rescale
from ..video.history import code_burst
from .frames import Shots, load_shots

_BLOCK, _FRAME = 24, "frame"
Features = npt.NDArray[np.float16]


class Pooled(nn.Module):
    """The pooled features (n, 1280) of a :class:`deepfake.networks.pictures.MobilePicture`, which
    its last layer turns into a logit.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.trunk = network.trunk

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        hidden = self.trunk.forward_features(crops)
        pooled: torch.Tensor = self.trunk.forward_head(hidden, pre_logits=True)
        return pooled


@dataclass(frozen=True)
class Trunk:
    """A graph that turns windows of a frame, cut as ``bundle`` says, into features."""

    bundle: Bundle
    graph: Path
    precision: str

    def look(self, pixels: Pixels) -> Features | None:
        """The mean features (features,) of the windows of a frame; None where it is too small."""
        batch = read_frame(pixels, self.bundle)
        return None if isinstance(batch, Code) else self.see(batch)

    def see(self, batch: Pixels) -> Features:
        """The mean features (features,) of windows (windows, side, side, 3)."""
        assert isinstance(self.bundle.preprocess, ImagePreprocess)
        found = _open(self.graph, self.precision)(self.bundle.preprocess.scale(batch))[0]
        return np.asarray(np.asarray(found).mean(axis=0), np.float16)


def open_trunk(bundle: Bundle, network: nn.Module, graph: Path, *, precision: str) -> Trunk:
    """The features of ``network`` as a graph at ``graph``, which is written where it is not."""
    assert isinstance(bundle.preprocess, ImagePreprocess)
    side = bundle.preprocess.side_pixels
    if not graph.exists():
        export_onnx(network.eval(), np.zeros((2, 3, side, side), np.float32), graph)
    return Trunk(bundle, graph, precision)


def load_one_scale(bundle: Bundle) -> tuple[Bundle, Any]:
    """A bundle and its network with its weights, in float32 and evaluation mode. Of a full tier
    that sees pictures at two scales only what sees crops as they are, without an overview, and the
    bundle as if there were nothing else.
    """
    network: Any = load_network(bundle)
    scales = bundle.network_options.get("scales", 1)
    if scales == 1:
        return bundle, network
    assert isinstance(bundle.preprocess, ImagePreprocess)
    side = bundle.preprocess.side_pixels // scales
    smaller = replace(bundle.preprocess, side_pixels=side, overview=False)
    options = {key: value for key, value in bundle.network_options.items() if key != "scales"}
    return replace(bundle, network_options=options, preprocess=smaller), network.alone()


@lru_cache
def _open(graph: Path, precision: str) -> Any:
    return compile_graph(graph, threads=1, precision=precision)


def measure(
    look: Callable[[Shots, np.random.Generator], Pixels],
    trunk: Trunk,
    *,
    clips: int,
    shots: Path,
    folder: Path,
    workers: int,
    seed: int,
) -> dict[int, Features]:
    """The features (features,) of the frame that ``look`` chooses of every clip. Clips without one
    are left out.
    """

    def see(number: int) -> dict[str, Features]:
        own = load_shots(shots, number)
        if own is None:
            return {}
        features = trunk.look(look(own, np.random.default_rng([seed, number])))
        return {} if features is None else {_FRAME: features}

    found = run_blocks(see, count=clips, folder=folder, workers=workers)
    return {number: values[_FRAME] for number, values in found.items()}


def run_blocks(
    see: Callable[[int], dict[str, Features]], *, count: int, folder: Path, workers: int
) -> dict[int, dict[str, Features]]:
    """What ``see`` finds in each of ``count`` clips, by name; goes on where an earlier run stopped.
    Clips in which it finds nothing are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    blocks = [range(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]
    paths = [folder / f"{number:04d}.npz" for number in range(len(blocks))]
    tasks = [
        delayed(_run_block)(see, block, path)
        for block, path in zip(blocks, paths, strict=True)
        if not path.exists()
    ]
    running = Parallel(n_jobs=workers, return_as="generator_unordered")(tasks)
    done = len(blocks) - len(tasks)
    for _ in tqdm(running, initial=done, total=len(blocks), desc=folder.name, mininterval=10):
        pass
    found: dict[int, dict[str, Features]] = {}
    for path in paths:
        with np.load(path) as stored:
            for key in stored.files:
                number, _, name = key.partition("/")
                found.setdefault(int(number), {})[name] = stored[key]
    return found


def _run_block(see: Callable[[int], dict[str, Features]], block: range, path: Path) -> None:
    seen = {f"{number}/{name}": one for number in block for name, one in see(number).items()}
    write_arrays(path, **seen)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A frame of a burst of a clip; with ``changed`` a later one, after a random change of size and
    round of compression of the burst.
    """

    burst: int
    changed: bool

    def __call__(self, shots: Shots, rng: np.random.Generator) -> Pixels:
        burst = list(shots.bursts[min(self.burst, len(shots.bursts) - 1)])
        return change(burst, rng)[-2] if self.changed else burst[0]


def change(burst: Sequence[Pixels], rng: np.random.Generator) -> list[Pixels]:
    """Frames after a random change of size and a round of H.264 or JPEG, the same for all."""
    factor = float(np.exp(rng.uniform(np.log(0.5), np.log(1.1))))
    side = min(burst[0].shape[:2])
    factor = max(factor, min(1.0, 128 / side))
    frames = [rescale(pixels, factor=factor, kernel="area") for pixels in burst]
    if rng.random() < 0.75:
        return code_burst(frames, crf=int(rng.integers(23, 42)))
    quality = int(rng.integers(40, 95))
    return [jpeg(pixels, quality=quality) for pixels in frames]
