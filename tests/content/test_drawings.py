from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from deepfake_training.perturb import blur, jpeg, limit_side, noise

from deepfake.content.drawings import find_photo, is_graphic, measure
from deepfake.preprocess import Box, Pixels

SIZES = [(96, 128), (256, 200), (480, 640), (768, 1024)]


def photo(height: int, width: int, *, seed: int = 0, grain: float = 2.0) -> Pixels:
    """Texture of every scale, lit unevenly, through a lens that blurs and darkens the corners, on a
    sensor with noise.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    cells = 2
    while cells < 2 * max(height, width):
        coarse = rng.normal(0, 1, (min(cells, height), min(cells, width), 3)).astype(np.float32)
        layer = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        total += layer * np.float32(cells**-0.6)
        cells *= 2
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    light = (1 - 0.25 * (x**2 + y**2))[..., None]
    pixels = np.clip((120 + 45 * total) * light, 0, 255).astype(np.uint8)
    return noise(blur(pixels, sigma=0.7), sigma=grain, seed=seed)


def poster(height: int, width: int) -> Pixels:
    pixels = np.full((height, width, 3), (236, 196, 90), np.uint8)
    cv2.circle(pixels, (width // 3, height // 2), height // 4, (180, 40, 60), -1, cv2.LINE_AA)
    cv2.rectangle(pixels, (width // 2, height // 6), (width - 9, height // 2), (20, 80, 140), -1)
    write(pixels, "OPEN", (width // 12, height // 5), height / 200)
    return pixels


def page(height: int, width: int) -> Pixels:
    pixels = np.full((height, width, 3), 244, np.uint8)
    for line in range(14, height, 18):
        write(pixels, "the quick brown fox jumps over it", (6, line), 0.4, (40, 40, 40))
    return pixels


def chart(height: int, width: int) -> Pixels:
    pixels = np.full((height, width, 3), (248, 250, 240), np.uint8)
    cv2.line(pixels, (width // 10, height // 10), (width // 10, height * 9 // 10), (0, 0, 0), 1)
    cv2.line(pixels, (width // 10, height * 9 // 10), (width - 5, height * 9 // 10), (0, 0, 0), 1)
    for bar in range(6):
        left, top = width * (2 + 2 * bar) // 15, height * (2 + bar * 5 % 6) // 10
        place = (left, top), (left + width // 12, height * 9 // 10)
        cv2.rectangle(pixels, *place, (60, 40 * bar, 170), -1)
    return pixels


def screenshot(height: int, width: int) -> tuple[Pixels, Box]:
    """A photo between a bar with words, a plain margin and lines of text."""
    pixels = np.full((height, width, 3), (246, 246, 250), np.uint8)
    bar = height // 10
    pixels[:bar] = (40, 70, 130)
    write(pixels, "home  search", (width // 20, bar * 2 // 3), height / 700, (255, 255, 255))
    box = Box(width // 8, height // 6, width * 5 // 8, height // 2)
    inside = photo(box.height, box.width, seed=4)
    pixels[box.top : box.top + box.height, box.left : box.left + box.width] = inside
    for line in range(height * 3 // 4, height, max(12, height // 30)):
        place = (box.left, line)
        write(pixels, "a photo that somebody sent", place, height / 900, (40, 40, 40))
    return pixels, box


def write(
    pixels: Pixels,
    words: str,
    place: tuple[int, int],
    scale: float,
    colour: tuple[int, int, int] = (20, 20, 20),
) -> None:
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(scale))
    cv2.putText(pixels, words, place, font, scale, colour, thickness, cv2.LINE_AA)


def web(pixels: Pixels) -> Pixels:
    return jpeg(limit_side(pixels, side=768), quality=60)


GRAPHICS: dict[str, Callable[[int, int], Pixels]] = {
    "poster": poster,
    "page": page,
    "chart": chart,
    "screenshot": lambda height, width: screenshot(height, width)[0],
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("change", [np.copy, web], ids=["clean", "web"])
def test_photographs_are_no_graphics(size: tuple[int, int], change: Callable[..., Pixels]) -> None:
    for seed in range(3):
        assert not is_graphic(change(photo(*size, seed=seed)))
    soft = blur(photo(*size, seed=7, grain=0), sigma=min(size) / 60)
    assert not is_graphic(change(noise(soft, sigma=1.0, seed=8)))


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("kind", GRAPHICS)
def test_graphics_are_recognised(kind: str, size: tuple[int, int]) -> None:
    drawn = GRAPHICS[kind](*size)
    assert is_graphic(drawn)
    assert is_graphic(jpeg(drawn, quality=60))
    if kind != "page":  # small print that was shrunk and compressed is sometimes missed
        assert is_graphic(web(drawn))


def test_large_pictures_are_thinned_and_judged_alike() -> None:
    height, width = 3000, 4000
    tile = photo(1000, 1000, seed=2)
    assert not is_graphic(np.tile(tile, (3, 4, 1)))
    drawn, _ = screenshot(height, width)
    assert is_graphic(drawn)


def test_a_plain_border_makes_no_graphic_of_a_photograph() -> None:
    framed = np.zeros((400, 500, 3), np.uint8)
    framed[40:360, 60:440] = photo(320, 380)
    assert measure(framed) == measure(photo(320, 380))
    assert not is_graphic(framed)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_picture_is_a_graphic(level: int) -> None:
    assert measure(np.full((64, 96, 3), level, np.uint8)) is None
    assert is_graphic(np.full((64, 96, 3), level, np.uint8))


def test_measures_are_shares_of_what_they_name() -> None:
    half = photo(160, 320)
    half[:, :160] = (90, 120, 30)
    half[0, 0] = (200, 20, 20)  # so that no column is a plain border
    half[::2, 0] = (200, 20, 20)
    measures = measure(half)
    assert measures is not None
    assert all(0 <= value <= 1 for value in measures)
    assert measures.flat == pytest.approx(0.5, abs=0.05)
    assert measures.colours == pytest.approx(0.5, abs=0.05)
    assert measures.still == pytest.approx(0.55, abs=0.05)
    assert measures.middling + measures.texture > 0.4


@pytest.mark.parametrize("size", [(480, 640), (1280, 720), (1080, 1920)])
@pytest.mark.parametrize("change", [np.copy, web], ids=["clean", "web"])
def test_the_photo_in_a_screenshot_is_found(
    size: tuple[int, int], change: Callable[..., Pixels]
) -> None:
    pixels, box = screenshot(*size)
    seen = change(pixels)
    zoom = seen.shape[1] / pixels.shape[1]
    found = find_photo(seen)
    assert found is not None
    left, top, right, bottom = (
        zoom * side for side in (box.left, box.top, box.left + box.width, box.top + box.height)
    )
    assert found.left >= left - 1
    assert found.top >= top - 1
    assert found.left + found.width <= right + 1
    assert found.top + found.height <= bottom + 1
    assert found.width * found.height > 0.6 * (right - left) * (bottom - top)


@pytest.mark.parametrize("kind", ["poster", "page", "chart"])
def test_no_photo_is_found_where_there_is_none(kind: str) -> None:
    assert find_photo(GRAPHICS[kind](480, 640)) is None
    assert find_photo(web(GRAPHICS[kind](480, 640))) is None
    assert find_photo(np.zeros((20, 20, 3), np.uint8)) is None
