"""MobileNetV2 tuned end to end on seeded batches, both classes alike; every slot that does so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from .fitting import Loop, Losses, fit_once, fit_steps
from .imagenet import load_mobilenet

Net = TypeVar("Net", bound=nn.Module)
Draw = Callable[[int, int], tuple[torch.Tensor, torch.Tensor]]
"""From a step and a size to a batch (size, …) and its labels (size,), the same at every call."""
Change = Callable[[nn.Module, torch.Tensor, torch.Tensor, int], torch.Tensor]
"""From the network, a batch, its goals (size,) and a step to the batch that is learnt from."""
_PARTS = ("conv_stem", "bn1", "blocks", "conv_head", "bn2")


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Batches of ``batch``, half of each class; ``smoothing`` moves the labels off 0 and 1; weights
    are averaged with decay ``average``.
    """

    seed: int
    batch: int = 32
    learning_rate: float = 4e-4
    weight_decay: float = 0.02
    smoothing: float = 0.03
    average: float = 0.998


def tune_network(
    make: Callable[[], Net],
    draw: Draw,
    *,
    examples: int,
    settings: Tuning,
    weights: Path,
    path: Path,
    start: dict[str, torch.Tensor] | None = None,
    change: Change | None = None,
) -> Net:
    """What ``make`` gives, tuned on so many ``examples``, or the network that ``path`` holds; an
    interrupted run goes on from its checkpoint. Its ``trunk`` begins with the ImageNet weights in
    ``weights``, or all of it with the state ``start``. Batches meet a ``change`` before they are
    learnt from. Raises ``ModelError`` for missing weights.
    """

    def fit(network: Net) -> Net:
        if start:
            network.load_state_dict(start)
        else:
            load_mobilenet(network, weights, places={part: f"trunk.{part}" for part in _PARTS})
        network.to(memory_format=torch.channels_last)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        steps = max(2, examples // settings.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=settings.learning_rate, total_steps=steps, pct_start=0.05
        )

        def losses_at(step: int) -> Losses:
            batch, labels = draw(step, settings.batch)
            goal = labels * (1 - 2 * settings.smoothing) + settings.smoothing
            if change is not None:
                batch = change(network, batch, goal, step)
            return {"loss": nn.functional.binary_cross_entropy_with_logits(network(batch), goal)}

        return fit_steps(
            network,
            losses_at,
            optimiser,
            schedule,
            Loop(steps=steps, round_steps=100, average=settings.average, warm_up=True),
            checkpoint=path.with_suffix(".checkpoint"),
            name=path.stem,
        )

    torch.manual_seed(settings.seed)
    return fit_once(make(), path, fit)
