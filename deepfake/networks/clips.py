"""Networks for clips: bursts (n, frames, 3, side, side) in -1…1 to logits (n,)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

EPSILON = 1e-3


class ClipNet(nn.Module):
    """How frames look and how they change, step by step, then a 1-D convolution over time.

    ``low``, ``middle`` and ``high`` are MobileNetV2 (Sandler et al. 2018) without its last stages;
    their ImageNet weights stay fixed. The deepest features tell the ``look`` of each frame; how
    much the early ones change from frame to frame (``motion``) tells frozen, flickering and blended
    frames. ``residual`` is a small branch on differences of brightness and of its Laplacian at full
    size. The options switch these three on or off.
    """

    LOOK = 160
    MAPS = (32, 96)

    def __init__(
        self, *, look: bool = True, motion: bool = True, residual: bool = True, width: int = 32
    ) -> None:
        import timm

        super().__init__()
        trunk: Any = timm.create_model("mobilenetv2_100", pad_type="same")
        self.low = nn.Sequential(trunk.conv_stem, trunk.bn1, *trunk.blocks[:3])
        self.middle = nn.Sequential(*trunk.blocks[3:5])
        self.high = trunk.blocks[5]
        self.look = Projection(self.LOOK, width) if look else None
        self.motion = Projection(CHANGES * sum(self.MAPS), width) if motion else None
        self.residual = MotionResidual(width) if residual else None
        total = width * (look + motion + residual)
        self.over_time = nn.Sequential(
            nn.Dropout(0.3), nn.Conv1d(total, width, 3, padding=1), nn.GELU()
        )
        self.decide = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * width, 1))

    def forward(self, bursts: torch.Tensor) -> torch.Tensor:
        return self.judge(bursts, self.features(bursts))

    def features(self, bursts: torch.Tensor) -> torch.Tensor:
        """What the fixed trunk tells of bursts (n, frames, 800): the look of each frame in 160
        numbers and the changes around it in 5 · 128.
        """
        count, frames = bursts.shape[:2]
        low = self.low(bursts.flatten(0, 1))
        middle = self.middle(low)
        look = self.high(middle).float().mean(dim=(2, 3)).unflatten(0, (count, frames))
        maps = [m.float().unflatten(0, (count, frames)) for m in (low, middle)]
        return torch.cat([look, *(changes(m) for m in maps)], dim=2)

    def judge(self, bursts: torch.Tensor, described: torch.Tensor) -> torch.Tensor:
        """Logits from bursts and what :meth:`describe` made of them."""
        parts = []
        if self.look is not None:
            parts.append(self.look(described[:, :, : self.LOOK]))
        if self.motion is not None:
            parts.append(self.motion(described[:, :, self.LOOK :]))
        if self.residual is not None:
            parts.append(self.residual(bursts))
        steps = self.over_time(torch.cat(parts, dim=1))
        pooled = torch.cat([steps.mean(dim=2), steps.amax(dim=2)], dim=1)
        logits: torch.Tensor = self.decide(pooled.float())[:, 0]
        return logits


class Projection(nn.Module):
    """Features of every step (n, frames, features), each brought to one scale, to (n, width,
    frames).
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.scale = nn.BatchNorm1d(features)
        self.drop = nn.Dropout(0.2)
        self.project = nn.Linear(features, width)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        scaled = self.drop(self.scale(steps.transpose(1, 2)).transpose(1, 2))
        projected: torch.Tensor = nn.functional.gelu(self.project(scaled)).transpose(1, 2)
        return projected


CHANGES = 5


def changes(maps: torch.Tensor) -> torch.Tensor:
    """How feature maps (n, frames, c, h, w) change around each frame: (n, frames, 5 · c).

    Logarithms of the mean size of the first and of the second difference in time, of the first
    one's largest and smallest mean over a cell of a 4 × 4 grid, and of the spread in space of the
    map itself. A steady motion has a small second difference, a flicker a large one; a frozen part
    has a cell without change beside others.
    """
    count, frames = maps.shape[:2]
    first = (maps[:, 1:] - maps[:, :-1]).abs()
    second = (maps[:, 2:] - 2 * maps[:, 1:-1] + maps[:, :-2]).abs().mean(dim=(3, 4))
    side = maps.shape[3] // 4
    cells = nn.functional.avg_pool2d(first.flatten(0, 1), side).flatten(2)
    cells = cells.reshape(count, frames - 1, *cells.shape[1:])
    spread = (maps - maps.mean(dim=(3, 4), keepdim=True)).square().mean(dim=(3, 4))
    parts = [
        torch.cat([cells.mean(dim=3), cells.mean(dim=3)[:, -1:]], dim=1),
        torch.cat([second[:, :1], second, second[:, -1:]], dim=1),
        torch.cat([cells.amax(dim=3), cells.amax(dim=3)[:, -1:]], dim=1),
        torch.cat([cells.amin(dim=3), cells.amin(dim=3)[:, -1:]], dim=1),
        torch.sqrt(spread + EPSILON**2),
    ]
    return torch.log(torch.cat(parts, dim=2) + EPSILON)


class MotionResidual(nn.Module):
    """Convolutions on differences of neighbouring frames (n, frames, 3, side, side), in brightness
    and in its Laplacian, pooled to means and deviations: (n, width, frames).
    """

    laplacian: torch.Tensor

    def __init__(self, width: int, *, gain: float = 6.0) -> None:
        super().__init__()
        kernel = torch.tensor([[-1.0, 2.0, -1.0], [2.0, -4.0, 2.0], [-1.0, 2.0, -1.0]]) / 4
        self.register_buffer("laplacian", kernel[None, None], persistent=False)
        self.gain = gain
        layers: list[nn.Module] = []
        for entering, leaving in ((5, 12), (12, 24), (24, 40)):
            layers.append(nn.Conv2d(entering, leaving, 3, stride=2, padding=1, bias=False))
            layers += [nn.BatchNorm2d(leaving), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.project = nn.Linear(80, width)

    def forward(self, bursts: torch.Tensor) -> torch.Tensor:
        count, frames = bursts.shape[:2]
        bright = bursts.mean(dim=2)
        fine = nn.functional.conv2d(bright.flatten(0, 1)[:, None], self.laplacian, padding=1)
        fine = fine.reshape(bright.shape)
        moved, shaken = bright[:, 1:] - bright[:, :-1], fine[:, 1:] - fine[:, :-1]
        planes = [moved[:, :-1], moved[:, 1:], shaken[:, :-1], shaken[:, 1:], fine[:, 1:-1]]
        stacked = (self.gain * torch.stack(planes, dim=2)).clamp(-3, 3)
        hidden = self.layers(stacked.flatten(0, 1)).flatten(2).float()
        mean = hidden.mean(dim=2)
        spread = (hidden - mean[:, :, None]).square().mean(dim=2)
        pooled = torch.cat([mean, torch.sqrt(spread + 1e-4)], dim=1)
        steps = nn.functional.gelu(self.project(pooled)).reshape(count, frames - 2, -1)
        whole = torch.cat([steps[:, :1], steps, steps[:, -1:]], dim=1)
        return whole.transpose(1, 2)
