"""Tokens of CLIP for crops of all pictures, kept on disk as they are made."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from deepfake.preprocess import ImagePreprocess

from ..export import compile_graph, export_onnx
from ..known import Known, draw_probabilities
from .crops import make_cropper
from .cutouts import Cutouts

CLIP_PREPROCESS = ImagePreprocess(
    side_pixels=448,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    max_windows=1,
    overview=True,
)
NEAR, FAR = "near", "far"
"""The two scales: crops as they are, and crops of twice the side shrunk to half."""
PRECISION = "bf16"
"""Of CLIP where the processor has it: a token is off by a hundredth, and made in half the time."""
_BATCH = 8


@dataclass(frozen=True)
class Tokens:
    """``values`` (n, features) float16, ``files`` (n,) the number of the file, ``changed`` (n,)
    whether the crop met a random history.
    """

    values: npt.NDArray[np.float16]
    files: npt.NDArray[np.int64]
    changed: npt.NDArray[np.bool_]


def measure_tokens(
    trunk: Any,
    pictures: Sequence[Known],
    cutouts: Cutouts,
    *,
    graph: Path,
    folder: Path,
    scale: str,
    crops: int,
    threads: int,
    seed: int,
) -> Tokens:
    """Tokens of ``crops`` crops at one ``scale``: every file once, then every file once more, and
    so on, each time another half with a random history; files of large groups come later, so that a
    stopped run leaves a balanced part. Goes on where an earlier run stopped. The ``graph`` of the
    trunk is written where it is not there yet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = plan_crops(pictures, crops=crops, seed=seed)
    store, log = folder / "tokens.bin", folder / "tokens.json"
    log.write_text(json.dumps({"seed": seed, "features": trunk.features}))
    if not graph.exists():
        export_onnx(trunk, np.zeros((2, 3, 224, 224), np.float32), graph)
    far = scale == FAR
    side = CLIP_PREPROCESS.side_pixels // (1 if far else 2)
    cropper = make_cropper(cutouts, pictures, replace(CLIP_PREPROCESS, side_pixels=side))
    choices = cutouts.places()
    run = compile_graph(graph, threads=threads, precision=PRECISION)

    def see(numbers: range) -> npt.NDArray[np.float16]:
        batch = []
        for number in numbers:
            file, changed = plan[number]
            rng = np.random.default_rng([seed, number])
            own = choices.get(file)
            if own is None:  # could not be read
                batch.append(np.zeros((side, side, 3), np.uint8))
                continue
            place = int(rng.choice(own)) if changed else int(own[0])
            draw = cropper.augmented if changed else cropper.plain
            batch.append(draw(place, rng))
        scaled = CLIP_PREPROCESS.scale(np.stack(batch))
        return np.asarray(run(halve(scaled) if far else scaled)[0], np.float16)

    write_rows(store, see, count=len(plan), features=trunk.features, batch=_BATCH)
    return read_tokens(pictures, folder=folder, crops=crops, seed=seed)


def halve(crops: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Crops (n, channels, height, width), both even, at half their size, by the mean."""
    count, channels, height, width = crops.shape
    blocks = crops.reshape(count, channels, height // 2, 2, width // 2, 2)
    return np.asarray(blocks.mean(axis=(3, 5)), np.float32)


def write_rows(
    store: Path,
    see: Callable[[range], npt.NDArray[np.float16]],
    *,
    count: int,
    features: int,
    batch: int,
) -> None:
    """Append what ``see`` makes of the numbers below ``count``, a ``batch`` of rows (batch,
    features) at a time, to a file; goes on where an earlier run stopped.
    """
    row = 2 * features
    done = store.stat().st_size // row if store.exists() else 0
    if done >= count:
        return
    with store.open("r+b" if done else "wb") as stream:
        stream.truncate(done * row)
        stream.seek(done * row)
        with tqdm(total=count, initial=done, desc="tokens", mininterval=30) as progress:
            for start in range(done, count, batch):
                numbers = range(start, min(start + batch, count))
                stream.write(see(numbers).tobytes())
                stream.flush()
                progress.update(len(numbers))


def read_tokens(pictures: Sequence[Known], *, folder: Path, crops: int, seed: int) -> Tokens:
    """What is there of the tokens of a run with the same arguments."""
    features = int(json.loads((folder / "tokens.json").read_text())["features"])
    store = folder / "tokens.bin"
    done = store.stat().st_size // (2 * features)
    plan = plan_crops(pictures, crops=crops, seed=seed)[:done]
    return Tokens(
        values=np.fromfile(store, np.float16, count=len(plan) * features).reshape(-1, features),
        files=np.array([file for file, _ in plan], np.int64),
        changed=np.array([changed for _, changed in plan], np.bool_),
    )


def plan_crops(pictures: Sequence[Known], *, crops: int, seed: int) -> list[tuple[int, bool]]:
    """The files in the order in which they are cropped, and whether with a random history."""
    rng = np.random.default_rng(seed)
    probabilities = draw_probabilities(pictures)
    first = rng.random(len(pictures)) < 0.5
    plan: list[tuple[int, bool]] = []
    visit = 0
    while len(plan) < crops:
        order = rng.choice(len(pictures), len(pictures), replace=False, p=probabilities)
        # the first two visits show every file as it is and changed, later ones only changed
        plan += [(int(f), bool(first[f]) ^ (visit == 1) if visit < 2 else True) for f in order]
        visit += 1
    return plan[:crops]
