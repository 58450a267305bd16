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

    With two ``scales`` the mean of what it says of their left upper quarter and of the whole at
    half its size.
    """

    def __init__(self, *, scales: int = 1) -> None:
        import timm

        super().__init__()
        self.scales = scales
        trunk: Any = timm.create_model(
            "mobilenetv2_100", pad_type="same", num_classes=1, drop_rate=0.2
        )
        nn.init.zeros_(trunk.classifier.weight)  # timm's start is far too large for one class
        self.trunk = trunk

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        if self.scales == 1:
            logits: torch.Tensor = self.trunk(crops)[:, 0]
            return logits
        quarter = crops[..., : crops.shape[-2] // 2, : crops.shape[-1] // 2]
        both = self.trunk(torch.cat([quarter, nn.functional.avg_pool2d(crops, 2)]))[:, 0]
        near, far = both.tensor_split(2)
        mean: torch.Tensor = (near + far) / 2
        return mean

    def alone(self) -> MobilePicture:
        """The network of one scale that sees crops as they are, which has the same weights."""
        network = MobilePicture().eval()
        network.load_state_dict(self.state_dict())
        return network
