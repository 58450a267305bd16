"""Fit the face finder to drawn scenes, with checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from deepfake.networks.finder import FaceFinder
from deepfake.preprocess import Pixels

from ..fitting import Loop, Losses, fit_steps
from .scenes import SceneDrawer
from .targets import MapLoss, make_targets

STEPS_PER_ROUND = 200


@dataclass(frozen=True)
class FinderFitSettings:
    """``canvases`` are height, width and how many scenes of that size make a batch; every step
    draws one of them. ``rate`` is the highest learning rate, reached after the share ``warm_up``
    of the steps and left after the share ``hold``, ``average`` the decay of the running
    average of the weights, which is what is kept, ``landmarks`` the weight of their loss.
    """

    steps: int
    canvases: tuple[tuple[int, int, int], ...] = ((256, 256, 20), (320, 320, 12), (512, 512, 5))
    rate: float = 3e-3
    weight_decay: float = 0.01
    warm_up: float = 0.05
    hold: float = 0.05
    average: float = 0.998
    landmarks: float = 1.0
    seed: int = 1


def fit_finder(
    network: FaceFinder, drawer: SceneDrawer, settings: FinderFitSettings, *, checkpoint: Path
) -> FaceFinder:
    """The averaged network in evaluation mode; goes on from ``checkpoint`` if there is one.

    Every step draws from a seed of its own, so that a resumed fit is the same fit.
    """
    network = network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: pace_at(step, settings))
    losses = [MapLoss(rows=height, columns=width) for height, width, _ in settings.canvases]

    def losses_at(step: int) -> Losses:
        rng = np.random.default_rng([settings.seed, step])
        kind = int(rng.integers(len(settings.canvases)))
        height, width, count = settings.canvases[kind]
        drawn = [drawer.draw(rng, height=height, width=width) for _ in range(count)]
        batch = to_batch([pixels for pixels, _ in drawn])
        targets = make_targets([labels for _, labels in drawn], rows=height, columns=width)
        with torch.autocast("cpu", torch.bfloat16):
            maps = network(batch)
        found = losses[kind](maps.float(), targets)
        return {"loss": found.total(landmarks=settings.landmarks), **found.parts()}

    loop = Loop(steps=settings.steps, round_steps=STEPS_PER_ROUND, average=settings.average)
    result = fit_steps(
        network, losses_at, optimiser, schedule, loop, checkpoint=checkpoint, name="face finder"
    )
    return result.to(memory_format=torch.contiguous_format)


def pace_at(step: int, settings: FinderFitSettings) -> float:
    """The share of the highest learning rate: up along a cosine, held, and down along one to
    nothing.
    """
    warm, held = settings.warm_up * settings.steps, settings.hold * settings.steps
    if step < warm:
        return 0.04 + 0.48 * (1 - float(np.cos(np.pi * step / warm)))
    left = max(0.0, (step - held) / max(1.0, settings.steps - held))
    return 0.5 * (1 + float(np.cos(np.pi * left)))


def to_batch(pictures: Sequence[Pixels]) -> torch.Tensor:
    """Pictures (height, width, 3) as (n, 3, height, width) in -1…1, as ``FinderPreprocess``."""
    stacked = np.stack(pictures).astype(np.float32) / np.float32(127.5) - 1
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)  # stays channels last in memory
