"""CLIP's vision transformer on a picture of the spectrum, samples (windows, samples) to logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from .clip import ClipPicture
from .speech import FFT, FLOOR, TOP_HZ, fourier_kernels, triangles

SIDE = 224
MOST = 3.0
"""Deviations at which a picture is cut off, about the range of what CLIP has seen."""


class SpectralPicture(nn.Module):
    """Samples (windows, samples) at 16 kHz to pictures (windows, 3, 224, 224) in the range of CLIP:
    the logarithm of power in bands of equal width up to ``TOP_HZ``, the highest above, by time,
    with mean 0 and deviation 1 over the window. By one transform of ``ffts`` samples it is grey,
    by three of them each colour is of another, about the same instants.
    """

    def __init__(self, *, samples: int, ffts: Sequence[int] = (FFT,)) -> None:
        super().__init__()
        if len(ffts) not in (1, 3):
            raise ValueError(f"{len(ffts)} transforms: make no picture, one or three do")
        self.ffts = tuple(ffts)
        self.hop = (samples - max(ffts)) // (SIDE - 1)
        if self.hop < 1:
            raise ValueError(f"window of {samples} samples: too short for {SIDE} columns")
        edges = np.linspace(0.0, TOP_HZ, SIDE + 2)
        for fft in self.ffts:
            bands = triangles(edges, fft)[::-1].astype(np.float32)
            self.register_buffer(f"kernels{fft}", fourier_kernels(fft), persistent=False)
            self.register_buffer(
                f"bands{fft}", torch.from_numpy(bands.copy())[:, :, None], persistent=False
            )

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        planes = [self._plane(samples, fft) for fft in self.ffts]
        return planes[0].expand(-1, 3, -1, -1) if len(planes) == 1 else torch.cat(planes, dim=1)

    def _plane(self, samples: torch.Tensor, fft: int) -> torch.Tensor:
        start = (max(self.ffts) - fft) // 2
        seen = samples[:, None, start : start + self.hop * (SIDE - 1) + fft]
        parts = nn.functional.conv1d(seen, self.get_buffer(f"kernels{fft}"), stride=self.hop)
        real, imaginary = parts.chunk(2, dim=1)
        bands = self.get_buffer(f"bands{fft}")
        power = nn.functional.conv1d(real * real + imaginary * imaginary, bands)
        plane = torch.log(power + FLOOR)[:, None]
        plane = plane - plane.mean(dim=(2, 3), keepdim=True)
        spread = torch.sqrt(plane.square().mean(dim=(2, 3), keepdim=True))
        return (plane / (spread + 0.05)).clamp(-MOST, MOST)


class ClipSpeech(ClipPicture):
    """Windows (windows, ``samples``) to logits (windows,): :class:`SpectralPicture`, then as
    :class:`ClipPicture`, whose weights it shares.
    """

    def __init__(
        self,
        *,
        samples: int = 48000,
        ffts: Sequence[int] = (FFT,),
        first: int = 5,
        last: int = 8,
        spread: bool = False,
    ) -> None:
        super().__init__(first=first, last=last, spread=spread)
        self.picture = SpectralPicture(samples=samples, ffts=ffts)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return self.judge(self.trunk(self.picture(samples)))
