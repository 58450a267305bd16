"""CLIP's vision transformer as a source of features: tokens of several depths."""

from __future__ import annotations

import torch
from torch import nn


class ClipBlock(nn.Module):
    """One pre-norm transformer block of width 768 with 12 heads (Radford et al. 2021)."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.join = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (n, count, width) to as many."""
        normed = self.before(tokens)
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(normed), self.key(normed), self.value(normed))
        )
        met = nn.functional.scaled_dot_product_attention(query, key, value)
        kept = tokens + self.join(met.transpose(1, 2).flatten(2))
        wide = self.widen(self.between(kept))
        result: torch.Tensor = kept + self.narrow(wide * torch.sigmoid(1.702 * wide))
        return result


class ClipTokens(nn.Module):
    """Crops (n, 3, 224, 224), scaled with CLIP's mean and deviation, to what the blocks ``first`` …
    ``last`` (counted from 1) of ViT-B/16 leave: of each the class token and the mean of the tokens
    of all patches, with ``spread`` their standard deviation too, side by side (n, depths * 2 * 768
    or depths * 3 * 768).
    """

    width = 768

    def __init__(self, *, first: int = 5, last: int = 8, spread: bool = False) -> None:
        super().__init__()
        self.first, self.last, self.spread = first, last, spread
        self.patches = nn.Conv2d(3, self.width, 16, stride=16, bias=False)
        self.token = nn.Parameter(torch.zeros(self.width))
        self.places = nn.Parameter(torch.zeros(197, self.width))
        self.entry = nn.LayerNorm(self.width)
        self.blocks = nn.ModuleList(ClipBlock(width=self.width, heads=12) for _ in range(last))

    @property
    def features(self) -> int:
        return (3 if self.spread else 2) * self.width * (self.last - self.first + 1)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        patches = self.patches(crops).flatten(2).transpose(1, 2)
        token = self.token.expand(patches.shape[0], 1, -1)
        tokens = self.entry(torch.cat([token, patches], dim=1) + self.places)
        found = []
        for depth, block in enumerate(self.blocks, 1):
            tokens = block(tokens)
            if depth >= self.first:
                means = tokens[:, 1:].mean(dim=1)
                found += [tokens[:, 0], means]
                if self.spread:
                    apart = tokens[:, 1:] - means[:, None]
                    found.append(torch.sqrt(apart.square().mean(dim=1) + 1e-8))
        return torch.cat(found, dim=1)


class ClipPicture(nn.Module):
    """Crops (n, 3, 224, 224) to logits (n,): the features of :class:`ClipTokens`, standardised and
    cut off at six deviations, and one linear layer.

    With two ``scales``, crops (n, 3, 448, 448): the features of their left upper quarter and those
    of the whole at half its size, side by side.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(
        self, *, first: int = 5, last: int = 8, scales: int = 1, spread: bool = False
    ) -> None:
        super().__init__()
        self.scales = scales
        self.trunk = ClipTokens(first=first, last=last, spread=spread)
        features = scales * self.trunk.features
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.decide = nn.Linear(features, 1)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        if self.scales == 1:
            return self.judge(self.trunk(crops))
        quarter = crops[..., : crops.shape[-2] // 2, : crops.shape[-1] // 2]
        both = self.trunk(torch.cat([quarter, nn.functional.avg_pool2d(crops, 2)]))
        return self.judge(torch.cat(both.tensor_split(2), dim=1))

    def judge(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits from features (n, features)."""
        standard = ((tokens - self.mean) / self.deviation).clamp(-6, 6)
        logits: torch.Tensor = self.decide(standard)[:, 0]
        return logits

    def alone(self) -> ClipPicture:
        """The network of one scale that sees crops as they are."""
        network = ClipPicture(
            first=self.trunk.first, last=self.trunk.last, spread=self.trunk.spread
        ).eval()
        network.trunk.load_state_dict(self.trunk.state_dict())
        features = self.trunk.features
        with torch.no_grad():
            network.mean.copy_(self.mean[:features])
            network.deviation.copy_(self.deviation[:features])
            network.decide.weight.copy_(self.scales * self.decide.weight[:, :features])
            network.decide.bias.copy_(self.decide.bias)
        return network
