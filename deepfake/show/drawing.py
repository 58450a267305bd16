"""Text, frames and colours on RGB pixels, with OpenCV alone."""

from __future__ import annotations

from typing import NamedTuple

import cv2

from ..preprocess import Pixels
from ..types import OperatingPoints

Colour = tuple[int, int, int]

INK: Colour = (31, 41, 55)
DIM: Colour = (95, 105, 120)
PAPER: Colour = (255, 255, 255)
SYNTHETIC: Colour = (214, 40, 40)
SUSPICIOUS: Colour = (222, 140, 0)
CLEAR: Colour = (52, 120, 190)
UNKNOWN: Colour = (120, 128, 140)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SCALE_OF_PIXEL = 1 / 27


class Size(NamedTuple):
    width: int
    height: int


def colour_of(score: float | None, points: OperatingPoints | None) -> Colour:
    """Red from the limit of synthetic, amber from that of suspicious, blue below, grey without."""
    if score is None or points is None:
        return UNKNOWN
    if score >= points.synthetic:
        return SYNTHETIC
    return SUSPICIOUS if score >= points.suspicious else CLEAR


def plain(text: str) -> str:
    """``text`` in the characters that OpenCV can draw."""
    swaps = {"–": "-", "…": "...", "×": "x"}
    swapped = "".join(swaps.get(character, character) for character in text)
    return "".join(c if " " <= c <= "~" else "?" for c in swapped)


def text_size(text: str, *, pixels_high: int) -> Size:
    (width, height), _ = cv2.getTextSize(plain(text), _FONT, pixels_high * _SCALE_OF_PIXEL, 1)
    return Size(width, height)


def write(
    pixels: Pixels,
    text: str,
    *,
    left: int,
    middle: int,
    pixels_high: int = 16,
    colour: Colour = INK,
    most_pixels: int | None = None,
) -> int:
    """Write one line into ``pixels`` around the height ``middle``; its right end.

    ``pixels_high`` is the height of a line; text that is wider than ``most_pixels`` is cut.
    """
    shown = plain(text)
    while most_pixels is not None and shown:
        if text_size(shown, pixels_high=pixels_high).width <= most_pixels:
            break
        shown = shown.removesuffix("...")[:-1] + "..." if len(shown) > 4 else ""
    scale = pixels_high * _SCALE_OF_PIXEL
    place = (left, middle + round(0.36 * pixels_high))
    cv2.putText(pixels, shown, place, _FONT, scale, colour, 1, cv2.LINE_AA)
    return left + text_size(shown, pixels_high=pixels_high).width


def write_bold(
    pixels: Pixels,
    text: str,
    *,
    left: int,
    middle: int,
    pixels_high: int = 16,
    most_pixels: int | None = None,
) -> int:
    """:func:`write` in a heavier stroke."""
    right = left
    for place in (left + 1, left):
        right = write(
            pixels,
            text,
            left=place,
            middle=middle,
            pixels_high=pixels_high,
            most_pixels=most_pixels,
        )
    return right + 1


def fill(pixels: Pixels, *, left: int, top: int, right: int, bottom: int, colour: Colour) -> None:
    """Fill a rectangle whose right and bottom edges are not part of it."""
    if left < right and top < bottom:
        cv2.rectangle(pixels, (left, top), (right - 1, bottom - 1), colour, cv2.FILLED)


def frame_box(
    pixels: Pixels,
    box: tuple[float, float, float, float],
    text: str,
    *,
    colour: Colour,
    pixels_high: int,
) -> None:
    """A frame around ``box`` (left, top, right, bottom) with a label above it, or inside at the
    upper edge of the picture.
    """
    height, width = pixels.shape[:2]
    left, right = (round(min(max(x, 0), width - 1)) for x in (box[0], box[2]))
    top, bottom = (round(min(max(y, 0), height - 1)) for y in (box[1], box[3]))
    line = max(2, pixels_high // 7)
    cv2.rectangle(pixels, (left, top), (right, bottom), PAPER, line + 2, cv2.LINE_AA)
    cv2.rectangle(pixels, (left, top), (right, bottom), colour, line, cv2.LINE_AA)
    if not text:
        return
    tall = round(1.3 * pixels_high)
    wide = text_size(text, pixels_high=pixels_high).width + pixels_high
    left = max(0, min(left - line // 2, width - wide))
    top = top - tall if top >= tall else min(top, max(0, height - tall))
    fill(pixels, left=left, top=top, right=left + wide, bottom=top + tall, colour=colour)
    write(
        pixels,
        text,
        left=left + pixels_high // 2,
        middle=top + tall // 2,
        pixels_high=pixels_high,
        colour=PAPER,
    )
