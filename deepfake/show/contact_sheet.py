"""One picture of a video's report: its most telling frames, and every timeline below them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from ..content.timelines import clock
from ..types import OperatingPoints, Report, Timeline
from .drawing import DIM, INK, PAPER, SUSPICIOUS, Colour, colour_of, text_size, write, write_bold
from .exhibits import Exhibit, find_exhibits

if TYPE_CHECKING:
    from ..media.opening import Media
    from ..preprocess import Pixels

WIDTH_PIXELS = 1440
MARGIN_PIXELS = 28
GAP_PIXELS = 16
LETTER_PIXELS = 17
SCORES_PIXELS = 15
HEAD_PIXELS = 44
CAPTION_PIXELS = 52
ROW_PIXELS = 66
ROW_GAP_PIXELS = 10
AXIS_PIXELS = 34
NAMES_PIXELS = 204
PEAKS_PIXELS = 128
MOST_ROWS = 24

_GROUND: Colour = (244, 246, 248)
_RULE: Colour = (205, 211, 219)


class Grid(NamedTuple):
    """How many tiles stand side by side, and how many there are at most."""

    columns: int
    most: int


class Row(NamedTuple):
    timeline: Timeline
    points: OperatingPoints | None


def contact_sheet(media: Media, report: Report) -> Pixels | None:
    """The sheet as RGB pixels, 1440 wide; None for a report without timelines and heat maps.

    Decodes the video again. Raises ``MediaError`` when it can no longer be decoded.
    """
    grid = choose_grid(report.media.width, report.media.height)
    exhibits = find_exhibits(media, report, most=grid.most)
    rows = find_rows(report)
    if not exhibits and not rows:
        return None
    parts = [_head(report)]
    if exhibits:
        parts.append(_tiles(exhibits, grid))
    if rows:
        parts.append(_plot(rows, length=_length(report, rows), exhibits=exhibits))
    parts.append(_blank(MARGIN_PIXELS // 2))
    return np.concatenate(parts)


def choose_grid(width: int | None, height: int | None) -> Grid:
    """Wide frames stand three side by side, square ones four, upright ones six."""
    shape = (width or 16) / (height or 9)
    if shape >= 1.2:
        return Grid(3, 9)
    return Grid(4, 8) if shape >= 0.8 else Grid(6, 6)


def find_rows(report: Report) -> list[Row]:
    """Every timeline of the report with the limits of its evidence, 24 at most."""
    rows = [
        Row(timeline, evidence.points)
        for evidence in report.evidence
        for timeline in evidence.timelines
        if timeline.seconds
    ]
    return rows[:MOST_ROWS]


def describe_tile(exhibit: Exhibit, *, most_pixels: int | None = None) -> str:
    """The scores at a frame's time in one line, the highest first, as many as fit."""
    ordered = sorted(exhibit.scores, key=lambda item: -item[1])
    shown = [f"{name} {score:.2f}" for name, score in ordered]
    while most_pixels is not None and len(shown) > 1:
        if text_size("   ".join(shown), pixels_high=SCORES_PIXELS).width <= most_pixels:
            break
        shown.pop()
    return "   ".join(shown)


def exact_clock(second: float) -> str:
    """``0:12.4`` for 12.4 seconds."""
    tenths = int(10 * second + 0.5)
    return f"{clock(tenths // 10)}.{tenths % 10}"


def _length(report: Report, rows: list[Row]) -> float:
    ends = [row.timeline.seconds[-1] + row.timeline.window_seconds for row in rows]
    return max([report.media.seconds or 0.0, *ends, 0.1])


def _blank(height: int) -> Pixels:
    return np.full((height, WIDTH_PIXELS, 3), PAPER, np.uint8)


def _head(report: Report) -> Pixels:
    pixels, middle = _blank(HEAD_PIXELS + MARGIN_PIXELS // 2), HEAD_PIXELS // 2 + MARGIN_PIXELS // 2
    words = report.verdict.label.capitalize()
    right = write_bold(pixels, words, left=MARGIN_PIXELS, middle=middle, pixels_high=24)
    if report.probability is not None:
        low, high = report.interval or (report.probability, report.probability)
        text = f"P(synthetic) {report.probability:.2f}  ({low:.2f} to {high:.2f})"
        write(pixels, text, left=right + 28, middle=middle, pixels_high=20, colour=DIM)
    return pixels


def _tiles(exhibits: list[Exhibit], grid: Grid) -> Pixels:
    inner = WIDTH_PIXELS - 2 * MARGIN_PIXELS
    wide = (inner - (grid.columns - 1) * GAP_PIXELS) // grid.columns
    tiles = [_tile(exhibit, number, wide=wide) for number, exhibit in enumerate(exhibits, start=1)]
    lines = []
    for start in range(0, len(tiles), grid.columns):
        line = tiles[start : start + grid.columns]
        strip = _blank(max(len(tile) for tile in line) + GAP_PIXELS // 2)
        for column, tile in enumerate(line):
            left = MARGIN_PIXELS + column * (wide + GAP_PIXELS)
            strip[: len(tile), left : left + wide] = tile
        lines.append(strip)
    return np.concatenate(lines)


def _tile(exhibit: Exhibit, number: int, *, wide: int) -> Pixels:
    shown = exhibit.shrunk(2 * max(wide, round(wide * _shape(exhibit)))).draw()
    high = max(1, min(2 * wide, round(wide * _shape(exhibit))))
    picture = cv2.resize(shown, (wide, high), interpolation=cv2.INTER_AREA)
    caption = np.full((CAPTION_PIXELS, wide, 3), PAPER, np.uint8)
    right = write_bold(caption, str(number), left=0, middle=15, pixels_high=LETTER_PIXELS)
    write(
        caption,
        exact_clock(exhibit.second or 0.0),
        left=right + 12,
        middle=15,
        pixels_high=LETTER_PIXELS,
    )
    write(
        caption,
        describe_tile(exhibit, most_pixels=wide),
        left=0,
        middle=37,
        pixels_high=SCORES_PIXELS,
        colour=DIM,
        most_pixels=wide,
    )
    return np.concatenate([picture, caption])


def _shape(exhibit: Exhibit) -> float:
    height, width = exhibit.pixels.shape[:2]
    return float(height / width)


def _plot(rows: list[Row], *, length: float, exhibits: list[Exhibit]) -> Pixels:
    """One row for each timeline over one axis of time, with the tiles' numbers above them."""
    step = ROW_PIXELS + ROW_GAP_PIXELS
    pixels = _blank(AXIS_PIXELS + len(rows) * step + AXIS_PIXELS)
    left, right = MARGIN_PIXELS + NAMES_PIXELS, WIDTH_PIXELS - MARGIN_PIXELS - PEAKS_PIXELS

    def across(second: float) -> int:
        return left + round((right - left) * min(max(second / length, 0.0), 1.0))

    bottom = AXIS_PIXELS + len(rows) * step - ROW_GAP_PIXELS
    for index, row in enumerate(rows):
        top = AXIS_PIXELS + index * step
        columns = _highest_columns(row.timeline, length=length, width=right - left)
        _bars(pixels[top : top + ROW_PIXELS, left:right], columns, row.points)
        _name_row(pixels, row, middle=top + ROW_PIXELS // 2, peaks=right + 12)
    _mark_tiles(pixels, [across(exhibit.second or 0.0) for exhibit in exhibits], bottom=bottom)
    for part in range(5):
        second = length * part / 4
        text = clock(second) if length >= 20 else f"{second:.1f} s"
        half = text_size(text, pixels_high=15).width // 2
        cv2.line(pixels, (across(second), bottom), (across(second), bottom + 6), INK, 1)
        write(pixels, text, left=across(second) - half, middle=bottom + 20, pixels_high=15)
    return pixels


def _highest_columns(timeline: Timeline, *, length: float, width: int) -> list[float | None]:
    """The highest score at each column; a window fills what it lasts, a frame three columns."""
    columns: list[float | None] = [None] * width
    for second, score in zip(timeline.seconds, timeline.scores, strict=True):
        first = min(width - 3, int(width * second / length))
        last = max(first + 3, int(width * (second + timeline.window_seconds) / length))
        for column in range(max(0, first), min(width, last)):
            columns[column] = max(score, columns[column] or 0.0)
    return columns


def _bars(area: Pixels, columns: list[float | None], points: OperatingPoints | None) -> None:
    height, width = area.shape[:2]
    area[:] = _GROUND
    for level in (0.0, 0.5):
        line = round((height - 1) * level)
        area[line] = _RULE
    for column, score in enumerate(columns):
        if score is not None:
            bar = max(2, round(height * min(max(score, 0.0), 1.0)))
            area[height - bar :, column] = colour_of(score, points)
    area[-1] = INK
    if points is not None:
        limit = min(height - 1, round(height * (1 - points.suspicious)))
        for start in range(0, width, 12):
            area[limit : limit + 2, start : start + 7] = SUSPICIOUS


def _name_row(pixels: Pixels, row: Row, *, middle: int, peaks: int) -> None:
    timeline, points = row
    above = middle - 10 if points is not None else middle
    most = NAMES_PIXELS - 14
    write_bold(
        pixels, timeline.name, left=MARGIN_PIXELS, middle=above, pixels_high=16, most_pixels=most
    )
    if points is not None:
        limit = f"suspicious from {points.suspicious:.2f}"
        write(
            pixels,
            limit,
            left=MARGIN_PIXELS,
            middle=middle + 12,
            pixels_high=14,
            colour=DIM,
            most_pixels=most,
        )
    top = max(range(len(timeline.scores)), key=timeline.scores.__getitem__)
    colour = colour_of(timeline.scores[top], points)
    write(pixels, f"{timeline.scores[top]:.2f}", left=peaks, middle=middle - 10, colour=colour)
    at = f"at {exact_clock(timeline.seconds[top])}"
    write(pixels, at, left=peaks, middle=middle + 12, pixels_high=14, colour=DIM)


def _mark_tiles(pixels: Pixels, places: list[int], *, bottom: int) -> None:
    """Where the tiles lie: their numbers over thin lines; a number too near another is left out."""
    free = 0
    for number, place in enumerate(places, start=1):
        pixels[AXIS_PIXELS - 6 : bottom : 2, place] = DIM
        wide = text_size(str(number), pixels_high=14).width
        if place - wide // 2 > free:
            write(pixels, str(number), left=place - wide // 2, middle=14, pixels_high=14)
            free = place + wide // 2 + 4
