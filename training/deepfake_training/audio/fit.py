"""Fitting one audio network: balanced batches with pairs, averaged weights, resumable."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from deepfake.networks.speech import SpeechNet

from .data import Clip, Pool

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Fit:
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

    def __init__(self, pool: Pool, *, allowed: Rows, clips: Sequence[Clip], fit: Fit) -> None:
        labels = np.array([clip.item.label for clip in clips])
        sizes = Counter((clip.item.label, clip.source) for clip in clips)
        rarity = np.array([sizes[clip.item.label, clip.source] ** -0.5 for clip in clips])
        own = allowed[pool.makers[allowed] == ""]
        self.genuine = own[labels[pool.clips[own]] == 0]
        self.fakes = own[labels[pool.clips[own]] == 1]
        copies = allowed[pool.makers[allowed] != ""]
        self.paired = pool.pairs[copies]
        self.copy_of = dict(zip(self.paired.tolist(), copies.tolist(), strict=True))
        self.rarity, self.pool, self.fit = rarity, pool, fit

    def draw(self, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """Rows of a batch and their labels; the copy of row ``i`` is at ``genuine + i``."""
        fit = self.fit
        paired = self._pick(self.paired, fit.paired, rng)
        single = self._pick(self.genuine, fit.genuine - fit.paired, rng)
        copies = np.array([self.copy_of[int(row)] for row in paired])
        fakes = self._pick(self.fakes, fit.fakes, rng)
        rows = np.concatenate([paired, single, copies, fakes])
        return rows, (np.arange(len(rows)) >= fit.genuine).astype(np.int64)

    def _pick(self, rows: Rows, count: int, rng: np.random.Generator) -> Rows:
        weights = self.rarity[self.pool.clips[rows]]
        places = np.searchsorted(np.cumsum(weights), rng.random(count) * weights.sum())
        picked: Rows = rows[np.minimum(places, len(rows) - 1)]
        return picked


def fit_network(
    network: SpeechNet,
    pool: Pool,
    *,
    allowed: Rows,
    clips: Sequence[Clip],
    fit: Fit,
    path: Path,
    seed: int,
) -> SpeechNet:
    """Train on the ``allowed`` rows of the pool and return the averaged network.

    ``path`` plus ``.safetensors`` is the result, read back when it exists; ``.checkpoint`` holds
    the last whole epoch, from which an interrupted fit goes on as if it had not been.
    """
    finished = path.with_suffix(".safetensors")
    if finished.exists():
        network.load_state_dict(load_file(finished))
        return network.eval()
    sampler = Sampler(pool, allowed=allowed, clips=clips, fit=fit)
    network = network.to(memory_format=torch.channels_last)
    trunk = [value for name, value in network.named_parameters() if "trunk." in name]
    rest = [value for name, value in network.named_parameters() if "trunk." not in name]
    optimiser = torch.optim.AdamW(
        [{"params": trunk}, {"params": rest}], weight_decay=fit.weight_decay
    )
    shares = (fit.trunk_rate, 1.0)
    average = {key: value.clone() for key, value in network.state_dict().items()}
    epoch = _resume(path, network=network, optimiser=optimiser, average=average)
    network.train()
    while epoch * fit.steps_per_epoch < fit.steps:
        torch.manual_seed(seed * 1000 + epoch)
        rng = np.random.default_rng((seed, epoch))
        losses = []
        first = epoch * fit.steps_per_epoch
        steps = range(first, min(fit.steps, first + fit.steps_per_epoch))
        for step in (bar := tqdm(steps, desc=f"{path.name} epoch {epoch}", mininterval=5)):
            for group, share in zip(optimiser.param_groups, shares, strict=True):
                group["lr"] = share * fit.learning_rate * _pace(step / fit.steps)
            rows, labels = sampler.draw(rng)
            batch = pool.batch(rows)
            if fit.crop_samples:
                start = int(rng.integers(batch.shape[1] - fit.crop_samples + 1))
                batch = np.ascontiguousarray(batch[:, start : start + fit.crop_samples])
            loss = _loss(network, batch, labels, fit=fit)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), fit.max_gradient)
            optimiser.step()
            _update(average, network, decay=min(fit.average, (1 + step) / (10 + step)))
            losses.append(float(loss.detach()))
            bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}")
        epoch += 1
        _keep(path, network=network, optimiser=optimiser, average=average, epoch=epoch)
    network.load_state_dict(average)
    partial = finished.with_suffix(".partial")
    save_file({key: value.contiguous() for key, value in average.items()}, partial)
    partial.replace(finished)
    path.with_suffix(".checkpoint").unlink()
    return network.eval()


def _loss(
    network: SpeechNet, batch: npt.NDArray[np.float32], labels: Rows, *, fit: Fit
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


def _update(average: dict[str, torch.Tensor], network: nn.Module, *, decay: float) -> None:
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if value.is_floating_point():
                average[key].lerp_(value, 1 - decay)
            else:
                average[key].copy_(value)


def _keep(
    path: Path,
    *,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: dict[str, torch.Tensor],
    epoch: int,
) -> None:
    state: dict[str, Any] = {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "average": average,
        "epoch": epoch,
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path.with_suffix(".checkpoint"))


def _resume(
    path: Path,
    *,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: dict[str, torch.Tensor],
) -> int:
    """The epoch to go on with, after everything was set back to the end of the one before."""
    checkpoint = path.with_suffix(".checkpoint")
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, weights_only=True)
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    for key, value in state["average"].items():
        average[key].copy_(value)
    return int(state["epoch"])
