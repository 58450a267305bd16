"""Text, frames and colours on pictures, with Pillow.

A line is set in Pillow's built-in font, the same everywhere. It knows little more than ASCII, so a
line with other characters takes the font of this system, of ``SYSTEM_FONTS``, that has most of
them; what that lacks too is shown as its escape, such as ``\\u4e2d``.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import cache, lru_cache
from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..preprocess import Pixels
from ..text import escape
from ..types import OperatingPoints

Colour = tuple[int, int, int]

INK: Colour = (31, 41, 55)
DIM: Colour = (95, 105, 120)
PAPER: Colour = (255, 255, 255)
SYNTHETIC: Colour = (214, 40, 40)
SUSPICIOUS: Colour = (222, 140, 0)
CLEAR: Colour = (52, 120, 190)
UNKNOWN: Colour = (120, 128, 140)

SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "unifont.otf",
)
"""Pillow looks for them in the font folders of the system."""
MOST_CHARACTERS = 200
_BUILT_IN = ""
_NO_CHARACTER = "\U0010ffff"


def colour_of(score: float | None, points: OperatingPoints | None) -> Colour:
    """Red from the limit of synthetic, amber from that of suspicious, blue below, grey without."""
    if score is None or points is None:
        return UNKNOWN
    if score >= points.synthetic:
        return SYNTHETIC
    return SUSPICIOUS if score >= points.suspicious else CLEAR


def blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), PAPER)


def pixels_of(picture: Image.Image) -> Pixels:
    """RGB pixels (height, width, 3) that can be written to."""
    return np.array(picture, np.uint8)


def text_width(text: str, *, pixels_high: int) -> int:
    shown, font = _set(text, pixels_high)
    return ceil(font.getlength(shown))


def write(
    picture: Image.Image,
    text: str,
    *,
    left: int,
    middle: int,
    pixels_high: int = 16,
    colour: Colour = INK,
    bold: bool = False,
    most_pixels: int | None = None,
) -> int:
    """Write one line into ``picture`` around the height ``middle``; its right end.

    ``pixels_high`` is the height of a line; text that is wider than ``most_pixels`` is cut.
    """
    stamp, width = _stamp(text, pixels_high, most_pixels)
    for shift in range(1 + bold):
        picture.paste(colour, (left + shift - pixels_high, middle - pixels_high), stamp)
    return left + width


def frame_box(
    picture: Image.Image,
    box: tuple[float, float, float, float],
    text: str,
    *,
    colour: Colour,
    pixels_high: int,
) -> None:
    """A frame around ``box`` (left, top, right, bottom) with a label above it, or inside at the
    upper edge of the picture.
    """
    width, height = picture.size
    left, right = sorted(round(min(max(x, 0), width - 1)) for x in (box[0], box[2]))
    top, bottom = sorted(round(min(max(y, 0), height - 1)) for y in (box[1], box[3]))
    line, draw = max(3, pixels_high // 7 | 1), ImageDraw.Draw(picture)
    for wide, paint in ((line + 2, PAPER), (line, colour)):
        out = wide // 2
        around = (left - out, top - out, right + out, bottom + out)
        draw.rectangle(around, outline=paint, width=wide)
    if not text:
        return
    tall = round(1.3 * pixels_high)
    wide = min(width, text_width(text, pixels_high=pixels_high) + pixels_high)
    left = max(0, min(left - line // 2, width - wide))
    top = top - tall if top >= tall else min(top, max(0, height - tall))
    draw.rectangle((left, top, left + wide - 1, top + tall - 1), fill=colour)
    write(
        picture,
        text,
        left=left + pixels_high // 2,
        middle=top + tall // 2,
        pixels_high=pixels_high,
        colour=PAPER,
        most_pixels=wide - pixels_high,
    )


def _set(text: str, pixels_high: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """``text`` as it can be drawn, and the font for it."""
    line = unicodedata.normalize("NFC", escape(text[:MOST_CHARACTERS]))
    files = (_BUILT_IN,) if line.isascii() else (_BUILT_IN, *_system_fonts())
    missing = {file: {c for c in {*line} if _lacks(file, c)} for file in files}
    file = min(files, key=lambda file: len(missing[file]))
    shown = "".join(
        c.encode("unicode_escape").decode("ascii") if c in missing[file] else c for c in line
    )
    return shown, _font(file, pixels_high)


@lru_cache(maxsize=64)
def _stamp(text: str, pixels_high: int, most_pixels: int | None) -> tuple[Image.Image, int]:
    """A mask of a line with a margin of ``pixels_high`` at its ends, and the line's width."""
    shown, font = _set(text, pixels_high)
    if most_pixels is not None:
        shown = _cut(shown, font, most_pixels)
    width = ceil(font.getlength(shown))
    stamp = Image.new("L", (width + 2 * pixels_high, 2 * pixels_high))
    base = pixels_high, pixels_high + round(0.36 * pixels_high)
    ImageDraw.Draw(stamp).text(base, shown, fill=255, font=font, anchor="ls")
    return stamp, width


def _cut(text: str, font: ImageFont.FreeTypeFont, most_pixels: int) -> str:
    if font.getlength(text) <= most_pixels:
        return text
    counts = range(len(text))
    kept = (
        bisect_right(counts, float(most_pixels), key=lambda n: font.getlength(text[:n] + "…")) - 1
    )
    return text[:kept].rstrip() + "…" if kept > 0 else ""


@lru_cache(maxsize=64)
def _font(file: str, pixels_high: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.truetype(file, pixels_high) if file else ImageFont.load_default(pixels_high)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


@cache
def _system_fonts() -> tuple[str, ...]:
    """The paths of those of ``SYSTEM_FONTS`` that are installed."""
    found = []
    for name in SYSTEM_FONTS:
        try:
            found.append(str(ImageFont.truetype(name, 16).path))
        except OSError:
            continue
    return tuple(found)


@lru_cache(maxsize=4096)
def _lacks(file: str, character: str) -> bool:
    """Whether a font draws a character as it draws one that cannot exist."""
    if file == _BUILT_IN:
        return not character.isascii() and character != "…"
    font = ImageFont.truetype(file, 16, layout_engine=ImageFont.Layout.BASIC)
    drawn, none = font.getmask(character), font.getmask(_NO_CHARACTER)
    return drawn.size == none.size and bytes(drawn) == bytes(none)
