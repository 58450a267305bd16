"""Fitting one audio network: balanced batches with pairs, averaged weights, resumable."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from deepfake.networks.speech import SpeechNet

from ..fitting import Loop, Losses, Numbers, fit_once, fit_steps
from .data import Clip, Pool


@dataclass(frozen=True, kw_only=True)
class SpeechFitSettings:
    """Settings of one fit.

    A batch holds ``genuine`` windows, the copies of ``paired`` of them made through the same
    channel, and ``fakes`` of the systems of the manifest. ``pair_weight`` weighs the loss that
    ranks a copy above its original. ``average`` is the decay of the averaged weights.
    ``trunk_rate`` is the trunk's share of the learning rate, below 1 for one with ImageNet weights.
    With ``crop_samples`` a step sees so much of each window, at the same place in all of them.
    """

    steps: int
    steps_per_epoch: int = 100
    genuine: int = 14
    paired: int = 9
    fakes: int = 9
    learning_rate: float = 1.5e-3
    trunk_rate: float = 1.0
    weight_decay: float = 0.02
    smoothing: float = 0.05
    pair_weight: float = 0.3
    average: float = 0.99
    bfloat16: bool = False
    crop_samples: int = 0
    max_gradient: float = 3.0


class Sampler:
    """Draws rows so that each source counts as the square root of its clips."""

    def __init__(
        self, pool: Pool, *, allowed: Numbers, clips: Sequence[Clip], fit: SpeechFitSettings
    ) -> None:
        labels = np.array([clip.label for clip in clips])
        sizes = Counter((clip.label, clip.source) for clip in clips)
        rarity = np.array([sizes[clip.label, clip.source] ** -0.5 for clip in clips])
        own = allowed[pool.makers[allowed] == ""]
        self.genuine = own[labels[pool.clips[own]] == 0]
        self.fakes = own[labels[pool.clips[own]] == 1]
        copies = allowed[pool.makers[allowed] != ""]
        self.paired = pool.pairs[copies]
        self.copy_of = dict(zip(self.paired.tolist(), copies.tolist(), strict=True))
        self.rarity, self.pool, self.fit = rarity, pool, fit

    def draw(self, rng: np.random.Generator) -> tuple[Numbers, Numbers]:
        """Numbers of a batch and their labels; the copy of row ``i`` is at ``genuine + i``."""
        fit = self.fit
        paired = self._pick(self.paired, fit.paired, rng)
        single = self._pick(self.genuine, fit.genuine - fit.paired, rng)
        copies = np.array([self.copy_of[int(row)] for row in paired])
        fakes = self._pick(self.fakes, fit.fakes, rng)
        rows = np.concatenate([paired, single, copies, fakes])
        return rows, (np.arange(len(rows)) >= fit.genuine).astype(np.int64)

    def _pick(self, rows: Numbers, count: int, rng: np.random.Generator) -> Numbers:
        weights = self.rarity[self.pool.clips[rows]]
        places = np.searchsorted(np.cumsum(weights), rng.random(count) * weights.sum())
        picked: Numbers = rows[np.minimum(places, len(rows) - 1)]
        return picked


def fit_network(
    network: SpeechNet,
    pool: Pool,
    *,
    allowed: Numbers,
    clips: Sequence[Clip],
    fit: SpeechFitSettings,
    path: Path,
    seed: int,
) -> SpeechNet:
    """Train on the ``allowed`` rows of the pool and return the averaged network.

    ``path`` plus ``.safetensors`` is the result, read back when it exists; ``.checkpoint`` holds
    the last whole epoch, from which an interrupted fit goes on as if it had not been.
    """

    def tune(network: SpeechNet) -> SpeechNet:
        sampler = Sampler(pool, allowed=allowed, clips=clips, fit=fit)
        return _fit(network, sampler, path=path, seed=seed)

    return fit_once(network, path.with_suffix(".safetensors"), tune)


def _fit(network: SpeechNet, sampler: Sampler, *, path: Path, seed: int) -> SpeechNet:
    fit = sampler.fit
    network = network.to(memory_format=torch.channels_last)
    trunk = [value for name, value in network.named_parameters() if "trunk." in name]
    rest = [value for name, value in network.named_parameters() if "trunk." not in name]
    groups = [
        {"params": parameters, "lr": share * fit.learning_rate}
        for parameters, share in ((trunk, fit.trunk_rate), (rest, 1.0))
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=fit.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _pace(step / fit.steps))
    rng = np.random.default_rng()

    def losses_at(step: int) -> Losses:
        nonlocal rng
        epoch, later = divmod(step, fit.steps_per_epoch)
        if not later:
            torch.manual_seed(seed * 1000 + epoch)
            rng = np.random.default_rng((seed, epoch))
        rows, labels = sampler.draw(rng)
        batch = sampler.pool.batch(rows)
        if fit.crop_samples:
            start = int(rng.integers(batch.shape[1] - fit.crop_samples + 1))
            batch = np.ascontiguousarray(batch[:, start : start + fit.crop_samples])
        return {"loss": _loss(network, batch, labels, fit=fit)}

    loop = Loop(
        steps=fit.steps,
        round_steps=fit.steps_per_epoch,
        average=fit.average,
        warm_up=True,
        most_gradient=fit.max_gradient,
    )
    checkpoint = path.with_suffix(".checkpoint")
    return fit_steps(
        network, losses_at, optimiser, schedule, loop, checkpoint=checkpoint, name=path.name
    )


def _loss(
    network: SpeechNet, batch: npt.NDArray[np.float32], labels: Numbers, *, fit: SpeechFitSettings
) -> torch.Tensor:
    features = network.features(torch.from_numpy(batch))
    with torch.autocast("cpu", torch.bfloat16, enabled=fit.bfloat16):
        logits = network.judge(features)
    logits = logits.float()
    targets = torch.from_numpy(labels).float() * (1 - 2 * fit.smoothing) + fit.smoothing
    each = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    loss = (each[: fit.genuine].mean() + each[fit.genuine :].mean()) / 2
    margin = logits[fit.genuine : fit.genuine + fit.paired] - logits[: fit.paired]
    return loss + fit.pair_weight * functional.softplus(1 - margin).mean()


def _pace(progress: float) -> float:
    """Warm-up over the first twentieth, then half a cosine down to nothing."""
    return min(1.0, progress / 0.05 + 0.02) * 0.5 * (1 + math.cos(math.pi * progress))
