"""Which part of a face its score rests on, by hiding parts of it; so for every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..preprocess import FacePreprocess, Pixels
from ..types import Heatmap
from .faces import Face

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..engine.engine import Engine

PLACES = 7
PATCH_SHARE = 0.28
CELLS = 16
LEAST_DROP = 1.0
"""A fall of the log-odds that counts in full; smaller ones are not stretched to look certain."""


def face_heatmap(
    engine: Engine,
    bundle: Bundle,
    pixels: Pixels,
    face: Face,
    *,
    name: str,
    second: float | None = None,
) -> Heatmap:
    """Over the box of ``face`` in RGB ``pixels``, its score where hiding the face lowers that most.

    Patches of the aligned face are replaced by their blur (occlusion sensitivity; Zeiler and Fergus
    2014). Cells outside the aligned crop are 0.
    """
    import cv2

    align = bundle.preprocess
    assert isinstance(align, FacePreprocess)
    side = align.side_pixels
    crop, size = align.crop(pixels, face.points), round(PATCH_SHARE * align.side_pixels)
    blurred = np.asarray(cv2.GaussianBlur(crop, (0, 0), side / 12), np.uint8)
    starts = np.linspace(0, side - size, PLACES).round().astype(int)
    hidden = [crop]
    for top in starts:
        for left in starts:
            part = crop.copy()
            patch = np.s_[top : top + size, left : left + size]
            part[patch] = blurred[patch]
            hidden.append(part)
    scored = engine.score(bundle, np.stack(hidden))
    drop = np.clip(scored.drops(), 0, None).reshape(PLACES, PLACES)
    shares = scored.windows[0] * drop / max(float(drop.max()), LEAST_DROP)
    return Heatmap(
        name=name,
        values=_on_box(shares.astype(np.float32), align, face),
        second=second,
        box=face.box,
    )


def _on_box(
    shares: np.ndarray[tuple[int, ...], np.dtype[np.float32]], align: FacePreprocess, face: Face
) -> tuple[tuple[float, ...], ...]:
    """Values of the patches, from the aligned crop to a grid over the upright box of the face."""
    import cv2

    left, top, right, bottom = face.box
    across = left + (np.arange(CELLS) + 0.5) * (right - left) / CELLS
    down = top + (np.arange(CELLS) + 0.5) * (bottom - top) / CELLS
    places = np.stack([*np.meshgrid(across, down), np.ones((CELLS, CELLS))], axis=-1)
    in_crop = places @ align.transform(face.points).T / align.side_pixels
    first = PATCH_SHARE / 2
    grid = ((in_crop - first) / (1 - 2 * first) * (PLACES - 1)).astype(np.float32)
    values = cv2.remap(
        shares, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    return tuple(tuple(float(min(1.0, value)) for value in row) for row in values)
