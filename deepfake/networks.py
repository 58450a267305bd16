"""The trainable architectures by name, for training and for the torch backend.

Every network maps a float32 batch (windows, …) as made by its bundle's ``preprocess`` to logits
(windows,); features such as a spectrogram are computed inside, so that an exported graph needs no
code around it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from .errors import ModelError


def create(name: str, **options: Any) -> nn.Module:
    """A network with fresh weights; raises ``ModelError`` for an unknown name."""
    builders: dict[str, Any] = {
        "spectrogram_resnet": spectrogram_resnet,
        "spectrogram_mobilenet": spectrogram_mobilenet,
        "cepstrum_lcnn": cepstrum_lcnn,
        "picture_net": PictureNet,
    }
    if name not in builders:
        raise ModelError(f"network {name!r}: unknown", hint=f"known: {', '.join(sorted(builders))}")
    network: nn.Module = builders[name](**options)
    return network


# --- sound ---------------------------------------------------------------------------------------


def mel_filters(*, bands: int, fft: int, sample_rate: int) -> npt.NDArray[np.float32]:
    """Triangular filters (bands, fft // 2 + 1) on the mel scale of O'Shaughnessy (1987)."""
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    return _triangles(edges, fft=fft, sample_rate=sample_rate)


def linear_filters(*, bands: int, fft: int, sample_rate: int) -> npt.NDArray[np.float32]:
    """Triangular filters (bands, fft // 2 + 1) equally spaced in hertz."""
    edges = np.linspace(0, sample_rate / 2, bands + 2)
    return _triangles(edges, fft=fft, sample_rate=sample_rate)


def _triangles(
    edges: npt.NDArray[np.float64], *, fft: int, sample_rate: int
) -> npt.NDArray[np.float32]:
    hertz = np.linspace(0, sample_rate / 2, fft // 2 + 1)[None]
    low, middle, high = (edges[i : len(edges) - 2 + i, None] for i in range(3))
    rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


class LogSpectrum(nn.Module):
    """Samples (windows, samples) at 16 kHz to a log-power spectrogram (windows, 1, bins, frames).

    The discrete Fourier transform is a strided convolution, so that the exported graph needs no
    STFT. Every bin has its mean over time taken away (cepstral mean normalisation), which removes
    level, equalisation and the long-term spectrum of the room and the microphone. ``floor`` hides
    whatever lies that far below the window's mean power (-26 dBFS). ``merge`` neighbouring bins
    count as one.
    """

    kernels: torch.Tensor

    def __init__(
        self, *, fft: int = 512, hop: int = 160, floor: float = 1e-6, merge: int = 1
    ) -> None:
        super().__init__()
        self.hop, self.floor, self.merge = hop, floor, merge
        bins = fft // 2
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
        return ((decibels - decibels.mean(dim=2, keepdim=True)) / 3.0)[:, None]

    def power(self, samples: torch.Tensor) -> torch.Tensor:
        """Power (windows, bins, frames), 1 where it equals the mean power of the window."""
        parts = nn.functional.conv1d(samples[:, None], self.kernels, stride=self.hop)
        real, imaginary = parts.chunk(2, dim=1)
        power: torch.Tensor = real * real + imaginary * imaginary
        return power


class LinearCepstrum(nn.Module):
    """Samples to linear-frequency cepstra with their first and second differences, as an image
    (windows, 1, 3 * coefficients, frames) with zero mean over time (Sahidullah et al. 2015).
    """

    filters: torch.Tensor
    cosines: torch.Tensor

    def __init__(self, *, bands: int = 40, coefficients: int = 24) -> None:
        super().__init__()
        self.spectrum = LogSpectrum()
        filters = linear_filters(bands=bands, fft=512, sample_rate=16000)[:, 1:]
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)
        angles = np.outer(np.arange(coefficients), np.arange(bands) + 0.5) * np.pi / bands
        cosines = (np.cos(angles) * np.sqrt(2 / bands)).astype(np.float32)
        self.register_buffer("cosines", torch.from_numpy(cosines), persistent=False)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        bands = self.filters @ self.spectrum.power(samples)
        cepstra = self.cosines @ torch.log(bands + self.spectrum.floor)
        first = cepstra[:, :, 2:] - cepstra[:, :, :-2]
        second = first[:, :, 2:] - first[:, :, :-2]
        stacked = torch.cat([cepstra[:, :, 2:-2], first[:, :, 1:-1], second], dim=1)
        return ((stacked - stacked.mean(dim=2, keepdim=True)) / 2.0)[:, None]


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


class _ResidualPair(nn.Module):
    """Two 3×3 convolutions with a shortcut (He et al. 2016)."""

    def __init__(self, entering: int, leaving: int, *, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(entering, leaving, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(leaving),
            nn.ReLU(),
            nn.Conv2d(leaving, leaving, 3, padding=1, bias=False),
            nn.BatchNorm2d(leaving),
        )
        shortcut: list[nn.Module] = [nn.AvgPool2d(2, ceil_mode=True)] if stride > 1 else []
        shortcut += [nn.Conv2d(entering, leaving, 1, bias=False), nn.BatchNorm2d(leaving)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layers(hidden) + self.shortcut(hidden))


class _MaxFeatureMap(nn.Module):
    """A convolution of twice the width; the larger half is kept (Wu et al. 2018)."""

    def __init__(self, entering: int, leaving: int, *, side: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(entering, 2 * leaving, side, padding=side // 2)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        one, two = self.convolution(hidden).chunk(2, dim=1)
        return torch.maximum(one, two)


class SpeechNet(nn.Module):
    """Features of sound, a convolutional trunk and attentive pooling over time.

    The trunk's rows are kept apart until the last projection, so that the network knows at which
    frequency it saw something. ``rows`` is the number of rows that enter the trunk. In training,
    random bands and spans of the features are hidden (SpecAugment, Park et al. 2019), among them
    everything above a random row, as a telephone does.
    """

    def __init__(
        self, features: nn.Module, trunk: nn.Module, *, rows: int, width: int = 128
    ) -> None:
        super().__init__()
        self.features, self.trunk = features, trunk
        self.rows, self.hidden_share = rows, 0.5
        with torch.no_grad():
            _, channels, left, _ = trunk.eval()(torch.zeros(1, 1, rows, 64)).shape
        trunk.train()
        self.project = nn.Sequential(
            nn.Conv1d(channels * left, width, 1), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2)
        )
        self.pool = AttentiveStatistics(width)
        self.decide = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * width, 1))

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return self.judge(self.features(samples))

    def judge(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (windows,) from the features; these need fp32, what follows does not."""
        if self.training:
            features = self._hide(features)
        pooled = self.pool(self.project(self.trunk(features).flatten(1, 2)))
        logits: torch.Tensor = self.decide(pooled)[:, 0]
        return logits

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
            frames[index, :, :, begin : begin + int(torch.randint(40, ()))] = 0
        return features * keep * frames


def spectrogram_resnet(*, width: int = 24, dense: int = 128) -> SpeechNet:
    """A small ResNet on the linear-frequency log spectrogram (256 bins of 31 Hz, 10 ms)."""
    trunk = nn.Sequential(
        nn.Conv2d(1, width // 2, 5, stride=(2, 1), padding=2, bias=False),
        nn.BatchNorm2d(width // 2),
        nn.ReLU(),
        nn.MaxPool2d((1, 2)),
        _ResidualPair(width // 2, width, stride=2),
        _ResidualPair(width, 2 * width, stride=2),
        _ResidualPair(2 * width, 4 * width, stride=2),
    )
    return SpeechNet(LogSpectrum(), trunk, rows=256, width=dense)


def spectrogram_mobilenet(*, stages: int = 5, dense: int = 128) -> SpeechNet:
    """The first ``stages`` stages of MobileNetV2 (Sandler et al. 2018) on the linear-frequency log
    spectrogram (128 bands of 62 Hz, 10 ms).
    """
    import timm

    whole: Any = timm.create_model("mobilenetv2_100", in_chans=1, pad_type="same")
    trunk = nn.Sequential(whole.conv_stem, whole.bn1, *whole.blocks[:stages])
    return SpeechNet(LogSpectrum(merge=2), trunk, rows=128, width=dense)


def cepstrum_lcnn(*, width: int = 16, dense: int = 128) -> SpeechNet:
    """A light CNN with max-feature-map activations on LFCC (Lavrentyeva et al. 2019)."""
    layers: list[nn.Module] = [_MaxFeatureMap(1, width, side=5), nn.MaxPool2d(2)]
    for entering, leaving in ((width, width), (width, 2 * width), (2 * width, 2 * width)):
        layers += [
            _MaxFeatureMap(entering, entering, side=1),
            nn.BatchNorm2d(entering),
            _MaxFeatureMap(entering, leaving, side=3),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(leaving),
        ]
    return SpeechNet(LinearCepstrum(), nn.Sequential(*layers), rows=72, width=dense)


# --- pictures ------------------------------------------------------------------------------------


class HighPass(nn.Module):
    """Fixed residuals of a picture (n, 3, h, w): a Laplacian and two second differences of every
    channel (n, 9, h, w), as in the spatial rich model (Fridrich and Kodovsky 2012), clipped to ±3.
    """

    kernels: torch.Tensor

    def __init__(self, *, gain: float = 10.0) -> None:
        super().__init__()
        laplacian = [[-1.0, 2.0, -1.0], [2.0, -4.0, 2.0], [-1.0, 2.0, -1.0]]
        across = [[0.0, 0.0, 0.0], [1.0, -2.0, 1.0], [0.0, 0.0, 0.0]]
        bank = torch.stack([torch.tensor(laplacian), torch.tensor(across), torch.tensor(across).T])
        kernels = gain * (bank / bank.abs().sum(dim=(1, 2), keepdim=True)).repeat(3, 1, 1)[:, None]
        self.register_buffer("kernels", kernels, persistent=False)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(pictures, self.kernels, groups=3).clamp(-3, 3)


class ResidualBranch(nn.Module):
    """Dense convolutions on high-pass residuals, pooled to means and deviations (n, 2 * 96)."""

    features = 192

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [HighPass()]
        widths = (9, 16, 32, 48, 96)
        for index, (entering, leaving) in enumerate(pairwise(widths)):
            stride = 2 if index else 1
            layers.append(nn.Conv2d(entering, leaving, 3, stride=stride, padding=1, bias=False))
            layers += [nn.BatchNorm2d(leaving), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        hidden = self.layers(pictures).flatten(2).float()
        mean = hidden.mean(dim=2)
        spread = (hidden - mean[:, :, None]).square().mean(dim=2)
        return torch.cat([mean, torch.sqrt(spread + 1e-4)], dim=1)


class PictureNet(nn.Module):
    """Crops (n, 3, side, side) in -1…1 to logits (n,): MobileNetV2 without its last stages (Sandler
    et al. 2018), a branch on high-pass residuals, or both with their pooled features side by side.

    ``low`` holds the stem and the first three stages (32 channels at an eighth of the size), whose
    ImageNet weights stay fixed in training, ``high`` the next ``stages`` stages, which are tuned.
    """

    def __init__(self, *, stages: int = 3, residual: bool = True) -> None:
        import timm

        super().__init__()
        width = 0
        if stages:
            trunk: Any = timm.create_model("mobilenetv2_100", pad_type="same")
            self.low = nn.Sequential(trunk.conv_stem, trunk.bn1, *trunk.blocks[:3])
            self.high = nn.Sequential(*trunk.blocks[3 : 3 + stages])
            width = (64, 96, 160, 320)[stages - 1]
        self.residual = ResidualBranch() if residual else None
        self.stages = stages
        width += ResidualBranch.features if residual else 0
        self.decide = nn.Sequential(nn.Dropout(0.3), nn.Linear(width, 1))

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return self.judge(crops, self.low(crops) if self.stages else None)

    def judge(self, crops: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        """Logits from crops and what ``low`` made of them."""
        pooled = []
        if hidden is not None:
            pooled.append(self.high(hidden).float().mean(dim=(2, 3)))
        if self.residual is not None:
            pooled.append(self.residual(crops))
        logits: torch.Tensor = self.decide(torch.cat(pooled, dim=1))[:, 0]
        return logits
