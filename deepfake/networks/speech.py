"""Networks for speech: samples (windows, samples) at 16 kHz to logits (windows,).

Features such as a spectrogram are computed inside, so that an exported graph needs no code around
it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn


class LogSpectrum(nn.Module):
    """Samples (windows, samples) at 16 kHz to a log-power spectrogram (windows, 1, bins, frames).

    The discrete Fourier transform is a strided convolution, so that the exported graph needs no
    STFT. Every bin has its mean over time taken away (cepstral mean normalisation), which removes
    level, equalisation and the long-term spectrum of the room and the microphone. ``floor`` hides
    whatever lies that far below the window's mean power (-26 dBFS). ``merge`` neighbouring bins
    count as one band. With ``smooth_bins`` above 0 the means are first averaged over so many
    neighbouring bands, so that a narrow stationary line, as vocoders leave, stays visible.
    """

    kernels: torch.Tensor

    def __init__(
        self,
        *,
        fft: int = 512,
        hop: int = 160,
        floor: float = 1e-6,
        merge: int = 1,
        smooth_bins: int = 0,
    ) -> None:
        super().__init__()
        self.hop, self.floor, self.merge, self.smooth_bins = hop, floor, merge, smooth_bins
        bins = fft // 2
        self.rows = bins // merge
        angles = 2 * np.pi * np.outer(np.arange(bins) + 1, np.arange(fft)) / fft
        taper = np.hanning(fft + 1)[:-1]
        taper = taper / np.sqrt(np.square(taper).sum()) / 10 ** (-26 / 20)
        kernels = np.concatenate([np.cos(angles), -np.sin(angles)]) * taper
        self.register_buffer(
            "kernels", torch.from_numpy(kernels.astype(np.float32))[:, None], persistent=False
        )

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        power = self.power(samples)
        if self.merge > 1:
            power = nn.functional.avg_pool2d(power[:, None], (self.merge, 1))[:, 0]
        decibels = torch.log(power + self.floor)
        mean = decibels.mean(dim=2, keepdim=True)
        if self.smooth_bins:
            sides = (self.smooth_bins // 2, (self.smooth_bins - 1) // 2)
            wide = nn.functional.pad(mean.transpose(1, 2), sides, mode="replicate")
            mean = nn.functional.avg_pool1d(wide, self.smooth_bins, stride=1).transpose(1, 2)
        return ((decibels - mean) / 3.0)[:, None]

    def power(self, samples: torch.Tensor) -> torch.Tensor:
        """Power (windows, bins, frames), 1 where it equals the mean power of the window."""
        parts = nn.functional.conv1d(samples[:, None], self.kernels, stride=self.hop)
        real, imaginary = parts.chunk(2, dim=1)
        power: torch.Tensor = real * real + imaginary * imaginary
        return power


class AttentiveStatistics(nn.Module):
    """Weighted mean and deviation over time (Okabe et al. 2018): (n, c, t) to (n, 2c)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.Conv1d(width, 32, 1), nn.Tanh(), nn.Conv1d(32, width, 1))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax(self.attention(hidden), dim=2)
        mean = (weights * hidden).sum(dim=2)
        spread = (weights * hidden * hidden).sum(dim=2) - mean * mean
        return torch.cat([mean, torch.sqrt(spread.clamp(min=1e-4))], dim=1)


class SpeechNet(nn.Module):
    """A speech network as training sees it: ``features`` in fp32, then ``judge`` in any precision.

    Features are images (windows, 1, rows, frames) with the lowest frequency first. In training,
    random bands and spans of up to ``hidden_frames`` frames of them are hidden (SpecAugment, Park
    et al. 2019), among them everything above a random row, as a telephone does.
    """

    def __init__(self, features: nn.Module, *, rows: int, hidden_frames: int = 40) -> None:
        super().__init__()
        self.features, self.rows = features, rows
        self.hidden_frames, self.hidden_share = hidden_frames, 0.5

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return self.judge(self.features(samples))

    def judge(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (windows,) from the features."""
        return self.classify(self._hide(features) if self.training else features)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (windows,) from features with nothing more to hide."""
        raise NotImplementedError

    def _hide(self, features: torch.Tensor) -> torch.Tensor:
        keep = torch.ones_like(features[:, :, :, :1])
        frames = torch.ones_like(features[:, :, :1])
        for index in range(len(features)):
            if torch.rand(()) > self.hidden_share:
                continue
            start = int(torch.randint(self.rows, ()))
            height = int(torch.randint(self.rows // 6, ()))
            keep[index, :, start : start + height] = 0
            if torch.rand(()) < 0.3:
                keep[index, :, int(torch.randint(self.rows // 3, self.rows, ())) :] = 0
            begin = int(torch.randint(features.shape[3], ()))
            frames[index, :, :, begin : begin + int(torch.randint(self.hidden_frames, ()))] = 0
        return features * keep * frames


class ConvolutionalNet(SpeechNet):
    """Features of sound, a convolutional trunk and attentive pooling over time.

    The trunk's rows are kept apart until the last projection, so that the network knows at which
    frequency it saw something. ``rows`` is the number of rows that enter the trunk.
    """

    def __init__(
        self, features: nn.Module, trunk: nn.Module, *, rows: int, width: int = 128
    ) -> None:
        super().__init__(features, rows=rows)
        self.trunk = trunk
        with torch.no_grad():
            _, channels, left, _ = trunk.eval()(torch.zeros(1, 1, rows, 64)).shape
        trunk.train()
        self.project = nn.Sequential(
            nn.Conv1d(channels * left, width, 1), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2)
        )
        self.pool = AttentiveStatistics(width)
        self.decide = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * width, 1))

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        pooled = self.pool(self.project(self.trunk(features).flatten(1, 2)))
        logits: torch.Tensor = self.decide(pooled)[:, 0]
        return logits


def spectrogram_mobilenet(
    *,
    stages: int = 5,
    dense: int = 128,
    fft: int = 512,
    merge: int = 2,
    smooth_bins: int = 0,
    floor: float = 1e-6,
) -> ConvolutionalNet:
    """The first ``stages`` stages of MobileNetV2 (Sandler et al. 2018) on the linear-frequency log
    spectrogram (by default 128 bands of 62 Hz, 10 ms; see ``LogSpectrum`` for the options).
    """
    import timm

    whole: Any = timm.create_model("mobilenetv2_100", in_chans=1, pad_type="same")
    trunk = nn.Sequential(whole.conv_stem, whole.bn1, *whole.blocks[:stages])
    spectrum = LogSpectrum(fft=fft, merge=merge, smooth_bins=smooth_bins, floor=floor)
    return ConvolutionalNet(spectrum, trunk, rows=spectrum.rows, width=dense)
