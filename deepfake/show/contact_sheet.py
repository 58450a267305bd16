"""One picture of a video's report: its most telling frames, and every timeline below them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..content.timelines import clock
from ..types import OperatingPoints, Report, Timeline
from .drawing import (
    DIM,
    INK,
    SUSPICIOUS,
    Colour,
    blank,
    colour_of,
    pixels_of,
    text_width,
    write,
)
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
    return draw_sheet(report, find_exhibits(media, report, most=grid.most))


def draw_sheet(report: Report, exhibits: list[Exhibit]) -> Pixels | None:
    """The sheet with these exhibits; None where there are none, and no timelines either."""
    rows = find_rows(report)
    if not exhibits and not rows:
        return None
    parts = [_head(report)]
    if exhibits:
        parts.append(_tiles(exhibits, choose_grid(report.media.width, report.media.height)))
    if rows:
        parts.append(_plot(rows, length=_length(report, rows), exhibits=exhibits))
    parts.append(blank(WIDTH_PIXELS, MARGIN_PIXELS // 2))
    return pixels_of(_stack(parts))


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
        if text_width("   ".join(shown), pixels_high=SCORES_PIXELS) <= most_pixels:
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


def _stack(parts: list[Image.Image]) -> Image.Image:
    """Pictures of the same width below each other."""
    whole = blank(parts[0].width, sum(part.height for part in parts))
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


def _head(report: Report) -> Image.Image:
    picture = blank(WIDTH_PIXELS, HEAD_PIXELS + MARGIN_PIXELS // 2)
    middle = HEAD_PIXELS // 2 + MARGIN_PIXELS // 2
    words = report.verdict.label.capitalize()
    right = write(picture, words, left=MARGIN_PIXELS, middle=middle, pixels_high=24, bold=True)
    if report.probability is not None:
        low, high = report.interval or (report.probability, report.probability)
        text = f"P(synthetic) {report.probability:.2f}  ({low:.2f} to {high:.2f})"
        write(picture, text, left=right + 28, middle=middle, pixels_high=20, colour=DIM)
    return picture


def _tiles(exhibits: list[Exhibit], grid: Grid) -> Image.Image:
    inner = WIDTH_PIXELS - 2 * MARGIN_PIXELS
    wide = (inner - (grid.columns - 1) * GAP_PIXELS) // grid.columns
    tiles = [_tile(exhibit, number, wide=wide) for number, exhibit in enumerate(exhibits, start=1)]
    lines = []
    for start in range(0, len(tiles), grid.columns):
        line = tiles[start : start + grid.columns]
        strip = blank(WIDTH_PIXELS, max(tile.height for tile in line) + GAP_PIXELS // 2)
        for column, tile in enumerate(line):
            strip.paste(tile, (MARGIN_PIXELS + column * (wide + GAP_PIXELS), 0))
        lines.append(strip)
    return _stack(lines)


def _tile(exhibit: Exhibit, number: int, *, wide: int) -> Image.Image:
    shown = exhibit.shrunk(2 * max(wide, round(wide * _shape(exhibit)))).draw()
    high = max(1, min(2 * wide, round(wide * _shape(exhibit))))
    picture = cv2.resize(shown, (wide, high), interpolation=cv2.INTER_AREA)
    caption = blank(wide, CAPTION_PIXELS)
    right = write(caption, str(number), left=0, middle=15, pixels_high=LETTER_PIXELS, bold=True)
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
    return _stack([Image.fromarray(picture), caption])


def _shape(exhibit: Exhibit) -> float:
    height, width = exhibit.pixels.shape[:2]
    return float(height / width)


def _plot(rows: list[Row], *, length: float, exhibits: list[Exhibit]) -> Image.Image:
    """One row for each timeline over one axis of time, with the tiles' numbers above them."""
    step = ROW_PIXELS + ROW_GAP_PIXELS
    picture = blank(WIDTH_PIXELS, AXIS_PIXELS + len(rows) * step + AXIS_PIXELS)
    draw = ImageDraw.Draw(picture)
    left, right = MARGIN_PIXELS + NAMES_PIXELS, WIDTH_PIXELS - MARGIN_PIXELS - PEAKS_PIXELS

    def across(second: float) -> int:
        return left + round((right - left) * min(max(second / length, 0.0), 1.0))

    bottom = AXIS_PIXELS + len(rows) * step - ROW_GAP_PIXELS
    for index, row in enumerate(rows):
        top = AXIS_PIXELS + index * step
        columns = _highest_columns(row.timeline, length=length, width=right - left)
        picture.paste(_bars(columns, row.points), (left, top))
        _name_row(picture, row, middle=top + ROW_PIXELS // 2, peaks=right + 12)
    _mark_tiles(picture, [across(exhibit.second or 0.0) for exhibit in exhibits], bottom=bottom)
    for part in range(5):
        second = length * part / 4
        text = clock(second) if length >= 20 else f"{second:.1f} s"
        half = text_width(text, pixels_high=15) // 2
        draw.line((across(second), bottom, across(second), bottom + 6), fill=INK)
        write(picture, text, left=across(second) - half, middle=bottom + 20, pixels_high=15)
    return picture


def _highest_columns(timeline: Timeline, *, length: float, width: int) -> list[float | None]:
    """The highest score at each column; a window fills what it lasts, a frame three columns."""
    columns: list[float | None] = [None] * width
    for second, score in zip(timeline.seconds, timeline.scores, strict=True):
        first = min(width - 3, int(width * second / length))
        last = max(first + 3, int(width * (second + timeline.window_seconds) / length))
        for column in range(max(0, first), min(width, last)):
            columns[column] = max(score, columns[column] or 0.0)
    return columns


def _bars(columns: list[float | None], points: OperatingPoints | None) -> Image.Image:
    area = np.full((ROW_PIXELS, len(columns), 3), _GROUND, np.uint8)
    height, width = area.shape[:2]
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
    return Image.fromarray(area)


def _name_row(picture: Image.Image, row: Row, *, middle: int, peaks: int) -> None:
    timeline, points = row
    above = middle - 10 if points is not None else middle
    most, left = NAMES_PIXELS - 14, MARGIN_PIXELS
    write(picture, timeline.name, left=left, middle=above, bold=True, most_pixels=most)
    if points is not None:
        limit = f"suspicious from {points.suspicious:.2f}"
        write(picture, limit, left=left, middle=middle + 12, pixels_high=14, colour=DIM)
    top = max(range(len(timeline.scores)), key=timeline.scores.__getitem__)
    colour = colour_of(timeline.scores[top], points)
    write(picture, f"{timeline.scores[top]:.2f}", left=peaks, middle=middle - 10, colour=colour)
    at = f"at {exact_clock(timeline.seconds[top])}"
    write(picture, at, left=peaks, middle=middle + 12, pixels_high=14, colour=DIM)


def _mark_tiles(picture: Image.Image, places: list[int], *, bottom: int) -> None:
    """Where the tiles lie: their numbers over thin lines; a number too near another is left out."""
    free = 0
    for number, place in enumerate(places, start=1):
        dots = [(place, row) for row in range(AXIS_PIXELS - 6, bottom, 2)]
        ImageDraw.Draw(picture).point(dots, fill=DIM)
        wide = text_width(str(number), pixels_high=14)
        if place - wide // 2 > free:
            write(picture, str(number), left=place - wide // 2, middle=14, pixels_high=14)
            free = place + wide // 2 + 4
