"""A raw-waveform network of AASIST's size and cost, to compare speeds with; its weights are random.

AASIST (Jung et al., ICASSP 2022) is a bank of 70 filters over 4 s of waveform, a residual encoder
and a few graph attention layers; it has 297,866 parameters in the authors' configuration. Nearly
all of its arithmetic is in the filters and the encoder, and those are built here layer by layer as
published: the same kernels, channels and sizes. Its graph layers work on 23 + 29 vectors and are
replaced by five attention layers over the same vectors. ``count_cost`` counts both (torch's
``FlopCounterMode``), and the benchmark prints them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

SAMPLE_RATE = 16_000
WINDOW_SAMPLES = 64_600
PARAMETERS_OF_AASIST = 297_866
CHANNELS = ((1, 32), (32, 32), (32, 64), (64, 64), (64, 64), (64, 64))


class Cost(NamedTuple):
    parameters: int
    macs: int


class Block(nn.Module):
    """Two convolutions over filters × time with a skip, then a third of the time steps."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, (2, 3), padding=(1, 1))
        self.norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, (2, 3), padding=(0, 1))
        self.skip: nn.Module = nn.Identity()
        if before != after:
            self.skip = nn.Conv2d(before, after, (1, 3), padding=(0, 1))
        self.pool = nn.MaxPool2d((1, 3))

    def forward(self, values: Tensor) -> Tensor:
        changed = self.second(nn.functional.selu(self.norm(self.first(values))))
        pooled: Tensor = self.pool(changed + self.skip(values))
        return pooled


class RawNetwork(nn.Module):
    """Waveforms (batch, 64,600) to logits (batch,)."""

    def __init__(self) -> None:
        super().__init__()
        self.filters: Tensor
        bands = torch.randn(70, 1, 129) / 129**0.5  # fixed band-passes in the original
        self.register_buffer("filters", bands)
        self.norm = nn.BatchNorm2d(1)
        self.encoder = nn.Sequential(*(Block(before, after) for before, after in CHANNELS))
        self.layers = nn.ModuleList(
            nn.MultiheadAttention(64, num_heads=4, batch_first=True) for _ in range(5)
        )
        self.head = nn.Linear(128, 1)

    def forward(self, samples: Tensor) -> Tensor:
        bands = nn.functional.conv1d(samples[:, None], self.filters)
        maps = nn.functional.max_pool2d(bands[:, None].abs(), (3, 3))
        maps = self.encoder(nn.functional.selu(self.norm(maps)))
        spectral, temporal = maps.amax(3).transpose(1, 2), maps.amax(2).transpose(1, 2)
        nodes = torch.cat([spectral, temporal], dim=1)
        for layer in self.layers:
            nodes = nodes + layer(nodes, nodes, nodes, need_weights=False)[0]
        logits: Tensor = self.head(torch.cat([nodes.amax(1), nodes.mean(1)], dim=1))[:, 0]
        return logits


def count_cost() -> Cost:
    """Trainable parameters, and multiply-accumulates (two operations each) for one window."""
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network = RawNetwork().eval()
        network(torch.zeros(1, WINDOW_SAMPLES))
    return Cost(sum(part.numel() for part in network.parameters()), counter.get_total_flops() // 2)
