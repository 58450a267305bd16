from __future__ import annotations

import numpy as np
import pytest
from deepfake_training.perturb import jpeg, limit_side, noise

from benchmarks.borders import KINDS, blurred, frame, intersection
from deepfake.content import borders
from deepfake.content.borders import trim
from deepfake.preprocess import Box, Pixels
from tests.content.test_drawings import photo

SIZES = [(300, 400), (560, 900), (900, 560)]


def sky(height: int, width: int, *, slope: float = 60.0) -> Pixels:
    """A smooth, bright gradient over textured ground, with hills between them."""
    pixels = photo(height, width, seed=5)
    run = np.linspace(250 - slope, 250, height)[:, None, None]
    skyline = height * (0.5 + 0.06 * np.sin(np.arange(width) / width * 17))
    above = np.arange(height)[:, None] < skyline[None]
    pixels[above] = np.broadcast_to(run, pixels.shape)[above].astype(np.uint8)
    return pixels


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_photo_is_found_in_every_border(kind: str, size: tuple[int, int]) -> None:
    pixels, place = KINDS[kind](photo(*size, seed=2))
    found = trim(pixels)
    assert found is not None
    assert found.left >= place.left
    assert found.top >= place.top
    assert found.left + found.width <= place.left + place.width
    assert found.top + found.height <= place.top + place.height
    assert intersection(found, place) > (0.9 if kind == "rounded, caption" else 0.96)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_found_after_compression_and_shrinking(kind: str) -> None:
    pixels, place = KINDS[kind](photo(900, 1200, seed=2))
    shared = limit_side(pixels, side=1000)
    zoom = shared.shape[1] / pixels.shape[1]
    place = Box(*(round(side * zoom) for side in place))
    found = trim(jpeg(shared, quality=80))
    assert found is not None
    assert intersection(found, place) > 0.85


@pytest.mark.parametrize("size", [(20, 20), (96, 128), (300, 400), (700, 1000)])
def test_a_picture_without_a_border_is_left_whole(size: tuple[int, int]) -> None:
    for seed in range(3):
        assert trim(photo(*size, seed=seed)) is None
        assert trim(jpeg(photo(*size, seed=seed), quality=60)) is None


@pytest.mark.parametrize("slope", [0.0, 20.0, 60.0])
def test_a_smooth_sky_is_no_border(slope: float) -> None:
    assert trim(sky(400, 600, slope=slope)) is None
    assert trim(jpeg(sky(400, 600, slope=slope), quality=75)) is None


def test_one_smooth_side_is_no_border() -> None:
    bordered, place = blurred(photo(400, 400, seed=1))
    assert trim(bordered[:, : place.left + place.width]) is None


def test_nothing_is_found_where_nothing_is() -> None:
    for level in (0, 128, 255):
        assert trim(np.full((64, 96, 3), level, np.uint8)) is None
    small, _ = frame(photo(40, 40), colour=(255, 255, 255), share=2.0)
    assert trim(small) is None, "a stamp on a page is not what the page is"


def test_rounded_corners_are_cut_off() -> None:
    pixels, _ = KINDS["rounded, caption"](photo(400, 600, seed=2) // 2)
    found = trim(pixels)
    assert found is not None
    for row in (found.top, found.top + found.height - 1):
        for column in (found.left, found.left + found.width - 1):
            assert pixels[row, column].max() < 200, "the page is bright"


def test_noise_on_a_frame_is_survived() -> None:
    pixels, place = frame(photo(300, 400, seed=2), colour=(30, 30, 30))
    found = trim(noise(pixels, sigma=1.0, seed=3))
    assert found is not None
    assert intersection(found, place) > 0.95


def test_a_page_of_lines_is_no_endless_work(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    look = borders._is_plain
    monkeypatch.setattr(borders, "_is_plain", lambda strip: looks.append(1) or look(strip))
    lines = photo(600, 600, seed=3)
    lines[: 8 * 70] = 240
    lines[::8] = 20
    borders.trim(lines)
    assert len(looks) < 4 + 6 * 4 * borders.MOST_LINES
