"""The photo within a picture: what is left when borders, bars and captions are cut off its sides.

A border ends in a straight line along the whole side of the photo, calm on its outer side, and what
lies outside is not photographic. Two kinds of it are cut, from the outside in, until none is left:

* *plain*: mostly of one colour, as frames, letterboxes, bars of phones and browsers, margins of
  pages and captions are, whatever is written on it;
* *smooth*: without any texture, as gradients and blurred copies of the photo are. A sky may be that
  too, so it is cut only on two opposite sides alike, as programs that fill a format do it.

Last, rounded corners are cut away. ``python -m benchmarks.borders`` measures what this is worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..preprocess import Box, Pixels

MOST_PIXELS = 300_000
"""Of larger pictures every second, third … pixel of every second, third … row is looked at."""
LEAST_SIDE = 32
LEAST_SHARE = 0.08
"""Of the picture, that a photo in it fills."""
STEP, SMALL_STEP = 10, 5
"""Levels by which a photo differs from a plain and from a smooth border where a line is seen."""
CALM = 3
LINE_SHARE, SMOOTH_LINE_SHARE = 0.35, 0.25
"""Of a side, along which a line is seen: parts of a photo may have the colours of its border."""
COLOUR_SPAN = 4
COLOUR_SHARES = 0.6, 0.75, 0.85
"""Of a plain strip, in about its most frequent colour, its two and its three."""
BEND, SMOOTH_SHARE = 3, 0.985
LEAST_SMOOTH = 8
MOST_CUTS, MOST_LINES, MOST_LOOKED_AT = 6, 16, 20_000
"""Rounds, lines of a side in each, and pixels of a strip: a page may consist of lines."""
ROUNDED_SHARE = 0.08
"""Of the shorter side, that corners are rounded by at most."""

Plane = npt.NDArray[Any]
Shares = npt.NDArray[np.float64]


class _Cut(NamedTuple):
    """What is left of one axis: ``start`` … ``end``."""

    start: int
    end: int


class _Rows:
    """The rows of ``pixels`` (height, width, 3); columns are those of the transposed picture."""

    def __init__(self, pixels: Pixels) -> None:
        import cv2

        self.pixels = pixels
        steps = np.zeros(pixels.shape[:2], np.uint8)
        red, green, blue = cv2.split(cv2.absdiff(pixels[1:], pixels[:-1]))
        cv2.max(cv2.max(red, green), blue, dst=steps[1:])
        self._steps = steps
        bends = cv2.Sobel(cv2.extractChannel(pixels, 1), cv2.CV_16S, 0, 2, ksize=1)
        self._straight = cv2.inRange(bends, -BEND, BEND)

    def cut(self, rows: _Cut, columns: _Cut) -> _Cut:
        """``rows`` without what is border at their two ends, seen between ``columns``."""
        steps = self._steps[rows.start : rows.end, columns.start : columns.end]
        strips = self.pixels[:, columns.start : columns.end]
        start, end = rows
        for at in _peaks(_lines(steps, STEP), LINE_SHARE):
            if _is_plain(strips[start : rows.start + at]):
                start = rows.start + at
        for after in _peaks(_lines(_turned(steps), STEP), LINE_SHARE):
            if rows.end - after > start and _is_plain(strips[rows.end - after : end]):
                end = rows.end - after
        return _Cut(start, end) if (start, end) != rows else self._cut_alike(rows, columns, steps)

    def _cut_alike(self, rows: _Cut, columns: _Cut, steps: Plane) -> _Cut:
        """Without two smooth strips of about the same width."""
        straight = self._straight[rows.start : rows.end, columns.start : columns.end]
        starts, ends = (_lines(seen, SMALL_STEP) for seen in (steps, _turned(steps)))
        pairs = [
            (starts[start] + ends[after], start, after)
            for start in _peaks(starts, SMOOTH_LINE_SHARE)
            for after in _peaks(ends, SMOOTH_LINE_SHARE)
            if abs(start - after) <= max(3, start // 10) and start + after < len(steps)
        ]
        for _, start, after in sorted(pairs, reverse=True)[:MOST_CUTS]:
            if _is_smooth(straight[:start]) and _is_smooth(straight[: -after - 1 : -1]):
                return _Cut(rows.start + start, rows.end - after)
        return rows


def trim(pixels: Pixels) -> Box | None:
    """Where the photo in RGB ``pixels`` (height, width, 3) is; None where there is no border."""
    height, width = pixels.shape[:2]
    step = max(1, math.ceil(math.sqrt(height * width / MOST_PIXELS)))
    seen = pixels[::step, ::step]
    if min(seen.shape[:2]) < LEAST_SIDE or not _may_have_border(seen):
        return None
    seen = np.ascontiguousarray(seen)
    down, across = _Rows(seen), _Rows(np.ascontiguousarray(seen.transpose(1, 0, 2)))
    whole = _Cut(0, seen.shape[0]), _Cut(0, seen.shape[1])
    rows, columns = whole
    for _ in range(MOST_CUTS):
        before = rows, columns
        rows = down.cut(rows, columns)
        columns = across.cut(columns, rows)
        if (rows, columns) == before:
            break
    if (rows, columns) == whole:
        return None
    rows, columns = _within_corners(seen, rows, columns)
    if (rows.end - rows.start) * (columns.end - columns.start) < LEAST_SHARE * seen[..., 0].size:
        return None
    top, bottom = _scaled(rows, step, height)
    left, right = _scaled(columns, step, width)
    return Box(left, top, right - left, bottom - top)


def _may_have_border(pixels: Pixels) -> bool:
    """Whether the outermost lines on any side are not photographic; most photos end here."""
    import cv2

    turned = pixels.transpose(1, 0, 2)
    for strip in (pixels[:4], pixels[-4:], turned[:4], turned[-4:]):
        if _is_plain(strip):
            return True
        bends = cv2.Sobel(np.ascontiguousarray(strip[..., 1]), cv2.CV_16S, 2, 0, ksize=1)
        if (np.abs(bends) <= BEND).mean() >= SMOOTH_SHARE:
            return True
    return False


def _scaled(cut: _Cut, step: int, length: int) -> tuple[int, int]:
    """A cut of every ``step``-th line in lines of the picture, one less where it was cut."""
    start = cut.start * step + (1 if cut.start else 0)
    end = (cut.end - 1) * step if cut.end * step < length else length
    return start, max(start + 1, end)


def _lines(steps: Plane, least: int) -> Shares:
    """Share of each row in which a step (height, width) of ``least`` levels or more from the row
    above is seen, calm in the two rows before.
    """
    import cv2

    shares = np.zeros(len(steps))
    if len(steps) > 3:
        step = np.ascontiguousarray(steps[3:])
        calm = np.maximum(step >> 2, np.uint8(CALM))
        before = cv2.max(np.ascontiguousarray(steps[2:-1]), np.ascontiguousarray(steps[1:-2]))
        seen = cv2.bitwise_and(cv2.compare(before, calm, cv2.CMP_LE), cv2.inRange(step, least, 255))
        shares[3:] = _mean(seen) / 255
    return shares


def _turned(steps: Plane) -> Plane:
    """The steps of the same rows read from the last to the first."""
    turned = np.zeros_like(steps)
    turned[1:] = steps[:0:-1]
    return turned


def _mean(plane: Plane) -> Shares:
    import cv2

    sums = cv2.reduce(np.ascontiguousarray(plane), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    return np.asarray(sums[:, 0] / plane.shape[1], np.float64)


def _peaks(shares: Shares, least: float) -> list[int]:
    """Where the line is that fills most of its row, of lines at most two rows apart."""
    found: list[int] = []
    for at in np.flatnonzero(shares >= least):
        if found and at - found[-1] <= 2:
            if shares[at] > shares[found[-1]]:
                found[-1] = int(at)
        else:
            found.append(int(at))
            if len(found) > MOST_LINES:
                break
    return found[:MOST_LINES]


def _is_smooth(straight: Plane) -> bool:
    """Whether hardly anything bends in a strip, but for the last rows before the photo, in which a
    codec leaves ripples.
    """
    inner = (
        straight[: -min(8, len(straight) // 2)] if len(straight) >= LEAST_SMOOTH else straight[:0]
    )
    return inner.size > 0 and float(_mean(inner).mean()) >= 255 * SMOOTH_SHARE


def _is_plain(strip: Pixels) -> bool:
    """Whether one, two or three colours fill most of a strip."""
    step = max(1, math.isqrt(strip.size // 3 // MOST_LOOKED_AT))
    strip = strip[::step, ::step]
    rest = strip.reshape(-1, 3)
    share = 0.0
    for least in COLOUR_SHARES:
        if not len(rest):
            return share > 0
        near = np.ones(len(rest), bool)
        for plane in rest.T:
            mode = int(np.bincount(plane, minlength=256).argmax())
            low, high = max(0, mode - COLOUR_SPAN), min(255, mode + COLOUR_SPAN)
            near &= (plane >= low) & (plane <= high)
        share += float(near.sum()) * 3 / strip.size
        if share >= least:
            return True
        rest = rest[~near]
    return False


def _within_corners(pixels: Pixels, rows: _Cut, columns: _Cut) -> tuple[_Cut, _Cut]:
    """The rectangle, smaller by what rounded corners show of the border."""
    most = int(ROUNDED_SHARE * min(rows.end - rows.start, columns.end - columns.start))
    for inset in range(most):
        inner = _inset(rows, inset), _inset(columns, inset)
        if sum(_corners_match(pixels, rows, columns, inner)) < 3:
            return inner if inset else (rows, columns)
    return rows, columns


def _inset(cut: _Cut, inset: int) -> _Cut:
    return _Cut(cut.start + inset, cut.end - inset)


def _corners_match(
    pixels: Pixels, rows: _Cut, columns: _Cut, inner: tuple[_Cut, _Cut]
) -> Iterator[bool]:
    """For each corner, whether it still has the colour that lies just outside of the rectangle;
    never where one of its two sides was not cut.
    """
    for row, at in ((inner[0].start, rows.start - 3), (inner[0].end - 1, rows.end + 2)):
        for column, beside in (
            (inner[1].start, columns.start - 3),
            (inner[1].end - 1, columns.end + 2),
        ):
            if not (0 <= at < pixels.shape[0] and 0 <= beside < pixels.shape[1]):
                yield False
                continue
            gap = np.abs(pixels[row, column].astype(int) - pixels[at, beside])
            yield bool(gap.max() <= 2 * COLOUR_SPAN)
