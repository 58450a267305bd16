"""Is a picture a drawing, a chart, a user interface or a screenshot rather than a photograph?

Renderers leave surfaces without noise, few colours, clean edges and long straight lines; cameras
leave fine texture nearly everywhere. A few such measures, each a share of the picture, are added up
with weights that ``deepfake recipe graphics`` fits on photographs and on drawings.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..preprocess import Box, Pixels

MOST_PIXELS = 300_000
"""Of larger pictures every second, third … pixel of every second, third … row is looked at."""
BLOCK = 8
DARK, BRIGHT = 4, 251
"""Blocks up to or from these levels are clipped: cameras too leave them without texture."""
BORDER_SPAN = 16
"""Rows and columns at the sides that span no more levels are a border, which is not judged."""
LINES, COLOURS = 6, 16
EDGE, TEXT_SPAN = 32, 24
TEXT_SHARE = 28 / 64
PANEL_SHARES = 0.08, 0.97
"""Least and most of a picture that a photo in it fills."""
PANEL_FILL, SIDE_FILL = 0.8, 0.6

Plane = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


class Measures(NamedTuple):
    """What tells graphics from photographs, each 0…1 and taken inside any plain border.

    ``flat``: share of 8×8 blocks that span at most one level and are not clipped.
    ``still``: share of pixels that equal their left neighbour and are not clipped.
    ``colours``: share of pixels in the 16 most frequent colours that are not clipped.
    ``lines``: share of the width or height that the six straightest lines fill, on average; a line
    is a step between two rows or columns with a calm side.
    ``calm``: how much stands still within the blocks that hold an edge.
    ``clean``: share of the edges that are calm on both sides.
    ``middling``: share of blocks that span 3…31 levels, as noise and faint texture do.
    ``texture``: share of blocks that span 12 levels or more and in which little stands still.
    """

    flat: float
    still: float
    colours: float
    lines: float
    calm: float
    clean: float
    middling: float
    texture: float


WEIGHTS = Measures(
    flat=1.65,
    still=3.35,
    colours=2.96,
    lines=7.06,
    calm=1.4,
    clean=1.66,
    middling=-2.9,
    texture=-1.68,
)
INTERCEPT = -4.52


def is_graphic(pixels: Pixels) -> bool:
    """Whether RGB ``pixels`` (height, width, 3) are drawn or rendered, at least in good part."""
    measures = measure(pixels)
    return measures is None or INTERCEPT + float(np.dot(WEIGHTS, measures)) > 0


def measure(pixels: Pixels) -> Measures | None:
    """The measures of RGB ``pixels`` (height, width, 3); None where nothing is to be seen."""
    seen = _trim(_thin(pixels, _step(pixels)))
    if seen is None:
        return None
    green = np.ascontiguousarray(seen[..., 1])
    lowest, highest = _range(green)
    span = highest - lowest
    clipped = (highest <= DARK) | (lowest >= BRIGHT)
    unclipped = (green > DARK) & (green < BRIGHT)
    across, down = _steps(green.T).T, _steps(green)
    edge = span >= EDGE
    calm = _cells(across <= 1).sum(axis=1, dtype=np.uint8).sum(axis=2) / BLOCK**2
    rows, columns = _lines(down), _lines(across.T)
    return Measures(
        flat=float(((span <= 1) & ~clipped).mean()),
        still=float(((across == 0) & unclipped).mean()),
        colours=_common(seen, unclipped) / green.size,
        lines=float(np.sort(np.append(rows.shares, columns.shares))[-LINES:].mean()),
        calm=float(calm[edge].sum() / (edge.sum() + 0.01 * edge.size)),
        clean=(rows.clean + columns.clean) / (rows.edges + columns.edges + 0.002 * green.size),
        middling=float(((span >= 3) & (span < EDGE)).mean()),
        texture=float(((span >= 12) & (calm <= 0.25)).mean()),
    )


def find_photo(pixels: Pixels) -> Box | None:
    """Where in a screenshot, RGB ``pixels`` (height, width, 3), the photo is: well inside the
    largest rectangle whose blocks are neither plain nor text. None where there is no such one.
    """
    import cv2

    step = _step(pixels)
    green = np.ascontiguousarray(_thin(pixels, step)[..., 1])
    if min(green.shape) < 4 * BLOCK:
        return None
    textured = _textured(green).astype(np.uint8)
    opened = cv2.morphologyEx(textured, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    count, labels, facts, _ = cv2.connectedComponentsWithStats(closed, connectivity=4)
    if count < 2:
        return None
    largest = 1 + int(np.argmax(facts[1:, cv2.CC_STAT_AREA]))
    left, top, width, height = (int(fact) for fact in facts[largest, :4])
    inside = labels == largest
    right, bottom = left + width, top + height
    while min(right - left, bottom - top) > 2:
        part = inside[top:bottom, left:right]
        sides = [part[:, 0].mean(), part[0].mean(), part[:, -1].mean(), part[-1].mean()]
        ragged = int(np.argmin(sides))
        if sides[ragged] >= SIDE_FILL:
            break
        left, top = left + (ragged == 0), top + (ragged == 1)
        right, bottom = right - (ragged == 2), bottom - (ragged == 3)
    part = inside[top:bottom, left:right]
    if (
        part.mean() < PANEL_FILL
        or not PANEL_SHARES[0] <= part.size / inside.size <= PANEL_SHARES[1]
    ):
        return None
    unit = BLOCK * step  # a block less on each side, which may show the frame
    return Box(
        (left + 1) * unit, (top + 1) * unit, (right - left - 2) * unit, (bottom - top - 2) * unit
    )


def _textured(green: Plane) -> Mask:
    """Blocks that are not plain and not text, most of whose pixels are near one extreme."""
    lowest, highest = _range(green)
    span = highest - lowest
    cells = _cells(green)
    near = np.maximum(span // 6, 2)
    light = cells >= (highest - np.minimum(near, highest))[:, None, :, None]
    dark = cells <= (lowest + np.minimum(near, 255 - lowest))[:, None, :, None]
    paper = np.maximum(light.mean(axis=(1, 3)), dark.mean(axis=(1, 3)))
    return np.asarray((span >= 3) & ~((span >= TEXT_SPAN) & (paper >= TEXT_SHARE)))


def _step(pixels: Pixels) -> int:
    return max(1, math.ceil(math.sqrt(pixels.shape[0] * pixels.shape[1] / MOST_PIXELS)))


def _thin(pixels: Pixels, step: int) -> Pixels:
    return np.ascontiguousarray(pixels[::step, ::step])


def _trim(pixels: Pixels) -> Pixels | None:
    """The picture without plain rows and columns at its sides; None when too little is left."""
    for axis in (0, 1):
        green = pixels[..., 1]
        busy = np.flatnonzero(green.max(axis=1 - axis) - green.min(axis=1 - axis) > BORDER_SPAN)
        if not len(busy) or busy[-1] - busy[0] < 2 * BLOCK:
            return None
        kept = slice(int(busy[0]), int(busy[-1]) + 1)
        pixels = pixels[kept] if axis == 0 else pixels[:, kept]
    return np.ascontiguousarray(pixels)


def _cells(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The whole 8×8 blocks of ``plane`` (height, width) as (rows, 8, columns, 8)."""
    rows, columns = (side // BLOCK for side in plane.shape)
    whole = plane[: rows * BLOCK, : columns * BLOCK]
    return whole.reshape(rows, BLOCK, columns, BLOCK)


def _range(plane: Plane) -> tuple[Plane, Plane]:
    """The lowest and the highest level of every whole block."""
    cells = _cells(plane)
    return cells.min(axis=1).min(axis=2), cells.max(axis=1).max(axis=2)


def _steps(plane: Plane) -> Plane:
    """|difference| of every row from the row above; 0 in the first one."""
    plane = np.ascontiguousarray(plane)
    steps = np.zeros_like(plane)
    steps[1:] = np.maximum(plane[1:], plane[:-1]) - np.minimum(plane[1:], plane[:-1])
    return steps


class _Lines(NamedTuple):
    """Share of each row that is an edge with a calm side; number of strong edges, and of those
    with two calm sides.
    """

    shares: npt.NDArray[np.float64]
    edges: int
    clean: int


def _lines(steps: Plane) -> _Lines:
    """Of the steps (height, width) between rows. A side is calm where the second and the third step
    from the edge are at most an eighth of it.
    """
    if len(steps) < 7:
        return _Lines(np.zeros(1), 0, 0)
    pairs = np.maximum(steps[1:], steps[:-1])
    before, after, middle = pairs[:-5], pairs[5:], steps[3:-3]
    limit = np.maximum(middle >> 3, 1)
    line = (middle >= 8) & (np.minimum(before, after) <= limit)
    strong = middle >= 16
    clean = strong & (np.maximum(before, after) <= limit)
    return _Lines(line.mean(axis=1), int(strong.sum()), int(clean.sum()))


def _common(pixels: Pixels, chosen: Mask) -> float:
    """How many of the chosen pixels have one of the 16 most frequent colours."""
    import cv2

    words = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGRA).view("<u4")[..., 0] & np.uint32(0xFFFFFF)
    codes = (words * np.uint32(2654435761) >> np.uint32(16)).astype(np.uint16)
    mask = chosen.view(np.uint8)
    counts = cv2.calcHist([codes], [0], mask, [1 << 16], [0, 1 << 16]).ravel()
    return float(np.partition(counts, -COLOURS)[-COLOURS:].sum())  # two colours rarely share a code
