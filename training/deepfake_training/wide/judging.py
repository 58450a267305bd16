"""Whole files in every view, read as the product reads them: what each network says of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from PIL import Image
from tqdm import tqdm

from deepfake.content.inputs import Judge, read_picture
from deepfake.preprocess import ImagePreprocess
from deepfake.reasons import Code

from ..export import compile_graph
from ..files import read_lines, write_arrays, write_lines
from ..known import Known
from ..perturb import PICTURE_VIEWS, PictureStep, blur, jpeg, limit_side, rescale, screenshot
from .cutouts import read_upright
from .tokens import PRECISION, halve

Net = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""From a batch (windows, 3, side, side) to logits (windows,) or features (windows, features)."""
_BLOCK = 16
"""Files after which what is known so far is kept."""


def _messenger(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Sent on twice: long side at most 1280, then 1024, JPEG 75 and 70."""
    once = jpeg(limit_side(pixels, side=1280), quality=75)
    return jpeg(limit_side(once, side=1024), quality=70)


def _doubled(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The middle 1024 pixels at most, doubled: what a crop of a larger copy would show."""
    height, width = pixels.shape[:2]
    top, left = max(0, height - 1024) // 2, max(0, width - 1024) // 2
    part = np.ascontiguousarray(pixels[top : top + 1024, left : left + 1024])
    return rescale(part, factor=2.0, kernel="cubic")


def _small(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A preview: the short side 160 pixels at most."""
    factor = min(1.0, 160 / min(pixels.shape[:2]))
    return rescale(pixels, factor=factor, kernel="area")


def _bordered(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """In the middle of a white page, a tenth of the long side away from its edge."""
    margin = max(pixels.shape[:2]) // 10
    return np.pad(pixels, [(margin, margin), (margin, margin), (0, 0)], constant_values=255)


AS_IT_IS = ("clean",)
VIEWS: Mapping[str, PictureStep] = {
    **PICTURE_VIEWS,
    "messenger": _messenger,
    "screenshot": screenshot,
    "halved": partial(rescale, factor=0.5, kernel="area"),
    "doubled": _doubled,
    "blurred": partial(blur, sigma=1.0),
    "small": _small,
    "bordered": _bordered,
}


@dataclass(frozen=True)
class Judged:
    """One file in one view: window logits of every quick network by its name, and the tokens
    (windows, 2 * features) float16 of the full tier's crops, near ones and far ones side by side.
    """

    file: int
    view: str
    quick: dict[str, list[float]]
    tokens: npt.NDArray[np.float16]


@dataclass(frozen=True)
class Networks:
    """``judge`` reads a file for the ``quick`` graphs; the ``trunk`` sees the crops of ``full``."""

    judge: Judge
    quick: Mapping[str, Path]
    trunk: Path
    full: ImagePreprocess


def judge_files(
    pictures: Sequence[Known],
    chosen: Sequence[int],
    *,
    thorough: Collection[int],
    nets: Networks,
    folder: Path,
    workers: int,
) -> list[Judged]:
    """What all networks see in the ``chosen`` files as they are, in those that are ``thorough`` in
    every one of ``VIEWS`` too; goes on where an earlier run stopped. Files that cannot be read or
    judged are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    blocks = [chosen[start : start + _BLOCK] for start in range(0, len(chosen), _BLOCK)]
    tasks = (
        delayed(_judge_block)(
            [(file, pictures[file], VIEWS if file in thorough else AS_IT_IS) for file in block],
            nets,
            folder,
            number,
        )
        for number, block in enumerate(blocks)
        if not (folder / f"{number:04d}.jsonl").exists()
    )
    running = Parallel(n_jobs=workers, return_as="generator_unordered")(tasks)
    done = sum(1 for _ in folder.glob("*.jsonl"))
    for _ in tqdm(running, initial=done, total=len(blocks), desc="judging", mininterval=5):
        pass
    found: list[Judged] = []
    for number in range(len(blocks)):
        with np.load(folder / f"{number:04d}.npz") as stored:
            found += [
                Judged(file, view, values, stored[str(place)])
                for place, (file, view, values) in enumerate(
                    read_lines(folder / f"{number:04d}.jsonl")
                )
            ]
    return found


def _judge_block(
    files: Sequence[tuple[int, Known, Iterable[str]]], nets: Networks, folder: Path, number: int
) -> None:
    made = [one for file, picture, views in files for one in _judge(file, picture, views, nets)]
    write_arrays(
        folder / f"{number:04d}.npz", **{str(place): one.tokens for place, one in enumerate(made)}
    )
    write_lines(folder / f"{number:04d}.jsonl", ([one.file, one.view, one.quick] for one in made))


def _judge(file: int, picture: Known, views: Iterable[str], nets: Networks) -> list[Judged]:
    try:
        pixels, _ = read_upright(picture.item.path.read_bytes())
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return []
    made = []
    for view in views:
        seen = read_picture(VIEWS[view](pixels), nets.judge)
        if isinstance(seen, Code):
            continue
        preprocess = nets.judge.preprocess
        assert isinstance(preprocess, ImagePreprocess)
        scaled = preprocess.scale(seen.crops.batch)
        logits = {name: _open(path)(scaled).tolist() for name, path in nets.quick.items()}
        large = nets.full.scale(nets.full(seen.photo).batch)
        side = nets.full.side_pixels // 2
        see = _open(nets.trunk, PRECISION)
        both = [see(one) for one in (large[..., :side, :side], halve(large))]
        made.append(Judged(file, view, logits, np.concatenate(both, axis=1).astype(np.float16)))
    return made


@lru_cache
def _open(path: Path, precision: str = "f32") -> Net:
    run = compile_graph(path, threads=1, precision=precision)
    return lambda batch: np.asarray(run(batch)[0])
