"""Fit the heads of a :class:`StatisticsNet` to the statistics of a bank's couples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from deepfake.networks.pictures import StatisticsHead, StatisticsNet

from .bank import Bank
from .statistics import Statistics

LEAST_DEVIATION = 1e-3
"""Of channels that hardly ever change, which would otherwise be blown up."""


@dataclass(frozen=True)
class HeadSettings:
    """``shares`` weighs the standardised logits of each part of the network in the sum; parts that
    it does not name count in full.
    """

    epochs: int
    shares: dict[str, float]
    rate: float = 2e-3
    weight_decay: float = 0.05
    smoothing: float = 0.05
    couples_in_batch: int = 64
    seed: int = 1


def fit_heads(
    network: StatisticsNet,
    bank: Bank,
    statistics: Statistics,
    *,
    fold: int | None,
    settings: HeadSettings,
) -> StatisticsNet:
    """``network`` in evaluation mode with heads fitted to all couples but those of ``fold``.

    Both crops of a couple are always in one batch. Logits of every part are brought to a standard
    deviation of one (times its share) over those couples.
    """
    chosen = statistics[bank.without(fold)]
    start = 0
    for name, head in network.heads.items():
        assert isinstance(head, StatisticsHead)
        own = torch.from_numpy(chosen[..., start : start + len(head.mean)].copy())
        start += len(head.mean)
        fit_head(head, own, share=settings.shares.get(name, 1.0), settings=settings)
    return network.eval()


def fit_head(
    head: StatisticsHead, couples: torch.Tensor, *, share: float, settings: HeadSettings
) -> None:
    """Fit one head to statistics (couples, 2, features), genuine first."""
    torch.manual_seed(settings.seed)
    flat = couples.flatten(0, 1)
    head.mean.copy_(flat.mean(dim=0))
    head.deviation.copy_(flat.std(dim=0).clamp(min=LEAST_DEVIATION))
    head.share.fill_(1.0)
    for layer in head.layers:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    size = min(settings.couples_in_batch, len(couples))
    steps = settings.epochs * (len(couples) // size)
    optimiser = torch.optim.AdamW(
        head.parameters(), lr=settings.rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=steps, pct_start=0.2
    )
    targets = torch.tensor([0.0, 1.0]).repeat(size)
    targets = targets * (1 - 2 * settings.smoothing) + settings.smoothing
    head.train()
    for _ in range(settings.epochs):
        order = torch.randperm(len(couples))
        for first in range(0, len(order) - size + 1, size):
            logits = head(couples[order[first : first + size]].flatten(0, 1))
            loss = nn.functional.binary_cross_entropy_with_logits(logits, targets)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    head.eval()
    with torch.inference_mode():
        spread = float(np.std(head(flat).numpy()))
    head.share.fill_(share / max(spread, 1e-6))
