"""Drawn pictures that no camera made: posters, charts, illustrations, gradients, pages, interfaces,
and screenshots around a photo.
"""

from __future__ import annotations

import colorsys
import functools
import io
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepfake.preprocess import Box, Pixels

TEXT = (
    "Account archive and balance: change the camera, close the copy, edit every delivery this "
    "evening. File, follow friends, visit a garden or home; help with history, image, inbox. "
    "Library, market, menu, morning music, news: open orders, people read a picture, price "
    "or privacy; reply, report, save, search. Season, settings, share, shop, sign, station, "
    "story, summer, today, travel, update, view, weather, winter."
)
WORDS = TEXT.split()
SIZES = [(360, 780), (414, 896), (1080, 1920), (800, 600), (1024, 768), (1280, 800), (1440, 900)]
SIZES += [(1366, 768), (1920, 1080), (600, 600), (640, 480)]
Rgb = tuple[int, int, int]


class Screenshot(NamedTuple):
    """An interface (height, width, 3) and where in it the photo is."""

    pixels: Pixels
    photo: Box


def draw_poster(rng: np.random.Generator) -> Pixels:
    """Large words, bands and simple shapes on a plain or graded ground."""
    width, height = _size(rng)
    picture = _ground(rng, width, height)
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(1, 7)):
        _shape(rng, draw, width, height)
    for _ in range(rng.integers(2, 7)):
        font = _font(int(height * rng.uniform(0.03, 0.16)))
        place = (rng.uniform(0, 0.6) * width, rng.uniform(0, 0.9) * height)
        draw.text(place, _words(rng, 3).upper(), fill=_colour(rng), font=font)
    return np.asarray(picture)


def draw_chart(rng: np.random.Generator) -> Pixels:
    """A line, bar, scatter, pie or filled chart with its axes and legend."""
    from matplotlib.figure import Figure

    size = rng.uniform(4, 12, 2)
    figure = Figure(figsize=(size[0], size[1] * 0.8), dpi=100)
    ground = np.array(_colour(rng, pale=True)) / 255
    figure.set_facecolor(tuple(ground))
    axes = figure.add_subplot()
    axes.set_facecolor(tuple(ground) if rng.random() < 0.5 else (1, 1, 1))
    count = int(rng.integers(5, 40))
    kind = rng.integers(5)
    for _ in range(rng.integers(1, 5)):
        values, colour = rng.normal(0, 1, count).cumsum(), np.array(_colour(rng)) / 255
        if kind == 0:
            axes.plot(values, color=colour, label=_words(rng, 1), linewidth=rng.uniform(1, 4))
        elif kind == 1:
            axes.bar(range(count), np.abs(values), color=colour, label=_words(rng, 1))
        elif kind == 2:
            axes.scatter(values, rng.normal(0, 1, count), color=colour, label=_words(rng, 1))
        elif kind == 3:
            axes.fill_between(range(count), values, alpha=0.6, color=colour, label=_words(rng, 1))
        else:
            axes.pie(np.abs(values[:6]) + 0.1, labels=WORDS[: len(values[:6])])
            break
    axes.set_title(_words(rng, 4))
    if kind < 4:
        axes.grid(visible=bool(rng.random() < 0.5))
        axes.legend()
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return np.asarray(Image.open(content).convert("RGB"))


def draw_illustration(rng: np.random.Generator) -> Pixels:
    """Hills, sun, clouds and houses in flat colours, some outlined, edges smoothed."""
    width, height = _size(rng)
    scale = 2 if width * height < 1_500_000 else 1
    width, height = width * scale, height * scale
    picture = _ground(rng, width, height)
    draw = ImageDraw.Draw(picture)
    outline = (20, 20, 30) if rng.random() < 0.5 else None
    stroke = max(1, int(min(width, height) * rng.uniform(0.002, 0.008)))
    for layer in range(rng.integers(2, 6)):
        across = np.linspace(0, width, 40)
        waves = np.sin(across / width * rng.uniform(4, 20) + rng.uniform(0, 6))
        top = height * (0.35 + 0.13 * layer + rng.uniform(0.02, 0.1) * waves)
        points = [*zip(across, top, strict=True), (width, height), (0, height)]
        draw.polygon(points, fill=_colour(rng), outline=outline, width=stroke)
        for _ in range(rng.integers(0, 8)):
            _shape(rng, draw, width, height, outline=outline, stroke=stroke, most=0.2)
    small = picture.resize((width // scale, height // scale), Image.Resampling.LANCZOS)
    return np.asarray(small)


def draw_gradients(rng: np.random.Generator) -> Pixels:
    """Smooth colour ramps cut by a few translucent shapes, as on desktop backgrounds."""
    width, height = _size(rng)
    ground = np.asarray(_ramp(rng, width, height))
    for _ in range(rng.integers(1, 8)):
        mask = Image.new("L", (width, height))
        _shape(rng, ImageDraw.Draw(mask), width, height, fill=255, most=1.0)
        soft = rng.uniform(1, 30) if rng.random() < 0.3 else 0.7
        cover = cv2.GaussianBlur(np.asarray(mask), (0, 0), soft)[..., None] / np.float32(255)
        cover *= np.float32(rng.uniform(0.3, 1))
        other = np.asarray(_ramp(rng, width, height), np.float32)
        ground = np.rint(ground * (1 - cover) + other * cover).astype(np.uint8)
    return ground


def draw_page(rng: np.random.Generator) -> Pixels:
    """A page of text in one or two columns, with headings and rules."""
    width, height = _size(rng)
    paper, ink = _paper(rng)
    picture = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(picture)
    columns = int(rng.integers(1, 3))
    size = int(rng.integers(10, 24))
    for column in range(columns):
        left = int(width * (0.06 + column * 0.9 / columns))
        place = (left, int(height * 0.05), int(width * 0.82 / columns))
        _paragraphs(rng, draw, place, ink=ink, size=size)
    return np.asarray(picture)


def draw_interface(rng: np.random.Generator) -> Pixels:
    """An app or a web page without a photo."""
    picture, style = _start(rng)
    draw, (width, height), size = ImageDraw.Draw(picture), picture.size, style.size
    _bar(rng, draw, (0, 0, width, int(height * rng.uniform(0.03, 0.1))), style.accent, size)
    for _ in range(rng.integers(3, 12)):
        left, top = int(rng.uniform(0, 0.8) * width), int(rng.uniform(0.1, 0.9) * height)
        right = left + int(rng.uniform(0.1, 0.5) * width)
        bottom = top + int(rng.uniform(0.05, 0.3) * height)
        fill = (style.accent, style.pale, style.paper)[int(rng.integers(3))]
        draw.rounded_rectangle((left, top, right, bottom), size // 2, fill=fill, outline=style.ink)
        place = (left + size, top + size, right - left - 2 * size)
        _paragraphs(rng, draw, place, ink=style.ink, size=size, most=3)
    return np.asarray(picture)


def draw_screenshot(rng: np.random.Generator, photo: Pixels) -> Screenshot:
    """An app or a web page around ``photo``, which fills 20 to 80 % of it."""
    picture, style = _start(rng)
    draw, (width, height), size = ImageDraw.Draw(picture), picture.size, style.size
    box = _place(rng, width, height, share=rng.uniform(0.2, 0.8))
    right, bottom = box.left + box.width, box.top + box.height
    _bar(rng, draw, (0, 0, width, box.top * rng.uniform(0.3, 1)), style.accent, size)
    if rng.random() < 0.6:
        _bar(rng, draw, (0, height - (height - bottom) * 0.6, width, height), style.pale, size)
    for start, end in ((0, box.left), (right, width)):
        if rng.random() < 0.5 and end - start > 5 * size:
            draw.rectangle((start, box.top, end, height), fill=style.pale)
        place = (start + size, box.top, end - start - 2 * size)
        _paragraphs(rng, draw, place, ink=style.ink, size=size)
    place = (box.left, bottom + size, box.width)
    _paragraphs(rng, draw, place, ink=style.ink, size=size)
    picture.paste(_fill(rng, photo, box), (box.left, box.top))
    if rng.random() < 0.25:
        draw.rectangle((box.left - 1, box.top - 1, right, bottom), outline=style.ink)
    return Screenshot(np.asarray(picture), box)


GRAPHICS: dict[str, Callable[[np.random.Generator], Pixels]] = {
    "poster": draw_poster,
    "chart": draw_chart,
    "illustration": draw_illustration,
    "gradients": draw_gradients,
    "page": draw_page,
    "interface": draw_interface,
}


class _Style(NamedTuple):
    """Colours of an interface, and the height of its text in pixels."""

    paper: Rgb
    ink: Rgb
    accent: Rgb
    pale: Rgb
    size: int


def _start(rng: np.random.Generator) -> tuple[Image.Image, _Style]:
    width, height = _size(rng)
    paper, ink = _paper(rng)
    red, green, blue = (round(0.92 * p + 0.08 * i) for p, i in zip(paper, ink, strict=True))
    size = max(9, int(min(width, height) * rng.uniform(0.015, 0.035)))
    style = _Style(paper, ink, _colour(rng), (red, green, blue), size)
    return Image.new("RGB", (width, height), paper), style


def _place(rng: np.random.Generator, width: int, height: int, *, share: float) -> Box:
    """Where a photo of that share of the screen goes; it keeps off the top, where a bar is."""
    while True:
        across = 1.0 if rng.random() < 0.3 else rng.uniform(max(0.3, share / 0.9), 1.0)
        down = share / across
        if down <= 0.9:
            break
    across_pixels, down_pixels = int(across * width), int(down * height)
    left = int(rng.uniform(0, 1) * (width - across_pixels))
    top = int(rng.uniform(0.05, 0.95 - down) * height) if down < 0.9 else int(0.05 * height)
    return Box(left, top, across_pixels, down_pixels)


def _fill(rng: np.random.Generator, photo: Pixels, box: Box) -> Image.Image:
    """``photo`` cut to the form of ``box`` and brought to its size."""
    height, width = photo.shape[:2]
    zoom = max(box.width / width, box.height / height)
    cut_width, cut_height = min(width, box.width / zoom), min(height, box.height / zoom)
    left, top = rng.uniform(0, width - cut_width), rng.uniform(0, height - cut_height)
    part = (left, top, left + cut_width, top + cut_height)
    kernel = Image.Resampling.BICUBIC
    return Image.fromarray(photo).resize((box.width, box.height), kernel, box=part)


def _bar(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    box: tuple[float, ...],
    fill: Rgb,
    size: int,
) -> None:
    left, top, right, bottom = box
    if bottom - top < 2:
        return
    draw.rectangle((left, top, right, bottom), fill=fill)
    ink = (255, 255, 255) if sum(fill) < 380 else (30, 30, 30)
    for place in np.linspace(left + size, right - 6 * size, int(rng.integers(1, 6))):
        middle = (place, (top + bottom - size) / 2)
        draw.text(middle, _words(rng, 1), fill=ink, font=_font(size))


def _paragraphs(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int, int],
    *,
    ink: Rgb,
    size: int,
    most: int = 200,
) -> None:
    """Lines of text downwards from ``place`` (left, top, width)."""
    left, top, width = place
    if width < 4 * size:
        return
    bottom = draw.im.size[1]
    for _ in range(most):
        if top > bottom - 2 * size:
            break
        heading = rng.random() < 0.08
        font = _font(size * 2 if heading else size)
        line = _words(rng, 1)
        while draw.textlength(line, font=font) < width * (0.3 if heading else 0.85):
            line += " " + _words(rng, 1)
        draw.text((left, top), line, fill=ink, font=font)
        top += int(size * (3 if heading else 1.5)) + (size if rng.random() < 0.15 else 0)


def _shape(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    width: int,
    height: int,
    *,
    fill: Rgb | int | None = None,
    outline: Rgb | None = None,
    stroke: int = 1,
    most: float = 0.6,
) -> None:
    middle = rng.uniform(0, 1, 2) * (width, height)
    reach = rng.uniform(0.1, 0.5, 2) * min(width, height) * most + 2
    colour = _colour(rng) if fill is None else fill
    box = (*(middle - reach), *(middle + reach))
    kind = rng.integers(3)
    if kind == 0:
        draw.ellipse(box, fill=colour, outline=outline, width=stroke)
    elif kind == 1:
        draw.rectangle(box, fill=colour, outline=outline, width=stroke)
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        corners = middle + reach * 1.5 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        points = [(float(x), float(y)) for x, y in corners]
        draw.polygon(points, fill=colour, outline=outline, width=stroke)


def _ground(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    if rng.random() < 0.35:
        return _ramp(rng, width, height)
    return Image.new("RGB", (width, height), _colour(rng, pale=bool(rng.random() < 0.5)))


def _ramp(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """From one colour to another along a line or outwards from a point."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(max(width, height))
    if rng.random() < 0.6:
        angle = rng.uniform(0, 2 * np.pi)
        along = np.cos(angle) * x + np.sin(angle) * y
    else:
        along = np.hypot(x - rng.uniform(0, 1), y - rng.uniform(0, 1))
    along = ((along - along.min()) / max(float(np.ptp(along)), 1e-6))[..., None]
    first, last = (np.array(_colour(rng), np.float32) for _ in range(2))
    last = first + (last - first) * np.float32(rng.uniform(0.2, 1))
    return Image.fromarray(np.rint(first + (last - first) * along).astype(np.uint8))


def _paper(rng: np.random.Generator) -> tuple[Rgb, Rgb]:
    """Ground and ink: white, tinted or dark."""
    kind = rng.random()
    if kind < 0.35:
        return (255, 255, 255), (30, 30, 30)
    if kind < 0.65:
        return _colour(rng, pale=True), (25, 25, 35)
    shade = int(rng.integers(0, 48))
    return (shade, shade, min(255, shade + int(rng.integers(0, 10)))), (220, 220, 225)


def _colour(rng: np.random.Generator, *, pale: bool = False) -> Rgb:
    tint = rng.uniform(0, 0.12 if pale else 0.9)
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), tint, rng.uniform(0.9 if pale else 0.2, 1))
    return round(255 * red), round(255 * green), round(255 * blue)


def _words(rng: np.random.Generator, most: int) -> str:
    return " ".join(rng.choice(WORDS, int(rng.integers(1, most + 1))))


def _size(rng: np.random.Generator) -> tuple[int, int]:
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    zoom = rng.uniform(0.7, 1.2)
    return int(width * zoom), int(height * zoom)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(8, size))
