"""Pictures with enough structure for a fingerprint, and sounds like speech."""

from __future__ import annotations

import numpy as np

from deepfake.preprocess import Pixels, Samples


def pattern(seed: int, *, width: int = 320, height: int = 240) -> Pixels:
    """Soft patches of colour (height, width, 3), other ones for each seed."""
    import cv2

    patches = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def babble(seed: int, *, seconds: float = 4.0, sample_rate: int = 16000) -> Samples:
    """Tones that come and go, other ones for each seed."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    sound = np.zeros(len(time))
    for _ in range(round(40 * seconds)):
        hertz, at, length = rng.uniform(300, 2000), rng.uniform(0, seconds), rng.uniform(0.1, 0.4)
        sound += np.sin(2 * np.pi * hertz * time) * np.exp(-(((time - at) / length) ** 2))
    return np.asarray(0.5 * sound / np.abs(sound).max(), np.float32)
