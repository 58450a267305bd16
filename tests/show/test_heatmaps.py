from __future__ import annotations

import numpy as np
import pytest

from deepfake.show import heatmaps
from deepfake.types import Heatmap


def test_overlay_leaves_clean_parts_alone() -> None:
    pixels = np.full((40, 60, 3), 90, np.uint8)
    shown = Heatmap(name="image", values=((0.0, 0.0, 1.0), (0.0, 0.0, 1.0)))
    drawn = heatmaps.overlay(pixels, shown)
    assert drawn.shape == pixels.shape
    assert (drawn[:, :9] == 90).all()
    assert (drawn[:, -1, 0] > 120).all()  # violet at the highest score
    assert (drawn[:, -1, 1] < 60).all()


def test_overlay_shows_nothing_below_the_suspicious_score() -> None:
    pixels = np.full((40, 60, 3), 90, np.uint8)
    shown = Heatmap(name="image", values=((0.7, 0.8),))
    assert (heatmaps.overlay(pixels, shown, limits={"image": 0.85}) == 90).all()
    drawn = heatmaps.overlay(pixels, shown, limits={"image": 0.75})
    assert (drawn[:, :10] == 90).all()
    assert (drawn[:, -10:] != 90).any()
    # each heat map has the limit of its own evidence
    face = Heatmap(name="face 1", values=((0.7,),), box=(0, 0, 10, 10))
    both = heatmaps.overlay(pixels, shown, face, limits={"image": 0.85, "face 1": 0.6})
    assert (both[:10, :10] != 90).any(axis=2).all()
    assert (both[:, 10:] == 90).all()


def test_the_colours_of_a_heat_map_can_be_read_without_seeing_colours() -> None:
    colours, opacity = heatmaps.colour_scale(np.linspace(0, 1, 50, dtype=np.float32))
    lightness = colours @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) <= 0).all()
    assert lightness[0] - lightness[-1] > 80
    assert (np.diff(opacity) > 0).all()
    assert opacity[-1] < 1
    assert len(heatmaps.colour_scale(np.zeros(0, np.float32))[0]) == 0


def test_spectrogram_shows_a_tone_at_its_height() -> None:
    samples = np.sin(2 * np.pi * 2000 * np.arange(48000) / 16000).astype(np.float32)
    picture = heatmaps.spectrogram(samples).astype(int).sum(axis=2)
    brightest = picture.mean(axis=1).argmax()
    assert brightest == pytest.approx(0.75 * picture.shape[0], abs=3)
    assert heatmaps.spectrogram(np.zeros(3, np.float32)).shape == (257, 1, 3)
    assert heatmaps.spectrogram(np.zeros(40 * 16000, np.float32)).shape[1] <= 1200
