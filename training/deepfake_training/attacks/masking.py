"""What an ear does not hear beside a sound: its masking threshold, and changes kept below it.

A reduced form of the first psychoacoustic model of ISO/IEC 11172-3, as Qin et al. 2019
("Imperceptible, Robust, and Targeted Adversarial Examples for Automatic Speech Recognition") use
it: every bin masks its neighbours on the Bark scale, 27 dB a Bark below and 10 dB above, from 14 dB
under its own level on, and nothing is heard below the threshold in quiet (Terhardt 1979) of a
listener whose full scale is 96 dB.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from deepfake.preprocess import Samples

from .. import perturb

FFT, HOP = 512, 128
FULL_SCALE_DB = 96.0
_BELOW, _ABOVE, _OFFSET = 27.0, 10.0, 14.0
_TURNS = 3


def find_threshold(samples: Samples) -> npt.NDArray[np.float32]:
    """The largest unheard magnitude (bins, frames) of a change in each bin of :func:`spectrum`."""
    magnitude = spectrum(torch.from_numpy(samples)).abs().numpy()
    hertz = np.asarray(np.fft.rfftfreq(FFT, 1 / perturb.SAMPLE_RATE), np.float64)
    bark = 13 * np.arctan(0.00076 * hertz) + 3.5 * np.arctan((hertz / 7500) ** 2)
    away = bark[:, None] - bark[None]  # of what is masked from what masks
    spread = np.where(away < 0, _BELOW * away, -_ABOVE * away) - _OFFSET
    power = 10 ** (spread / 10) @ np.square(magnitude)
    return np.asarray(np.sqrt(np.maximum(power, _quiet(hertz)[:, None])), np.float32)


def keep_unheard(threshold: npt.NDArray[np.float32]) -> Callable[[torch.Tensor], torch.Tensor]:
    """A projection of changes (samples,) to ones whose every bin lies under the threshold.

    Overlapping frames undo some of each cut, so that it is done three times, and what is left over
    is taken out by scaling the whole.
    """
    limit = torch.from_numpy(threshold)

    def project(change: torch.Tensor) -> torch.Tensor:
        for _ in range(_TURNS):
            bins = spectrum(change)
            change = _sound(bins * torch.clamp(limit / bins.abs().clamp(min=1e-12), max=1.0))
        shares = (spectrum(change).abs() / limit.clamp(min=1e-12)).flatten()
        over = shares.kthvalue(max(1, round(0.999 * len(shares)))).values
        return change / over.clamp(min=1.0)

    def whole(change: torch.Tensor) -> torch.Tensor:
        count = len(change)
        kept: torch.Tensor = project(torch.nn.functional.pad(change, (0, -count % HOP)))[:count]
        return kept

    return whole


def spectrum(samples: torch.Tensor) -> torch.Tensor:
    """The short-time spectrum (bins, frames), complex, of mono samples at 16 kHz."""
    padded = torch.nn.functional.pad(samples, (0, -len(samples) % HOP))
    bins: torch.Tensor = torch.stft(
        padded, FFT, HOP, window=torch.hann_window(FFT), return_complex=True, pad_mode="constant"
    )
    return bins


def _sound(bins: torch.Tensor) -> torch.Tensor:
    samples: torch.Tensor = torch.istft(
        bins, FFT, HOP, window=torch.hann_window(FFT), length=(bins.shape[1] - 1) * HOP
    )
    return samples


def _quiet(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The power of the threshold in quiet in the units of :func:`spectrum`."""
    kilohertz = np.maximum(hertz, 20) / 1000
    decibels = (
        3.64 * kilohertz**-0.8 - 6.5 * np.exp(-0.6 * (kilohertz - 3.3) ** 2) + 1e-3 * kilohertz**4
    )
    full = (FFT / 4) ** 2  # of a sine at full scale under this window
    return np.asarray(full * 10 ** ((np.minimum(decibels, 96.0) - FULL_SCALE_DB) / 10))
