"""Networks for speech: samples (windows, samples) at 16 kHz to logits (windows,).

Features such as a spectrogram are computed inside, so that an exported graph needs no code around
it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from . import create


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


def spectrogram_resnet(
    *, width: int = 24, dense: int = 128, smooth_bins: int = 0
) -> ConvolutionalNet:
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
    spectrum = LogSpectrum(smooth_bins=smooth_bins)
    return ConvolutionalNet(spectrum, trunk, rows=spectrum.rows, width=dense)


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


def cepstrum_lcnn(*, width: int = 16, dense: int = 128) -> ConvolutionalNet:
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
    return ConvolutionalNet(LinearCepstrum(), nn.Sequential(*layers), rows=72, width=dense)


class SincEnvelope(nn.Module):
    """Samples (windows, samples) to band envelopes (windows, 1, filters // 3, frames of ``hop``).

    Mel-spaced band-pass filters (windowed sinc, Ravanelli and Bengio 2018) with fixed edges; of
    their magnitudes the largest of three neighbouring filters and ``hop`` samples counts, without a
    logarithm. Each band is divided by its mean over time, which removes level and equalisation, or
    with ``equalised`` false by that of all bands, which removes level.
    """

    kernels: torch.Tensor

    def __init__(
        self, *, filters: int = 70, taps: int = 129, hop: int = 32, equalised: bool = True
    ) -> None:
        super().__init__()
        self.hop, self.rows, self.mean_over = hop, filters // 3, (3,) if equalised else (2, 3)
        top = 2595 * np.log10(1 + 8000 / 700)
        edges = 700 * (10 ** (np.linspace(0, top, filters + 1) / 2595) - 1) / 8000
        offsets = np.arange(taps) - (taps - 1) / 2
        below = edges[:, None] * np.sinc(edges[:, None] * offsets)
        kernels = np.diff(below, axis=0) * np.hamming(taps)
        kernels /= np.sqrt(np.square(kernels).sum(axis=1, keepdims=True)) * 10 ** (-26 / 20)
        self.register_buffer(
            "kernels", torch.from_numpy(kernels.astype(np.float32))[:, None], persistent=False
        )

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        bands = nn.functional.conv1d(samples[:, None], self.kernels, stride=2).abs()
        envelopes = nn.functional.max_pool2d(bands[:, None], (3, self.hop // 2))
        return envelopes / (envelopes.mean(dim=self.mean_over, keepdim=True) + 1e-3)


class _EncoderBlock(nn.Module):
    """Two 2×3 convolutions before whose inputs come norm and SELU, a shortcut and pooling over
    ``pool`` frames (the residual block of RawNet2, Tak et al. 2021).
    """

    def __init__(self, entering: int, leaving: int, *, pool: int, first: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *([] if first else [nn.BatchNorm2d(entering), nn.SELU()]),
            nn.Conv2d(entering, leaving, (2, 3), padding=(1, 1), bias=False),
            nn.BatchNorm2d(leaving),
            nn.SELU(),
            nn.Conv2d(leaving, leaving, (2, 3), padding=(0, 1), bias=False),
        )
        self.shortcut: nn.Module = nn.Identity()
        if entering != leaving:
            self.shortcut = nn.Conv2d(entering, leaving, 1, bias=False)
        self.pool = nn.MaxPool2d((1, pool))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.pool(self.layers(hidden) + self.shortcut(hidden))
        return pooled


class _GraphAttention(nn.Module):
    """One update of a complete graph's nodes (n, nodes, entering) to (n, nodes, leaving), where the
    product of two nodes says how much they heed each other (Jung et al. 2022, section 2.2).
    """

    def __init__(
        self, entering: int, leaving: int, *, temperature: float = 2.0, relations: int = 1
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.compare = nn.Linear(entering, leaving)
        self.score = nn.Linear(leaving, relations, bias=False)
        self.heed = nn.Linear(entering, leaving, bias=False)
        self.keep = nn.Linear(entering, leaving, bias=False)
        self.norm = nn.BatchNorm1d(leaving)

    def forward(self, nodes: torch.Tensor) -> torch.Tensor:
        return self._update(nodes, self._scores(nodes)[..., 0])

    def _scores(self, nodes: torch.Tensor) -> torch.Tensor:
        products = nodes[:, :, None] * nodes[:, None]
        scores: torch.Tensor = self.score(torch.tanh(self.compare(products)))
        return scores

    def _update(self, nodes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax(scores / self.temperature, dim=2)
        mixed = self.heed(weights @ nodes) + self.keep(nodes)
        normed: torch.Tensor = self.norm(mixed.transpose(1, 2)).transpose(1, 2)
        return nn.functional.selu(normed)


class _StackingAttention(_GraphAttention):
    """Attention over moments and bands at once, with other scores within and across the two, and a
    stack node that heeds all of them but is not heeded (Jung et al. 2022, section 3.2).
    """

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__(entering, leaving, temperature=100.0, relations=3)
        self.enter = nn.ModuleList([nn.Linear(entering, entering) for _ in range(2)])
        self.stack_compare = nn.Linear(entering, leaving)
        self.stack_score = nn.Linear(leaving, 1, bias=False)
        self.stack_heed = nn.Linear(entering, leaving)
        self.stack_keep = nn.Linear(entering, leaving)

    def forward(  # type: ignore[override]
        self, moments: torch.Tensor, bands: torch.Tensor, stack: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        count = moments.shape[1]
        nodes = torch.cat([self.enter[0](moments), self.enter[1](bands)], dim=1)
        scores = self._scores(nodes)
        upper = torch.cat([scores[:, :count, :count, 0], scores[:, :count, count:, 1]], dim=2)
        lower = torch.cat([scores[:, count:, :count, 1], scores[:, count:, count:, 2]], dim=2)
        updated = self._update(nodes, torch.cat([upper, lower], dim=1))
        heeded = self.stack_score(torch.tanh(self.stack_compare(nodes * stack)))
        weights = torch.softmax(heeded / self.temperature, dim=1).transpose(1, 2)
        stack = self.stack_heed(weights @ nodes) + self.stack_keep(stack)
        return updated[:, :count], updated[:, count:], stack


class _GraphPool(nn.Module):
    """Keeps the ``share`` of the nodes with the highest learnt scores (Gao and Ji 2019)."""

    def __init__(self, width: int, *, share: float) -> None:
        super().__init__()
        self.share = share
        self.score = nn.Sequential(nn.Dropout(0.3), nn.Linear(width, 1), nn.Sigmoid())

    def forward(self, nodes: torch.Tensor) -> torch.Tensor:
        scores = self.score(nodes)
        best = scores.topk(max(1, int(nodes.shape[1] * self.share)), dim=1).indices
        kept: torch.Tensor = (nodes * scores).gather(1, best.expand(-1, -1, nodes.shape[2]))
        return kept


class _StackingBranch(nn.Module):
    """Two rounds of stacking attention: moments, bands and the stack node (n, …, leaving)."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.stack = nn.Parameter(torch.randn(1, 1, entering))
        self.first = _StackingAttention(entering, leaving)
        self.second = _StackingAttention(leaving, leaving)
        self.pools = nn.ModuleList([_GraphPool(leaving, share=0.5) for _ in range(2)])

    def forward(self, moments: torch.Tensor, bands: torch.Tensor) -> list[torch.Tensor]:
        stack = self.stack.expand(moments.shape[0], -1, -1)
        moments, bands, stack = self.first(moments, bands, stack)
        moments, bands = self.pools[0](moments), self.pools[1](bands)
        more = self.second(moments, bands, stack)
        return [old + new for old, new in zip((moments, bands, stack), more, strict=True)]


class SincGraph(SpeechNet):
    """A network in the manner of AASIST (Jung et al. 2022), with a front end of a lower rate.

    Band envelopes enter six residual blocks of ``width`` or twice as many channels. The largest
    values over bands and over time are the nodes of a graph of moments and one of bands; two
    branches of stacking attention join them, of which the larger value counts.
    """

    def __init__(
        self, *, width: int = 32, nodes: int = 32, hop: int = 32, equalised: bool = True
    ) -> None:
        envelope = SincEnvelope(hop=hop, equalised=equalised)
        super().__init__(envelope, rows=envelope.rows, hidden_frames=6400 // hop)
        widths = (1, width, width, *[2 * width] * 4)
        blocks = [
            _EncoderBlock(entering, leaving, pool=2, first=not index)
            for index, (entering, leaving) in enumerate(pairwise(widths))
        ]
        self.trunk = nn.Sequential(nn.BatchNorm2d(1), nn.SELU(), *blocks)
        self.place = nn.Parameter(torch.randn(1, envelope.rows, 2 * width))
        sides = [(nn.Dropout(0.2), _GraphAttention(2 * width, 2 * width)) for _ in range(2)]
        self.moments = nn.Sequential(*sides[0], _GraphPool(2 * width, share=0.7))
        self.bands = nn.Sequential(*sides[1], _GraphPool(2 * width, share=0.5))
        self.branches = nn.ModuleList([_StackingBranch(2 * width, nodes) for _ in range(2)])
        self.decide = nn.Sequential(nn.Dropout(0.5), nn.Linear(5 * nodes, 1))

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        hidden = self.trunk(features).abs()
        moments = self.moments(hidden.amax(dim=2).transpose(1, 2))
        bands = self.bands(hidden.amax(dim=3).transpose(1, 2) + self.place)
        one, two = (branch(moments, bands) for branch in self.branches)
        *graphs, stack = (torch.maximum(a, b) for a, b in zip(one, two, strict=True))
        readouts = [value for graph in graphs for value in (graph.abs().amax(1), graph.mean(1))]
        logits: torch.Tensor = self.decide(torch.cat([*readouts, stack[:, 0]], dim=1))[:, 0]
        return logits


class SpeechPair(nn.Module):
    """Two speech networks, each made by ``create`` from its ``name`` and ``options``, as one.

    The logit is the mean of theirs by ``weights``, each times its own of ``scales`` first. Both
    are stored with the weights; the members are trained apart and loaded.
    """

    weights: torch.Tensor
    scales: torch.Tensor

    def __init__(self, *, first: dict[str, Any], second: dict[str, Any]) -> None:
        super().__init__()
        self.first, self.second = (
            create(member["name"], **member.get("options", {})) for member in (first, second)
        )
        self.register_buffer("weights", torch.full((2,), 0.5))
        self.register_buffer("scales", torch.ones(2))

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        logits = torch.stack([self.first(samples), self.second(samples)], dim=1)
        return (logits * self.scales * self.weights).sum(dim=1)
