"""Perturbations of pictures: sizes, determinism, and what each one does."""

from __future__ import annotations

import numpy as np
import pytest
from deepfake_training import perturb

from deepfake.errors import SettingsError

SIZES = [(300, 200), (96, 97), (17, 9)]


def scene(height: int = 300, width: int = 200, *, seed: int = 0) -> np.ndarray:
    """Soft shapes with a little grain."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[0:height, 0:width]
    planes = [128 + 90 * np.sin(across / (7 + 3 * c)) * np.cos(down / (11 + c)) for c in range(3)]
    grain = rng.normal(0, 4, (height, width, 3))
    return (np.stack(planes, axis=-1) + grain).clip(0, 255).astype(np.uint8)


def difference(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - two).mean())


@pytest.mark.parametrize("size", SIZES)
def test_compression_keeps_the_size_and_loses_more_at_lower_quality(size: tuple[int, int]) -> None:
    pixels = scene(*size)
    for code in (perturb.jpeg, perturb.webp, perturb.avif):
        fine, coarse = code(pixels, quality=95), code(pixels, quality=20)
        assert fine.shape == coarse.shape == pixels.shape
        assert fine.dtype == np.uint8
        assert 0 < difference(fine, pixels) < difference(coarse, pixels) < 60


def test_subsampling_blurs_colour_edges() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, 1::2, 0] = 255
    full = perturb.jpeg(pixels, quality=100, subsampling="4:4:4")
    halved = perturb.jpeg(pixels, quality=100, subsampling="4:2:0")
    assert difference(full, pixels) < 5 < difference(halved, pixels)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="known: 4:4:4"):
        perturb.jpeg(scene(), quality=50, subsampling="4:1:1")
    with pytest.raises(SettingsError, match="known: area"):
        perturb.rescale(scene(), factor=0.5, kernel="sinc")


def test_rescale_and_limit_side() -> None:
    assert perturb.rescale(scene(), factor=0.5).shape == (150, 100, 3)
    assert perturb.rescale(scene(), factor=1.2, kernel="cubic", stretch=0.5).shape == (360, 120, 3)
    assert perturb.rescale(scene(), factor=0.001).shape == (1, 1, 3)
    assert perturb.limit_side(scene(), side=150).shape == (150, 100, 3)
    np.testing.assert_array_equal(perturb.limit_side(scene(), side=768), scene())


def test_blur_and_sharpen_move_detail_in_opposite_directions() -> None:
    def detail(pixels: np.ndarray) -> float:
        return float(np.abs(np.diff(pixels.astype(float), axis=1)).mean())

    pixels = scene()
    soft, crisp = perturb.blur(pixels, sigma=1.5), perturb.sharpen(pixels, amount=1.0)
    assert detail(soft) < detail(pixels) < detail(crisp)


def test_noise_has_the_given_deviation_and_seed() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    noisy = perturb.noise(grey, sigma=6, seed=3)
    assert abs(float(noisy.std()) - 6) < 0.2
    np.testing.assert_array_equal(noisy, perturb.noise(grey, sigma=6, seed=3))
    assert difference(noisy, perturb.noise(grey, sigma=6, seed=4)) > 3


def test_colour_and_flip() -> None:
    pixels = scene()
    grey = perturb.colour(pixels, saturation=0.0)
    assert int(np.ptp(grey.astype(int), axis=2).max()) <= 1
    assert perturb.colour(pixels, brightness=20).mean() > pixels.mean() + 10
    np.testing.assert_array_equal(perturb.colour(pixels), pixels)
    np.testing.assert_array_equal(perturb.flip(perturb.flip(pixels)), pixels)
    np.testing.assert_array_equal(perturb.flip(pixels)[:, 0], pixels[:, -1])


@pytest.mark.parametrize(("view", "side"), [("web", 768), ("hard", 512), ("thumbnail", 256)])
def test_views_limit_the_side_and_are_repeatable(view: str, side: int) -> None:
    pixels = scene(900, 450)
    seen = perturb.PICTURE_VIEWS[view](pixels)
    assert seen.shape == (side, side // 2, 3)
    np.testing.assert_array_equal(seen, perturb.PICTURE_VIEWS[view](pixels))
    small = scene(120, 90)
    assert perturb.PICTURE_VIEWS[view](small).shape == small.shape


def test_clean_view_is_an_untouched_copy() -> None:
    pixels = scene()
    seen = perturb.PICTURE_VIEWS["clean"](pixels)
    np.testing.assert_array_equal(seen, pixels)
    assert not np.shares_memory(seen, pixels)


def test_chain_repeats_itself_and_never_changes_its_input() -> None:
    pixels = scene(260, 240)
    before = pixels.copy()
    changed = 0
    for seed in range(40):
        chain = perturb.draw_picture_chain(np.random.default_rng(seed))
        again = perturb.draw_picture_chain(np.random.default_rng(seed))
        result = chain(pixels)
        np.testing.assert_array_equal(result, again(pixels))
        np.testing.assert_array_equal(pixels, before)
        assert result.dtype == np.uint8
        assert abs(result.shape[0] - 260 * chain.factor) <= 2
        assert 0.39 <= chain.factor <= 1.4
        changed += result.shape != pixels.shape or difference(result, pixels) > 0
    assert changed > 35


def test_chain_treats_a_pair_alike() -> None:
    one, two = scene(seed=1), scene(seed=1)
    two[100:120, 50:80] = 0
    for seed in range(10):
        chain = perturb.draw_picture_chain(np.random.default_rng(seed))
        first, second = chain(one), chain(two)
        assert first.shape == second.shape
        corner = np.s_[: first.shape[0] // 5, : first.shape[1] // 5]
        assert difference(first[corner], second[corner]) < 1
