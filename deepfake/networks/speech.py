"""The network for speech: samples (windows, samples) at 16 kHz to logits (windows,).

Its spectra are computed inside by convolutions, so that an exported graph needs no code around it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

RATE, FFT, HOP = 16000, 512, 160
ROWS, LOW_HZ, TOP_HZ = 96, 40.0, 7400.0
FLOOR = 1e-6
"""Of power, where 1 is about the mean of a window of -26 dBFS."""


class SpectralPlanes(nn.Module):
    """Samples (windows, samples) at 16 kHz to three planes (windows, 3, rows, frames) of 10 ms: the
    logarithm of power in mel bands, in bands of equal width, and how the first changes over 50 ms.

    Bands end at ``TOP_HZ``, below where converters of sample rates leave their edge. Each plane has
    mean 0 and deviation 1 over the window; with ``by_band`` the first two have mean 0 in every band
    before, which takes the long-term spectrum of voice, room and microphone away.
    """

    kernels: torch.Tensor
    bands: torch.Tensor

    def __init__(self, *, by_band: bool = False) -> None:
        super().__init__()
        self.by_band = by_band
        self.register_buffer("kernels", fourier_kernels(), persistent=False)
        edges = _mel_to_hz(np.linspace(_hz_to_mel(LOW_HZ), _hz_to_mel(TOP_HZ), ROWS + 2))
        equal = np.linspace(0.0, TOP_HZ, ROWS + 2)
        bands = np.concatenate([triangles(some) for some in (edges, equal)])
        self.register_buffer(
            "bands", torch.from_numpy(bands.astype(np.float32))[:, :, None], persistent=False
        )

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        parts = nn.functional.conv1d(samples[:, None], self.kernels, stride=HOP)
        real, imaginary = parts.chunk(2, dim=1)
        power = nn.functional.conv1d(real * real + imaginary * imaginary, self.bands)
        mel, equal = torch.log(power + FLOOR).chunk(2, dim=1)
        first, last = mel[:, :, :1], mel[:, :, -1:]
        wide = torch.cat([first, first, mel, last, last, last], dim=2)
        change = wide[:, :, 5:] - wide[:, :, :-5]
        if self.by_band:
            mel, equal = (plane - plane.mean(dim=2, keepdim=True) for plane in (mel, equal))
        planes = torch.stack([mel, equal, change], dim=1)
        planes = planes - planes.mean(dim=(2, 3), keepdim=True)
        spread = planes.square().mean(dim=(2, 3), keepdim=True)
        return planes / torch.sqrt(spread + 1e-3)


class MobileSpeech(nn.Module):
    """MobileNetV2 (Sandler et al. 2018), whole, on :class:`SpectralPlanes`.

    In training half of the windows have a random span of bands and one of frames hidden
    (SpecAugment, Park et al. 2019), sometimes everything above a random band, as a telephone does.
    """

    HIDDEN_FRAMES = 40

    def __init__(self, *, by_band: bool = False) -> None:
        import timm

        super().__init__()
        self.features = SpectralPlanes(by_band=by_band)
        self.trunk: Any = timm.create_model("mobilenetv2_100", pad_type="same", num_classes=0)
        self.decide = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1))

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        planes = self.features(samples)
        logits: torch.Tensor = self.decide(self.trunk(self._hide(planes)))[:, 0]
        return logits

    def _hide(self, planes: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return planes
        rows, frames = planes.shape[2:]
        keep = torch.ones_like(planes[:, :1])
        for kept in keep:
            if torch.rand(()) < 0.5:
                continue
            start, height = int(torch.randint(rows, ())), int(torch.randint(rows // 6, ()))
            kept[:, start : start + height] = 0
            if torch.rand(()) < 0.3:
                kept[:, int(torch.randint(rows // 3, rows, ())) :] = 0
            begin = int(torch.randint(frames, ()))
            kept[:, :, begin : begin + int(torch.randint(self.HIDDEN_FRAMES, ()))] = 0
        return planes * keep


def fourier_kernels(fft: int = FFT) -> torch.Tensor:
    """Cosines, then sines of all bins but the lowest (2 · bins, 1, ``fft``) under a Hann window, so
    that a window of -26 dBFS has a mean power near 1.
    """
    bins = fft // 2
    angles = 2 * np.pi * np.outer(np.arange(bins) + 1, np.arange(fft)) / fft
    taper = np.hanning(fft + 1)[:-1]
    taper = taper / np.sqrt(np.square(taper).sum()) / 10 ** (-26 / 20)
    kernels = np.concatenate([np.cos(angles), -np.sin(angles)]) * taper
    return torch.from_numpy(kernels.astype(np.float32))[:, None]


def triangles(edges: npt.NDArray[np.float64], fft: int = FFT) -> npt.NDArray[np.float64]:
    """Weights (bands, bins) that sum to 1 of triangles between neighbouring ``edges`` (bands + 2,)
    in Hz, none of them narrower than a bin of a transform of ``fft`` samples.
    """
    width = RATE / fft
    hertz = (np.arange(fft // 2) + 1) * width
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (hertz - middle) / np.maximum(middle - low, width) + 1
    falling = (middle - hertz) / np.maximum(high - middle, width) + 1
    weights = np.clip(np.minimum(rising, falling), 0, None)
    return np.asarray(weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9))


def _hz_to_mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(700 * (10 ** (mel / 2595) - 1))
