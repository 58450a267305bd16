"""The faces that a fold never saw, in every view: as stills, and in clips that are coded again."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepfake.content.faces import Face
from deepfake.content.inputs import Judge, read_face
from deepfake.preprocess import Pixels

from ..perturb import PICTURE_VIEWS
from ..records import FileLogits
from ..video.views import view_clip
from .bank import FaceDrawer
from .data import Portrait, move_face, read_clip
from .fakes import POISSON, Region

CLIP_VIEWS = ("crf_32", "crf_40_360p")
CROPPED_SIDE = 400
SWAP_SEED = 7


@dataclass(frozen=True)
class View:
    """One face as a network is to see it; ``record`` lacks only the logit."""

    crop: Pixels
    record: FileLogits


def view_portraits(
    portraits: Sequence[Portrait], *, judge: Judge, cropped: Sequence[str] = ()
) -> Iterator[View]:
    """Every portrait as a still in ``PICTURE_VIEWS``; those of the ``cropped`` sources also in the
    view ``cropped``: the middle 400 pixels of the picture, for files of which only one class had
    been cut before. A face that is too small or blurred in a view is not judged in it.
    """
    for portrait in portraits:
        yield from _view_still(portrait, portrait.pixels, judge=judge)
        if portrait.source in cropped:
            pixels, face = _cut_middle(portrait)
            yield from _judge(portrait, pixels, face, view="cropped", judge=judge)


def view_clips(portraits: Sequence[Portrait], *, judge: Judge) -> Iterator[View]:
    """The faces of clips after the whole clip was coded again, in ``CLIP_VIEWS``."""
    clips: dict[str, list[Portrait]] = {}
    for portrait in portraits:
        if "frames_decoded" in portrait.item.facts:
            clips.setdefault(str(portrait.item.path), []).append(portrait)
    for inside in clips.values():
        content = inside[0].item.path.read_bytes()
        for view in CLIP_VIEWS:
            numbers = sorted({portrait.frame for portrait in inside})
            coded = io.BytesIO(view_clip(content, view=view))
            for number, pixels in read_clip(coded, frames=numbers):
                for portrait in (p for p in inside if p.frame == number):
                    face = _follow(portrait, pixels)
                    yield from _judge(portrait, pixels, face, view=view, judge=judge)


def view_swaps(
    portraits: Sequence[Portrait], drawer: FaceDrawer, *, judge: Judge
) -> Iterator[View]:
    """Poisson swaps of genuine portraits in ``PICTURE_VIEWS``, made in the whole picture: of the
    face (source ``poisson_swap``) and of parts of it (``poisson_parts``); of every third frame of
    a clip.
    """
    frames: dict[Path, int] = {}
    for portrait in (p for p in portraits if p.label == 0):
        number = frames[portrait.item.path] = frames.get(portrait.item.path, -1) + 1
        if number % 3:
            continue
        rng = np.random.default_rng([SWAP_SEED, zlib.crc32(portrait.name.encode())])
        donor = drawer.donor(portrait, rng)
        if donor is portrait:
            continue
        region, other = (Region(p.pixels, p.face) for p in (portrait, donor))
        for name, parts in ((POISSON, 0.0), ("poisson_parts", 1.0)):
            couple = drawer.forger.poisson_swap(region, other, region, rng, parts=parts)
            yield from _view_still(portrait, couple.forged, judge=judge, method=name)


def _view_still(
    portrait: Portrait, pixels: Pixels, *, judge: Judge, method: str = ""
) -> Iterator[View]:
    for view, perturb in PICTURE_VIEWS.items():
        seen = perturb(pixels)
        face = _follow(portrait, seen)
        yield from _judge(portrait, seen, face, view=view, judge=judge, method=method)


def _judge(
    portrait: Portrait,
    pixels: Pixels,
    face: Face,
    *,
    view: str,
    judge: Judge,
    method: str = "",
) -> Iterator[View]:
    _, crop, reason = read_face(pixels, face, judge)
    if reason is None:
        record = FileLogits(
            path=f"{portrait.name}+{method}" if method else portrait.name,
            label=1 if method else portrait.label,
            source=method or portrait.source,
            group=portrait.group,
            fold=portrait.fold,
            view=view,
            logits=(),
            pixels=round(face.width, 1),
        )
        yield View(crop, record)


def _follow(portrait: Portrait, pixels: Pixels) -> Face:
    height, width = portrait.pixels.shape[:2]
    return move_face(portrait.face, scale=(pixels.shape[1] / width, pixels.shape[0] / height))


def _cut_middle(portrait: Portrait) -> tuple[Pixels, Face]:
    height, width = portrait.pixels.shape[:2]
    top, left = (max(0, (side - CROPPED_SIDE) // 2) for side in (height, width))
    pixels = portrait.pixels[top : top + CROPPED_SIDE, left : left + CROPPED_SIDE]
    return pixels, move_face(portrait.face, scale=(1, 1), shift=(-left, -top))
