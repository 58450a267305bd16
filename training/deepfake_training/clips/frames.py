"""Frames of clips, read as the product reads them and kept on disk for what follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from tqdm import tqdm

from deepfake.content.inputs import STEP_SECONDS, bound_frame
from deepfake.errors import DeepfakeError
from deepfake.media.opening import open_media
from deepfake.preprocess import Pixels

from ..files import write_arrays
from .material import Clip, Part

BURSTS = 3
FRAMES = 4


@dataclass(frozen=True)
class Shots:
    """``bursts`` (bursts, frames, height, width, 3) uint8, spread over a clip: frames an eighth of
    a second apart, as large as they are judged.
    """

    bursts: npt.NDArray[np.uint8]


def keep_shots(clips: Sequence[Clip], *, folder: Path, workers: int) -> None:
    """Write what :func:`load_shots` reads; goes on where an earlier run stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    left = [n for n in range(len(clips)) if not _place(folder, n).exists()]
    running = Parallel(n_jobs=workers, return_as="generator_unordered")(
        delayed(_keep)(clips[number], _place(folder, number)) for number in left
    )
    done = len(clips) - len(left)
    for _ in tqdm(running, initial=done, total=len(clips), desc="frames", mininterval=10):
        pass


def load_shots(folder: Path, number: int) -> Shots | None:
    """What was kept of a clip; None where it could not be read."""
    with np.load(_place(folder, number)) as stored:
        bursts = stored["bursts"]
    return Shots(bursts) if len(bursts) else None


def _place(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.npz"


def _keep(clip: Clip, path: Path) -> None:
    try:
        bursts = cut(clip).bursts
    except DeepfakeError:
        bursts = np.zeros((0, 0, 0, 0, 3), np.uint8)
    write_arrays(path, bursts=bursts)


def cut(clip: Clip) -> Shots:
    """The frames of one clip; raises as :meth:`deepfake.media.opening.Media.bursts`."""
    bursts: list[list[Pixels]] = []
    with open_media(clip.item.path) as media:
        frames = media.bursts(most=BURSTS, frames=FRAMES, step_seconds=STEP_SECONDS)
        for _, group in groupby(frames, key=lambda frame: frame.burst):
            pictures = [bound_frame(crop_part(frame.pixels, clip.part)) for frame in group]
            bursts.append(pictures + pictures[-1:] * (FRAMES - len(pictures)))
    return Shots(np.array(bursts, np.uint8))


def crop_part(pixels: Pixels, part: Part) -> Pixels:
    """A part of RGB ``pixels`` (height, width, 3), with even sides."""
    height, width = pixels.shape[:2]
    left, right = round(part.left * width) // 2 * 2, round(part.right * width) // 2 * 2
    top, bottom = round(part.top * height) // 2 * 2, round(part.bottom * height) // 2 * 2
    return np.ascontiguousarray(pixels[top : max(bottom, top + 2), left : max(right, left + 2)])
