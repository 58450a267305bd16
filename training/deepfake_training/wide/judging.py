"""Whole files in every view, read as the product reads them: what each network says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from deepfake.content.inputs import Judge, read_picture
from deepfake.preprocess import ImagePreprocess
from deepfake.reasons import Code

from ..files import read_lines, write_arrays, write_lines
from ..perturb import PICTURE_VIEWS
from .cutouts import read_upright
from .material import Known

Net = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""From a batch (windows, 3, side, side) to logits (windows,) or features (windows, features)."""
_BLOCK = 64
"""Files after which what is known so far is kept."""


@dataclass(frozen=True)
class Judged:
    """One file in one view: window logits of every quick network by its name, and the tokens
    (windows, features) float16 of the full tier's crops.
    """

    file: int
    view: str
    quick: dict[str, list[float]]
    tokens: npt.NDArray[np.float16]


@dataclass(frozen=True)
class Networks:
    """``judge`` reads a file for the ``quick`` networks; ``trunk`` sees the crops of ``full``."""

    judge: Judge
    quick: Mapping[str, Net]
    trunk: Net
    full: ImagePreprocess


def choose_files(pictures: Sequence[Known], *, most: int, seed: int) -> list[int]:
    """At most ``most`` files of every source, the same for the same seed."""
    rng = np.random.default_rng(seed)
    by_source: dict[tuple[int, str], list[int]] = {}
    for number in rng.permutation(len(pictures)):
        own = by_source.setdefault((pictures[number].label, pictures[number].source), [])
        if len(own) < most:
            own.append(int(number))
    return sorted(number for own in by_source.values() for number in own)


def judge_files(
    pictures: Sequence[Known],
    chosen: Sequence[int],
    *,
    nets: Networks,
    folder: Path,
) -> list[Judged]:
    """What all networks see in the ``chosen`` files in every view; goes on where an earlier run
    stopped. Files that cannot be read or judged are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Judged] = []
    blocks = [chosen[start : start + _BLOCK] for start in range(0, len(chosen), _BLOCK)]
    for number, block in enumerate(tqdm(blocks, desc="files", mininterval=5)):
        lines, arrays = folder / f"{number:04d}.jsonl", folder / f"{number:04d}.npz"
        if not lines.exists():
            made = [one for file in block for one in _judge(file, pictures[file], nets)]
            write_arrays(arrays, **{str(place): one.tokens for place, one in enumerate(made)})
            write_lines(lines, ([one.file, one.view, one.quick] for one in made))
        with np.load(arrays) as stored:
            found += [
                Judged(file, view, values, stored[str(place)])
                for place, (file, view, values) in enumerate(read_lines(lines))
            ]
    return found


def _judge(file: int, picture: Known, nets: Networks) -> list[Judged]:
    try:
        pixels, _ = read_upright(picture.item.path.read_bytes())
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return []
    made = []
    for view, change in PICTURE_VIEWS.items():
        seen = read_picture(change(pixels), nets.judge)
        if isinstance(seen, Code):
            continue
        preprocess = nets.judge.preprocess
        assert isinstance(preprocess, ImagePreprocess)
        scaled = preprocess.scale(seen.crops.batch)
        logits = {name: np.asarray(net(scaled)).tolist() for name, net in nets.quick.items()}
        large = nets.full.scale(nets.full(seen.photo).batch)
        made.append(Judged(file, view, logits, np.asarray(nets.trunk(large)).astype(np.float16)))
    return made
