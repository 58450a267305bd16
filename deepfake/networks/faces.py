"""The network of the ``face`` slot: aligned faces (n, 3, side, side) in -1…1 to logits (n,).

Where a face was blended in, its grain and its edges differ from those around it; so the residuals
keep their place and join the features of the picture before the higher stages compare one part of
the face with another.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .pictures import HighPass

LOW_WIDTH = 32


class ResidualMap(nn.Module):
    """Convolutions on high-pass residuals of pictures (n, 3, side, side), to a map of an eighth of
    their side (n, 32, side / 8, side / 8).
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [HighPass()]
        for entering, leaving, side in ((9, 16, 5), (16, 24, 3), (24, 48, 3)):
            layers.append(
                nn.Conv2d(entering, leaving, side, stride=2, padding=side // 2, bias=False)
            )
            layers += [nn.BatchNorm2d(leaving), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(48, LOW_WIDTH, 1))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        mapped: torch.Tensor = self.layers(pictures)
        return mapped


class FaceNet(nn.Module):
    """MobileNetV2 (Sandler et al. 2018) up to ``stages`` stages after the third, its features at an
    eighth of the size joined by a :class:`ResidualMap` (``residual``).

    ``low`` (stem and three stages) can stay fixed in training; ``point`` tells where the face was
    changed (Face X-ray, Li et al. 2020), which only training asks for.
    """

    def __init__(self, *, stages: int = 3, residual: bool = True) -> None:
        import timm

        super().__init__()
        trunk: Any = timm.create_model("mobilenetv2_100", pad_type="same")
        self.low = nn.Sequential(trunk.conv_stem, trunk.bn1, *trunk.blocks[:3])
        self.high = nn.Sequential(*trunk.blocks[3 : 3 + stages])
        self.stages = stages
        self.residual = ResidualMap() if residual else None
        width = (96, 160, 320)[stages - 2]
        self.point = nn.Conv2d(96, 1, 1)
        self.decide = nn.Sequential(nn.Dropout(0.3), nn.Linear(width + 2 * 96, 1))

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return self.judge(crops, self.low(crops))

    def judge(self, crops: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Logits from crops and what ``low`` made of them."""
        return self.examine(crops, hidden)[0]

    def examine(
        self, crops: torch.Tensor, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (n,), and those of each place having been changed (n, side / 16, side / 16)."""
        if self.residual is not None:
            hidden = hidden + self.residual(crops)
        middle = self.high[:2](hidden)
        local = middle.float()
        pooled = [local.mean(dim=(2, 3)), local.amax(dim=(2, 3))]
        pooled.append(self.high[2:](middle).float().mean(dim=(2, 3)))
        logits: torch.Tensor = self.decide(torch.cat(pooled, dim=1))[:, 0]
        return logits, self.point(middle)[:, 0]
