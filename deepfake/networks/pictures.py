"""Networks for pictures: crops (windows, 3, side, side) in -1…1 to logits (windows,)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn


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


class MobilePicture(nn.Module):
    """Crops (n, 3, side, side) in -1…1 to logits (n,): the whole of MobileNetV2 (Sandler et al.
    2018), tuned end to end.
    """

    def __init__(self) -> None:
        import timm

        super().__init__()
        trunk: Any = timm.create_model(
            "mobilenetv2_100", pad_type="same", num_classes=1, drop_rate=0.2
        )
        nn.init.zeros_(trunk.classifier.weight)  # timm's start is far too large for one class
        self.trunk = trunk

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.trunk(crops)[:, 0]
        return logits
