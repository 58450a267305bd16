"""Where in a picture the score comes from, by window scores alone; so for every backend.

The log-odds of a window are read as the mean of those of the cells under it, weighted towards its
middle, and the cells are found by least squares with a smoothness penalty: overlapping windows then
say more than their average does (Tikhonov regularisation).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..preprocess import Box, ImagePreprocess, Pixels
from ..types import Heatmap

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..engine.engine import Engine

MOST_WINDOWS = 96
"""In each of two passes: over all of the picture, then over what stands out."""
MOST_CELLS = 32
STEPS_PER_SIDE = 2
SMOOTHNESS = 0.3
LEAST_CONTRAST = 1.0
"""Log-odds by which a region must exceed its picture."""
REGION_LEVEL = 1 / 3
"""Where between the picture's median and its maximum a region ends."""

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def heatmap(
    engine: Engine, bundle: Bundle, pixels: Pixels, *, second: float | None = None
) -> Heatmap:
    """Calibrated scores over RGB ``pixels`` (height, width, 3), from overlapping windows.

    Where a second pass can look closer than the first could, it does so around what stands out.
    Resolution is limited by the window: a region much smaller than it shows as a soft spot.
    """
    preprocess = bundle.preprocess
    if not isinstance(preprocess, ImagePreprocess):
        raise TypeError(f"bundle {bundle.name} does not take pictures")
    height, width = pixels.shape[:2]
    boxes = dense_boxes(width, height, side=preprocess.side_pixels)
    odds = _score(engine, bundle, pixels, boxes)
    cells = solve_cells(boxes, odds, width, height)
    closer = closer_boxes(cells, boxes, width, height, side=preprocess.side_pixels)
    if closer:
        odds = np.concatenate([odds, _score(engine, bundle, pixels, closer)])
        cells = solve_cells([*boxes, *closer], odds, width, height)
    scores = 1 / (1 + np.exp(-cells))
    return Heatmap(
        name=bundle.slot,
        values=tuple(tuple(float(score) for score in row) for row in scores),
        second=second,
    )


def dense_boxes(width: int, height: int, *, side: int) -> list[Box]:
    """Windows half a side apart, or more where that would be over 96 windows."""
    step = finest_step(width, height, side=side)
    while True:
        columns, rows = (len(_places(whole, side, step)) for whole in (width, height))
        if columns * rows <= MOST_WINDOWS:
            return _lattice(width, height, side, step)
        step *= 1.1


def finest_step(width: int, height: int, *, side: int) -> float:
    """Pixels between windows beyond which nothing more can be seen: half of the window's side,
    or a cell where cells are larger.
    """
    return max(side / STEPS_PER_SIDE, max(width, height) / MOST_CELLS)


def closer_boxes(
    cells: Floats, boxes: Sequence[Box], width: int, height: int, *, side: int
) -> list[Box]:
    """At most 96 more windows on the finest lattice, over the highest log-odds ``cells`` (rows,
    columns); none where ``boxes`` are as dense already or where nothing stands out.
    """
    lattice = _lattice(width, height, side, finest_step(width, height, side=side))
    if len(lattice) <= len(boxes) or not _stands_out(cells):
        return []
    rows, columns = cells.shape
    heights = [
        cells[
            min(rows - 1, int((box.top + box.height / 2) * rows / height)),
            min(columns - 1, int((box.left + box.width / 2) * columns / width)),
        ]
        for box in lattice
    ]
    above = [index for index in np.argsort(heights)[::-1] if heights[index] > np.median(cells)]
    known = set(boxes)
    return [lattice[index] for index in above[:MOST_WINDOWS] if lattice[index] not in known]


def solve_cells(boxes: Sequence[Box], odds: Floats, width: int, height: int) -> Floats:
    """Log-odds of at most 32 × 32 cells (rows, columns) whose weighted means under the ``boxes``
    come near ``odds`` (boxes,) while neighbours differ little.
    """
    longest = max(width, height)
    rows, columns = (max(1, MOST_CELLS * side // longest) for side in (height, width))
    down = _cover([(box.top, box.height) for box in boxes], rows, height)
    across = _cover([(box.left, box.width) for box in boxes], columns, width)
    weights = (down[:, :, None] * across[:, None, :]).reshape(len(boxes), -1)
    steps = np.kron(_roughness(rows), np.eye(columns)) + np.kron(np.eye(rows), _roughness(columns))
    middle = odds.mean()
    normal = weights.T @ weights + SMOOTHNESS * steps
    # The penalty leaves a level free that the windows fix; the ridge is for rounding alone.
    normal += 1e-9 * np.eye(len(normal))
    cells = np.linalg.solve(normal, weights.T @ (odds - middle)) + middle
    return np.asarray(cells.reshape(rows, columns), np.float64)


def find_region(heatmap: Heatmap, *, width: int, height: int) -> Mask:
    """The part (height, width) of a picture that stands out in its heat map; nothing where the
    log-odds of no cell exceed their median by at least ``LEAST_CONTRAST``.

    It is where they lie a third or more of the way from their median to their maximum.
    """
    import cv2

    scores = np.clip(np.array(heatmap.values, np.float64), 1e-6, 1 - 1e-6)
    cells = np.log(scores / (1 - scores))
    if not _stands_out(cells):
        return np.zeros((height, width), np.bool_)
    level = np.median(cells) + REGION_LEVEL * (cells.max() - np.median(cells))
    fine = cv2.resize(cells.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(fine >= level)


def _stands_out(cells: Floats) -> bool:
    return bool(cells.max() - np.median(cells) >= LEAST_CONTRAST)


def _score(engine: Engine, bundle: Bundle, pixels: Pixels, boxes: Sequence[Box]) -> Floats:
    """Calibrated log-odds of windows of the picture."""
    preprocess = bundle.preprocess
    assert isinstance(preprocess, ImagePreprocess)
    most = engine.settings.max_batch
    odds = [
        engine.score(
            bundle, np.stack([preprocess.crop(pixels, box) for box in boxes[start : start + most]])
        ).log_odds
        for start in range(0, len(boxes), most)
    ]
    return np.concatenate(odds)


def _lattice(width: int, height: int, side: int, step: float) -> list[Box]:
    return [
        Box(left, top, min(side, width), min(side, height))
        for top in _places(height, side, step)
        for left in _places(width, side, step)
    ]


def _places(whole: int, side: int, step: float) -> list[int]:
    """Starts of windows along one side of the picture, about ``step`` apart, from edge to edge."""
    spare = max(0, whole - side)
    return [int(start) for start in np.linspace(0, spare, round(spare / step) + 1).round()]


def _cover(spans: Sequence[tuple[int, int]], count: int, whole: int) -> Floats:
    """How much each of ``count`` cells along a side weighs in windows (start, length): a Hann
    window over each span, whose integral over the cells sums to 1.
    """
    edges = np.linspace(0, whole, count + 1)
    starts, lengths = np.array(spans, np.float64).T[..., None]
    share = np.clip((edges - starts) / lengths, 0, 1)
    return np.diff(share - np.sin(2 * np.pi * share) / (2 * np.pi), axis=1)


def _roughness(count: int) -> Floats:
    """The quadratic form of the squared differences between neighbours in a row."""
    differences = np.diff(np.eye(count), axis=0)
    return differences.T @ differences
