"""Fit the face finder to drawn scenes, with checkpoints."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from deepfake.networks.finder import FaceFinder
from deepfake.preprocess import Pixels

from ..fitting import average_weights, read_checkpoint, save_checkpoint
from .scenes import SceneDrawer
from .targets import MapLoss, make_targets

STEPS_PER_CHECKPOINT = 200


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


class FinderFit:
    """A run of ``settings.steps`` steps; every step draws from a seed of its own, so that a resumed
    run is the same run.
    """

    def __init__(
        self,
        options: dict[str, Any],
        drawer: SceneDrawer,
        settings: FinderFitSettings,
        *,
        start: FaceFinder | None = None,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.drawer = settings, drawer
        self.network = FaceFinder(**options).to(memory_format=torch.channels_last)
        if start is not None:
            self.network.load_state_dict(start.state_dict())
        self.average = average_weights(self.network, decay=settings.average)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=settings.rate, weight_decay=settings.weight_decay
        )
        self.losses = [
            MapLoss(rows=height, columns=width) for height, width, _ in settings.canvases
        ]

    def run(self, checkpoint: Path) -> FaceFinder:
        """The averaged network in evaluation mode; goes on from ``checkpoint`` if there is one."""
        parts = {
            "network": self.network,
            "average": self.average,
            "optimiser": self.optimiser,
        }
        done = read_checkpoint(checkpoint, parts)
        self.network.train()
        started, recent = time.monotonic(), []
        for step in range(done, self.settings.steps):
            recent.append(self.step(step))
            if (step + 1) % STEPS_PER_CHECKPOINT == 0 or step + 1 == self.settings.steps:
                save_checkpoint(checkpoint, parts, done=step + 1)
                face, box, landmarks = np.mean(recent, axis=0)
                print(
                    f"step {step + 1}: face {face:.4f}, box {box:.4f}, landmarks {landmarks:.4f},"
                    f" {(time.monotonic() - started) / len(recent):.2f} s a step",
                    flush=True,
                )
                started, recent = time.monotonic(), []
        result = self.average.module.eval()
        assert isinstance(result, FaceFinder)
        return result.to(memory_format=torch.contiguous_format)

    def step(self, number: int) -> tuple[float, float, float]:
        """One step; the parts of its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(number, self.settings)
        rng = np.random.default_rng([self.settings.seed, number])
        kind = int(rng.integers(len(self.settings.canvases)))
        height, width, count = self.settings.canvases[kind]
        drawn = [self.drawer.draw(rng, height=height, width=width) for _ in range(count)]
        batch = to_batch([pixels for pixels, _ in drawn])
        targets = make_targets([labels for _, labels in drawn], rows=height, columns=width)
        with torch.autocast("cpu", torch.bfloat16):
            maps = self.network(batch)
        losses = self.losses[kind](maps.float(), targets)
        self.optimiser.zero_grad(set_to_none=True)
        losses.total(landmarks=self.settings.landmarks).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        return losses.values()


def rate_at(step: int, settings: FinderFitSettings) -> float:
    """The learning rate: up along a cosine, held, and down along one to nothing."""
    warm, held = settings.warm_up * settings.steps, settings.hold * settings.steps
    if step < warm:
        return settings.rate * (0.04 + 0.48 * (1 - float(np.cos(np.pi * step / warm))))
    left = max(0.0, (step - held) / max(1.0, settings.steps - held))
    return settings.rate * 0.5 * (1 + float(np.cos(np.pi * left)))


def to_batch(pictures: Sequence[Pixels]) -> torch.Tensor:
    """Pictures (height, width, 3) as (n, 3, height, width) in -1…1, as ``FinderPreprocess``."""
    stacked = np.stack(pictures).astype(np.float32) / np.float32(127.5) - 1
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)  # stays channels last in memory
