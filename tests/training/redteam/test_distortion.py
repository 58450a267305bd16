"""Measures of what was changed."""

from __future__ import annotations

import numpy as np
import pytest
from deepfake_training.attacks.distortion import (
    amplify,
    measure_psnr,
    measure_snr,
    measure_ssim,
)

from tests.media_files import scene


def test_psnr_and_ssim_of_known_changes() -> None:
    pixels = np.full((40, 40, 3), 100, np.uint8)
    assert measure_psnr(pixels, pixels) == 100.0
    assert measure_psnr(pixels, pixels + 1) == pytest.approx(48.13, abs=0.01)
    photo = scene(64, 48)
    assert measure_ssim(photo, photo) == pytest.approx(1.0)
    noisy = np.clip(photo + np.random.default_rng(0).normal(0, 25, photo.shape), 0, 255)
    shifted = np.clip(photo.astype(float) + 4, 0, 255).astype(np.uint8)
    strong, weak = measure_ssim(photo, noisy.astype(np.uint8)), measure_ssim(photo, shifted)
    assert strong is not None
    assert weak is not None
    assert strong < 0.8 < weak
    assert measure_psnr(photo, photo[:10]) is None
    assert measure_ssim(photo, photo[:10]) is None


def test_snr_is_power_over_power() -> None:
    sound = np.sin(np.arange(1000) / 5).astype(np.float32)
    assert measure_snr(sound, sound * 1.1) == pytest.approx(20, abs=0.01)
    assert measure_snr(sound, sound) == 100.0
    assert measure_snr(np.zeros(9, np.float32), np.ones(9, np.float32)) == -100.0
    assert measure_snr(sound, sound[:5]) is None


def test_differences_are_enlarged_around_grey() -> None:
    before = np.full((8, 8, 3), 50, np.uint8)
    after = before.copy()
    after[0, 0], after[7, 7] = 54, 46
    shown, gain = amplify(before, after)
    assert gain > 10
    assert shown[0, 0, 0] > 200
    assert shown[7, 7, 0] < 60
    assert shown[4, 4, 0] == 128
    assert amplify(before, before)[1] == 1.0
    assert amplify(before, np.full((4, 6, 3), 50, np.uint8))[0].shape == (4, 6, 3)
