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


class ShrunkPicture(MobilePicture):
    """As :class:`MobilePicture`, on crops (n, 3, 2 * side, 2 * side) at half their size."""

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.avg_pool2d(crops, 2))


class TwoScalePicture(nn.Module):
    """Crops (n, 3, 2 * side, 2 * side) in -1…1 to logits (n,): the mean logit of two networks, of
    which one sees the left upper quarter as it is, which no padding reaches first, and the other
    the whole at half its size.
    """

    width = 1280
    scales = 2

    def __init__(self) -> None:
        import timm

        super().__init__()
        make: Any = timm.create_model
        self.near = make("mobilenetv2_100", pad_type="same", num_classes=0)
        self.far = make("mobilenetv2_100", pad_type="same", num_classes=0)
        self.decide = nn.Linear(2 * self.width, 1)

    @classmethod
    def join(cls, near: MobilePicture, far: MobilePicture) -> TwoScalePicture:
        """Of two networks that were tuned apart, ``far`` as a :class:`ShrunkPicture`."""
        joined = cls().eval()
        layers = []
        for own, one in ((joined.near, near), (joined.far, far)):
            state = one.trunk.state_dict()
            layers.append([state.pop(f"classifier.{part}") for part in ("weight", "bias")])
            own.load_state_dict(state)
        (weight, bias), (far_weight, far_bias) = layers
        with torch.no_grad():
            joined.decide.weight.copy_(torch.cat([weight, far_weight], dim=1) / 2)
            joined.decide.bias.copy_((bias + far_bias) / 2)
        return joined

    def alone(self) -> MobilePicture:
        """The network that sees crops as they are, by itself."""
        network = MobilePicture().eval()
        network.trunk.load_state_dict(
            self.near.state_dict()
            | {
                "classifier.weight": 2 * self.decide.weight.detach()[:, : self.width],
                "classifier.bias": self.decide.bias.detach(),
            }
        )
        return network

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        quarter = crops[..., : crops.shape[-2] // 2, : crops.shape[-1] // 2]
        features = [self.near(quarter), self.far(nn.functional.avg_pool2d(crops, 2))]
        logits: torch.Tensor = self.decide(torch.cat(features, dim=1))[:, 0]
        return logits
