"""How much an attack changed: PSNR, SSIM (Wang et al. 2004) and SNR."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from deepfake.preprocess import Pixels, Samples

_SIGMA = 1.5
_LUMA = np.array([0.299, 0.587, 0.114])
MOST_DECIBELS = 100.0
"""Of what is not changed at all."""


def measure_psnr(before: Pixels, after: Pixels) -> float | None:
    """Peak signal-to-noise ratio in dB of RGB pixels (height, width, 3), 100 where nothing changed;
    None for pictures of two sizes.
    """
    if before.shape != after.shape:
        return None
    error = float(np.mean(np.square(before.astype(np.float64) - after)))
    return MOST_DECIBELS if error == 0 else min(MOST_DECIBELS, 10 * np.log10(255**2 / error))


def measure_ssim(before: Pixels, after: Pixels) -> float | None:
    """The mean structural similarity of the brightness; None for pictures of two sizes."""
    if before.shape != after.shape:
        return None
    one, other = before @ _LUMA, after @ _LUMA
    first, second = 0.01 * 255, 0.03 * 255
    mean, other_mean = _smooth(one), _smooth(other)
    variance = _smooth(one * one) - mean**2
    other_variance = _smooth(other * other) - other_mean**2
    together = _smooth(one * other) - mean * other_mean
    above = (2 * mean * other_mean + first**2) * (2 * together + second**2)
    below = (mean**2 + other_mean**2 + first**2) * (variance + other_variance + second**2)
    return float(np.mean(above / below))


def measure_snr(before: Samples, after: Samples) -> float | None:
    """The power of a sound over that of what was added to it, in dB; None for two lengths."""
    if before.shape != after.shape:
        return None
    power = float(np.mean(np.square(before, dtype=np.float64)))
    added = float(np.mean(np.square(after.astype(np.float64) - before)))
    if added == 0 or power == 0:
        return MOST_DECIBELS if added == 0 else -MOST_DECIBELS
    return float(np.clip(10 * np.log10(power / added), -MOST_DECIBELS, MOST_DECIBELS))


def amplify(before: Pixels, after: Pixels) -> tuple[Pixels, float]:
    """The difference around mid-grey, enlarged to fill the range, and by how much; of two sizes
    that of the first brought to the second.
    """
    if before.shape != after.shape:
        size = (after.shape[1], after.shape[0])
        before = np.asarray(cv2.resize(before, size, interpolation=cv2.INTER_AREA), np.uint8)
    difference = after.astype(np.float32) - before
    largest = float(np.quantile(np.abs(difference), 0.999))
    gain = 1.0 if largest == 0 else max(1.0, 127 / largest)
    return np.clip(127.5 + gain * difference, 0, 255).round().astype(np.uint8), gain


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), _SIGMA), np.float64)
