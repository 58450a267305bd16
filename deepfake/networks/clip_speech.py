"""CLIP's vision transformer on a picture of the spectrum, samples (windows, samples) to logits."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from .clip import ClipPicture
from .speech import FFT, FLOOR, TOP_HZ, fourier_kernels, triangles

SIDE = 224
MOST = 3.0
"""Deviations at which a picture is cut off, about the range of what CLIP has seen."""


class SpectralPicture(nn.Module):
    """Samples (windows, samples) at 16 kHz to grey pictures (windows, 3, 224, 224) in the range of
    CLIP: the logarithm of power in bands of equal width up to ``TOP_HZ``, the highest above, by
    time, with mean 0 and deviation 1 over the window.
    """

    kernels: torch.Tensor
    bands: torch.Tensor

    def __init__(self, *, samples: int) -> None:
        super().__init__()
        self.hop = (samples - FFT) // (SIDE - 1)
        if self.hop < 1:
            raise ValueError(f"window of {samples} samples: too short for {SIDE} columns")
        edges = np.linspace(0.0, TOP_HZ, SIDE + 2)
        bands = triangles(edges)[::-1].astype(np.float32)
        self.register_buffer("kernels", fourier_kernels(), persistent=False)
        self.register_buffer("bands", torch.from_numpy(bands.copy())[:, :, None], persistent=False)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        parts = nn.functional.conv1d(samples[:, None], self.kernels, stride=self.hop)
        real, imaginary = parts[:, :, :SIDE].chunk(2, dim=1)
        power = nn.functional.conv1d(real * real + imaginary * imaginary, self.bands)
        plane = torch.log(power + FLOOR)[:, None]
        plane = plane - plane.mean(dim=(2, 3), keepdim=True)
        spread = torch.sqrt(plane.square().mean(dim=(2, 3), keepdim=True))
        return (plane / (spread + 0.05)).clamp(-MOST, MOST).expand(-1, 3, -1, -1)


class ClipSpeech(ClipPicture):
    """Windows (windows, ``samples``) to logits (windows,): :class:`SpectralPicture`, then as
    :class:`ClipPicture`, whose weights it shares.
    """

    def __init__(self, *, samples: int = 48000, first: int = 5, last: int = 8) -> None:
        super().__init__(first=first, last=last)
        self.picture = SpectralPicture(samples=samples)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return self.judge(self.trunk(self.picture(samples)))
