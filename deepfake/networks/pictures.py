"""Networks for pictures: crops (windows, 3, side, side) in -1…1 to logits (windows,)."""

from __future__ import annotations

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
