"""Networks for pictures: crops (windows, 3, side, side) in -1…1 to logits (windows,)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


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


class ResidualStatistics(nn.Module):
    """How strong the finest detail of a picture is, and how it is distributed.

    Residuals of brightness after a Laplacian and after the square kernel of 5×5 of Fridrich and
    Kodovsky (2012). Of each residual the logarithms of its mean size and of its root mean square,
    and its mean size when cut off at 0.5, 1, 2 … 16 grey levels, which together tell its
    distribution. No statistic depends on a place, so none on a block grid.
    """

    kernels: torch.Tensor
    brightness: torch.Tensor
    features = 16

    def __init__(self) -> None:
        super().__init__()
        laplacian = torch.zeros(5, 5)
        laplacian[1:4, 1:4] = torch.tensor([[-1.0, 2, -1], [2, -4, 2], [-1, 2, -1]]) / 4
        rows = [[-1.0, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2]]
        bank = [laplacian, torch.tensor([*rows, rows[1], rows[0]]) / 12]
        brightness = torch.tensor([0.299, 0.587, 0.114])
        self.register_buffer("kernels", 127.5 * torch.stack(bank)[:, None], persistent=False)
        self.register_buffer("brightness", brightness[None, :, None, None], persistent=False)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        grey = nn.functional.conv2d(pictures, self.brightness)
        sizes = nn.functional.conv2d(grey, self.kernels).abs()
        mean = torch.log(sizes.mean(dim=(2, 3)) + 0.02)
        energy = 0.5 * torch.log(sizes.square().mean(dim=(2, 3)) + 0.02)
        cut = [sizes.clamp(max=2.0**k).mean(dim=(2, 3)) / 2.0**k for k in range(-1, 5)]
        return torch.cat([mean, energy, *cut], dim=1)


class TrunkStatistics(nn.Module):
    """Mean and deviation of every channel after each of the first ``stages`` stages of MobileNetV2
    (Sandler et al. 2018): textures and what they belong to, whatever their place.

    ``folded`` says that batch normalisation is part of the convolutions, as :meth:`fold` makes it.
    """

    def __init__(self, *, stages: int, folded: bool = False) -> None:
        import timm

        super().__init__()
        trunk: Any = timm.create_model("mobilenetv2_100", pad_type="same")
        self.stem = nn.Sequential(trunk.conv_stem, trunk.bn1)
        self.stages = nn.ModuleList(trunk.blocks[:stages])
        self.features = 2 * sum((16, 24, 32, 64, 96, 160, 320)[:stages])
        if folded:
            self.fold()

    def fold(self) -> None:
        """Put every batch normalisation into the convolution before it, in place."""
        places: list[tuple[nn.Module, str, str]] = [(self.stem, "0", "1")]
        for block in (block for stage in self.stages for block in stage.children()):
            names: tuple[str, ...] = ("conv_pw", "conv_dw", "conv_pwl")
            if not hasattr(block, "conv_pwl"):
                names = ("conv_dw", "conv_pw")
            places += [(block, name, f"bn{number}") for number, name in enumerate(names, 1)]
        for owner, name, normalisation in places:
            conv, norm = owner.get_submodule(name), owner.get_submodule(normalisation)
            weight, bias = fuse_conv_bn_weights(
                *(conv.weight, conv.bias, norm.running_mean, norm.running_var),  # type: ignore[arg-type]
                *(norm.eps, norm.weight, norm.bias),  # type: ignore[arg-type]
            )
            conv.weight, conv.bias = weight, bias
            setattr(owner, normalisation, norm.act)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        hidden, found = self.stem(pictures), []
        for stage in self.stages:
            hidden = stage(hidden)
            mean = hidden.mean(dim=(2, 3))
            spread = (hidden - mean[:, :, None, None]).square().mean(dim=(2, 3))
            found += [mean, torch.sqrt(spread + 1e-5)]
        return torch.cat(found, dim=1)


class StatisticsHead(nn.Module):
    """Standardised statistics (n, features), cut off at five deviations, through one hidden layer
    to logits (n,), which ``share`` scales.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    share: torch.Tensor

    def __init__(self, features: int, *, hidden: int, dropped: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.register_buffer("share", torch.ones(()))
        self.layers = nn.Sequential(
            *(nn.Dropout(dropped), nn.Linear(features, hidden), nn.GELU()),
            *(nn.Dropout(0.4), nn.Linear(hidden, 1)),
        )

    def forward(self, statistics: torch.Tensor) -> torch.Tensor:
        standard = ((statistics - self.mean) / self.deviation).clamp(-5, 5)
        logits: torch.Tensor = self.share * self.layers(standard)[:, 0]
        return logits


PARTS: dict[str, Callable[..., nn.Module]] = {
    "trunk": TrunkStatistics,
    "residual": ResidualStatistics,
}


class StatisticsNet(nn.Module):
    """Crops (n, 3, side, side) in -1…1 to logits (n,): statistics that are not trained, each kind
    judged by a small head of its own, whose logits are added.

    ``parts`` names the kinds of :data:`PARTS` with their options, and the ``hidden`` width and the
    ``dropped`` share of inputs of their heads.
    """

    def __init__(self, *, parts: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        self.parts, self.heads = nn.ModuleDict(), nn.ModuleDict()
        for name, options in parts.items():
            own = {k: v for k, v in options.items() if k not in ("hidden", "dropped")}
            self.parts[name] = PARTS[name](**own)
            self.heads[name] = StatisticsHead(
                int(self.parts[name].features),  # type: ignore[arg-type]
                hidden=int(options["hidden"]),
                dropped=float(options.get("dropped", 0.2)),
            )

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return self.judge(self.statistics(crops))

    def statistics(self, crops: torch.Tensor) -> torch.Tensor:
        """The statistics of all parts side by side (n, features)."""
        return torch.cat([part(crops) for part in self.parts.values()], dim=1)

    def judge(self, statistics: torch.Tensor) -> torch.Tensor:
        """Logits from the statistics."""
        sizes = [int(part.features) for part in self.parts.values()]  # type: ignore[arg-type]
        some = torch.split(statistics, sizes, dim=1)
        return torch.stack(
            [head(own) for head, own in zip(self.heads.values(), some, strict=True)]
        ).sum(dim=0)
