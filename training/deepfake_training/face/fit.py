"""Fit one network of the ``face`` slot to a bank of couples, with checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from deepfake.networks.faces import FaceNet
from deepfake.preprocess import FacePreprocess

from ..fitting import Loop, Losses, Numbers, couples_at, fit_steps
from ..imagenet import load_mobilenet
from .couples import Bank

FEATURE_BATCH = 64
Objective = Callable[[FaceNet, torch.Tensor, torch.Tensor, Numbers, torch.Tensor], torch.Tensor]
"""From a network, crops, their low features, the numbers of their couples and targets to a loss."""


@dataclass(frozen=True, kw_only=True)
class FaceOptions:
    """The options of a :class:`FaceNet`."""

    stages: int
    residual: bool


@dataclass(frozen=True)
class CropFitSettings:
    """``rate`` is the highest learning rate of fresh layers; ImageNet layers get a quarter of it.
    ``average`` is the decay of the running average of the weights, which is what is kept.
    """

    epochs: int
    couples_in_batch: int = 16
    rate: float = 2e-3
    weight_decay: float = 0.02
    smoothing: float = 0.05
    average: float = 0.99
    seed: int = 1


def load_stages(network: FaceNet, weights: Path) -> None:
    """ImageNet weights for the stem and the stages of MobileNetV2 that a network has."""
    places = {"conv_stem": "low.0", "bn1": "low.1"}
    places |= {f"blocks.{index}": f"low.{2 + index}" for index in range(3)}
    places |= {f"blocks.{3 + index}": f"high.{index}" for index in range(network.stages)}
    load_mobilenet(network, weights, places=places)


@torch.inference_mode()
def low_features(network: FaceNet, bank: Bank, *, preprocess: FacePreprocess) -> torch.Tensor:
    """What the fixed first stages make of every crop, computed once for all folds and epochs:
    bfloat16 (couples, 2, 32, side / 8, side / 8).
    """
    low = network.low.eval()
    flat = bank.crops.reshape(-1, *bank.crops.shape[2:])
    parts = []
    for start in tqdm(range(0, len(flat), FEATURE_BATCH), desc="low features", mininterval=5):
        crops = to_batch(flat[start : start + FEATURE_BATCH], preprocess)
        with torch.autocast("cpu", torch.bfloat16):
            parts.append(low(crops).bfloat16())
    features = torch.cat(parts)
    return features.reshape(len(bank.crops), 2, *features.shape[1:])


def to_batch(crops: npt.NDArray[np.uint8], preprocess: FacePreprocess) -> torch.Tensor:
    batch = torch.from_numpy(preprocess.scale(crops))
    return batch.contiguous(memory_format=torch.channels_last)


def fit(
    network: FaceNet,
    bank: Bank,
    features: torch.Tensor,
    *,
    fold: int | None,
    preprocess: FacePreprocess,
    settings: CropFitSettings,
    checkpoint: Path,
    objective: Objective,
) -> FaceNet:
    """``network`` tuned on all couples but those of ``fold``, in evaluation mode.

    Goes on from ``checkpoint`` (written after every epoch) when there is one.
    """
    torch.manual_seed(settings.seed)
    couples, size = bank.without(fold), settings.couples_in_batch
    steps = settings.epochs * (len(couples) // size)
    network = network.to(memory_format=torch.channels_last)
    optimiser, schedule = _optimise(network, settings, steps=steps)
    labels = torch.tensor([0.0, 1.0]).repeat(size)
    targets = labels * (1 - settings.smoothing) + settings.smoothing / 2
    chosen_at = couples_at(couples, size=size, seed=settings.seed)

    def losses_at(step: int) -> Losses:
        chosen = chosen_at(step)
        crops = to_batch(bank.crops[chosen].reshape(-1, *bank.crops.shape[2:]), preprocess)
        hidden = features[torch.from_numpy(chosen)].flatten(0, 1)
        with torch.autocast("cpu", torch.bfloat16):
            return {"loss": objective(network, crops, hidden, chosen, targets)}

    loop = Loop(steps=steps, round_steps=max(1, len(couples) // size), average=settings.average)
    return fit_steps(
        network, losses_at, optimiser, schedule, loop, checkpoint=checkpoint, name=f"fold {fold}"
    )


def _optimise(
    network: FaceNet, settings: CropFitSettings, *, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    pretrained = list(network.high.parameters())
    network.low.requires_grad_(False)
    known = {id(p) for p in pretrained}
    fresh = [p for p in network.parameters() if p.requires_grad and id(p) not in known]
    rates = [settings.rate, settings.rate / 4]
    groups = [
        {"params": parameters, "lr": rate}
        for parameters, rate in zip((fresh, pretrained), rates, strict=True)
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rates, total_steps=max(1, steps), pct_start=0.1
    )
    return optimiser, schedule
