"""The network of the ``face-finder`` slot: a small single-shot detector with landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn

STRIDES = (8, 16, 32)
VALUES = 15
"""A logit, four logarithms of distances and ten coordinates of landmarks for every place."""


class FaceFinder(nn.Module):
    """Pictures (n, 3, height, width) in -1…1, both sides multiples of 32, to a map (n, places, 15)
    as :func:`deepfake.engine.maps.read_map` reads it.

    Anchor-free (Tian et al. 2019, as in Wu et al. 2023): plain convolutions down to a 32nd of the
    size, where a CPU is quick at them, a feature pyramid (Lin et al. 2017) from the top down, and a
    head of separable convolutions for every level. ``channels`` are those at a quarter, eighth,
    16th and 32nd of the size; ``width`` is that of the pyramid. A ``fused`` network has no batch
    normalisation left; see :meth:`fuse`.
    """

    def __init__(
        self,
        *,
        stem: int = 16,
        channels: Sequence[int] = (32, 48, 64, 64),
        width: int = 48,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.options = {"stem": stem, "channels": list(channels), "width": width, "fused": fused}
        quarter, *deeper = channels
        layer = partial(_convolution, fused=fused)
        self.stem = nn.Sequential(layer(3, stem, stride=2), layer(stem, quarter, stride=2))
        entering = [quarter, *deeper[:-1]]
        self.stages = nn.ModuleList(
            nn.Sequential(layer(before, after, stride=2), ResidualBlock(after, fused=fused))
            for before, after in zip(entering, deeper, strict=True)
        )
        self.narrow = nn.ModuleList(layer(count, width, side=1) for count in deeper)
        self.blend = nn.ModuleList(_separable(width, fused=fused) for _ in STRIDES)
        self.heads = nn.ModuleList(
            nn.Sequential(_separable(width, fused=fused), nn.Conv2d(width, VALUES, 1))
            for _ in STRIDES
        )
        for head in self.heads:
            bias: Any = head[-1].bias  # type: ignore[index]
            nn.init.zeros_(bias)
            with torch.no_grad():
                bias[0] = -4.6  # one place in a hundred, so that the many empty ones start quiet
                bias[1:5] = 0.7

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        hidden, levels = self.stem(pictures), []
        for stage, narrow in zip(self.stages, self.narrow, strict=True):
            hidden = stage(hidden)
            levels.append(narrow(hidden))
        above: torch.Tensor | None = None
        for index in (2, 1, 0):
            if above is not None:
                wider = nn.functional.interpolate(above, scale_factor=2.0, mode="nearest")
                levels[index] = levels[index] + wider
            above = levels[index] = self.blend[index](levels[index])
        maps = [head(level) for head, level in zip(self.heads, levels, strict=True)]
        return torch.cat([part.flatten(2).transpose(1, 2) for part in maps], dim=1)

    def fuse(self) -> FaceFinder:
        """The same function in evaluation mode with every batch normalisation folded into the
        convolution before it, so that the weights can be rounded once for all backends.
        """
        result = FaceFinder(**{**self.options, "fused": True})  # type: ignore[arg-type]
        goal = dict(result.named_modules())
        layers = list(self.named_modules())
        with torch.no_grad():
            for (name, layer), (_, after) in pairwise([*layers, ("", self)]):
                if not isinstance(layer, nn.Conv2d):
                    continue
                fused = goal[name]
                assert isinstance(fused, nn.Conv2d)
                assert fused.bias is not None
                if isinstance(after, nn.BatchNorm2d):
                    mean, variance = after.running_mean, after.running_var
                    assert mean is not None
                    assert variance is not None
                    gain = after.weight * torch.rsqrt(variance + after.eps)
                    fused.weight.copy_(layer.weight * gain[:, None, None, None])
                    fused.bias.copy_(after.bias - mean * gain)
                elif layer.bias is not None:
                    fused.weight.copy_(layer.weight)
                    fused.bias.copy_(layer.bias)
        return result.eval()


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions around which the input goes (He et al. 2016)."""

    def __init__(self, count: int, *, fused: bool = False) -> None:
        super().__init__()
        self.first = _convolution(count, count, fused=fused)
        self.second = nn.Conv2d(count, count, 3, padding=1, bias=fused)
        self.normalise = nn.Identity() if fused else nn.BatchNorm2d(count)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.relu(hidden + self.normalise(self.second(self.first(hidden))))


def _convolution(
    entering: int,
    leaving: int,
    *,
    side: int = 3,
    stride: int = 1,
    groups: int = 1,
    fused: bool = False,
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(entering, leaving, side, stride, side // 2, groups=groups, bias=fused),
        nn.Identity() if fused else nn.BatchNorm2d(leaving),
        nn.ReLU(),
    )


def _separable(count: int, *, fused: bool) -> nn.Sequential:
    return nn.Sequential(
        _convolution(count, count, groups=count, fused=fused),
        _convolution(count, count, side=1, fused=fused),
    )
