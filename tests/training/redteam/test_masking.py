"""What an ear does not hear, and attacks that stay below it."""

from __future__ import annotations

import numpy as np
import torch
from deepfake_training.attacks.masking import find_threshold, keep_unheard, spectrum

RATE = 16000


def tone(hertz: float, level: float) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)).astype(np.float32)


def test_a_tone_masks_its_neighbours_and_louder_ones_mask_more() -> None:
    quiet, loud = find_threshold(tone(1000, 0.05)), find_threshold(tone(1000, 0.5))
    place, near, far = (round(hertz * 512 / RATE) for hertz in (1000, 1200, 4000))
    middle = loud.shape[1] // 2
    assert loud[near, middle] > 10 * loud[far, middle]
    assert loud[place, middle] > 5 * quiet[place, middle]
    magnitude = spectrum(torch.from_numpy(tone(1000, 0.5))).abs().numpy()
    assert loud[place, middle] < 0.5 * magnitude[place, middle]
    above, below = loud[place + 8, middle], loud[place - 8, middle]
    assert above > below  # masking spreads upwards


def test_changes_are_kept_below_the_threshold() -> None:
    rng = np.random.default_rng(1)
    samples = tone(500, 0.3) + tone(2500, 0.1)
    threshold = find_threshold(samples)
    noise = torch.from_numpy(0.2 * rng.standard_normal(RATE).astype(np.float32))
    kept = keep_unheard(threshold)(noise)
    assert kept.shape == noise.shape
    shares = spectrum(kept).abs().numpy() / threshold
    assert np.mean(shares > 1.01) < 0.002
    assert float(kept.square().mean().sqrt()) > 1e-5
    before = spectrum(noise).abs().numpy() / threshold
    assert np.mean(before > 1.01) > 0.5
