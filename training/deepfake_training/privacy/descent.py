"""Heads by gradient descent: plain, as sites of a federation take steps, and with the clipped
gradients and the noise of DP-SGD (Abadi et al. 2016), by Opacus.
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from deepfake.errors import MissingDependency

from .design import MOST_WEIGHT, Floats, Private, Samples, Scale, release_scale
from .guarantee import Ledger, Schedule, plan, require_spent, spent

RATE = 1.0
STEPS = 40
CLIP = 1.0
"""Largest length of what one file adds to a gradient."""
PULL = 0.02
"""Regularisation: how strongly weights of scaled rows are drawn to where they started."""
FULL_PACE = 2.0
"""Step length: the largest that is stable for rows of about unit length."""
_MOST_DRIFT = 1.5


@dataclass(frozen=True)
class Start:
    """``weights`` (features + 1,) and ``bias`` of scaled rows."""

    weights: Floats
    bias: float


class ScaledHead(nn.Module):
    """Logits (files, views) of scaled rows (files, views, features + 1)."""

    def __init__(self, start: Start) -> None:
        super().__init__()
        self.linear = nn.Linear(len(start.weights), 1)
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(start.weights)[None])
            self.linear.bias.fill_(start.bias)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(rows)[..., 0]
        return logits

    def read(self) -> Start:
        """Its weights and bias."""
        weights = self.linear.weight[0].detach().numpy().astype(np.float64)
        return Start(weights, float(self.linear.bias[0].detach()))


def losses_of(
    logits: torch.Tensor, known: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """The weighted cross-entropy (files,) of every file, the mean over its views."""
    wanted = labels[:, None].expand_as(logits)
    losses = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (losses * known).sum(dim=1) / known.sum(dim=1) * weights


def tensors_of(samples: Samples, scale: Scale) -> tuple[torch.Tensor, ...]:
    """Scaled rows, known, labels and weights, as :func:`losses_of` takes them."""
    return (
        torch.from_numpy(scale(samples.rows)),
        torch.from_numpy(samples.known.astype(np.float32)),
        torch.from_numpy(samples.labels.astype(np.float32)),
        torch.from_numpy(samples.weights.clip(max=MOST_WEIGHT).astype(np.float32)),
    )


def descend(
    given: tuple[torch.Tensor, ...], start: Start, home: Start, *, steps: int, pace: float
) -> Start:
    """Full steps from ``start`` on the mean loss, drawn to ``home``."""
    head, origin = ScaledHead(start), ScaledHead(home)
    rows, known, labels, weights = given
    optimiser = torch.optim.SGD(head.parameters(), lr=pace)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = losses_of(head(rows), known, labels, weights).mean()
        _go_back(loss + PULL / 2 * _distance(head, origin))
        optimiser.step()
    return head.read()


def fit_private(
    samples: Samples, private: Private, *, started: bool, seed: int | None = None
) -> tuple[Floats, float, Ledger]:
    """Weights (features + 1,) and bias of rows as they are, and what they spent.

    The noise comes from the system's source of randomness; ``seed`` is for studies alone, because
    whoever knows it can take the noise off. Raises ``SettingsError`` for a budget that makes no
    sense and ``MissingDependency`` without Opacus.
    """
    budget = private.budget
    budget.check(len(samples.labels))
    schedule = plan(budget, rate=RATE, steps=STEPS)
    seed = secrets.randbits(63) if seed is None else seed
    scale = release_scale(
        samples,
        private.reference,
        noise=schedule.statistics_noise,
        started=started,
        rng=np.random.default_rng(seed),
    )
    head, ledger = descend_privately(
        tensors_of(samples, scale), Start(*scale.start()), schedule, delta=budget.delta, seed=seed
    )
    require_spent(ledger, budget)
    return *scale.unscale(head.weights, head.bias), ledger


def descend_privately(
    given: tuple[torch.Tensor, ...],
    start: Start,
    schedule: Schedule,
    *,
    delta: float,
    seed: int,
    pace: float = 0.0,
) -> tuple[Start, Ledger]:
    """Noisy steps; the mean of the second half of them is what is given back."""
    try:
        from opacus import PrivacyEngine
    except ImportError as error:
        raise MissingDependency(error.name or "opacus", extra="private") from error
    from torch.utils.data import DataLoader, TensorDataset

    head, home = ScaledHead(start), ScaledHead(start)
    count = len(given[0])
    pace = pace or choose_pace(schedule, count)
    optimiser = torch.optim.SGD(head.parameters(), lr=pace / (count * schedule.rate))
    draw = torch.Generator().manual_seed(seed)
    with _quiet():
        loader = DataLoader(
            TensorDataset(*given), batch_size=max(1, round(count * schedule.rate)), generator=draw
        )
        engine = PrivacyEngine(accountant="rdp")
        engine.accountant.history = [(schedule.statistics_noise, 1.0, 1)]
        private, noisy, batches = engine.make_private(
            module=head,
            optimizer=optimiser,
            data_loader=loader,
            noise_multiplier=schedule.noise,
            max_grad_norm=CLIP,
            loss_reduction="sum",
            poisson_sampling=schedule.rate < 1,
            noise_generator=torch.Generator().manual_seed(seed ^ 0x5DEECE66D),
        )
        kept: list[Start] = []
        for number, (rows, known, labels, weights) in enumerate(_cycle(batches, schedule.steps)):
            noisy.zero_grad()
            _go_back(losses_of(private(rows), known, labels, weights).sum())
            noisy.step()
            with torch.no_grad():  # towards the start, which costs nothing: it reads no file
                for own, origin in zip(head.parameters(), home.parameters(), strict=True):
                    own.lerp_(origin, min(1.0, PULL * pace))
            if number >= schedule.steps // 2:
                kept.append(head.read())
        private.remove_hooks()
    history = [(float(a), float(b), int(c)) for a, b, c in engine.accountant.history]
    ledger = Ledger(epsilon=spent(history, delta), delta=delta, schedule=schedule, clip=CLIP)
    mean = np.mean([one.weights for one in kept], axis=0)
    return Start(mean, float(np.mean([one.bias for one in kept]))), ledger


def choose_pace(schedule: Schedule, count: int) -> float:
    """The step length: as long as the signal allows, shorter where noise would carry the head away.

    The noise of all steps moves the logit of a row of unit length by about pace × noise × √steps /
    (files × rate), which is held below ``_MOST_DRIFT``.
    """
    drift = schedule.noise * CLIP * np.sqrt(schedule.steps) / (count * schedule.rate)
    return float(min(FULL_PACE, _MOST_DRIFT / max(drift, 1e-9)))


def _cycle(batches: Iterable[Any], steps: int) -> Iterator[tuple[torch.Tensor, ...]]:
    taken = 0
    while taken < steps:
        for batch in batches:
            yield batch
            taken += 1
            if taken == steps:
                return


def _distance(head: nn.Module, origin: nn.Module) -> torch.Tensor:
    pairs = zip(head.parameters(), origin.parameters(), strict=True)
    return torch.stack([(own - home.detach()).square().sum() for own, home in pairs]).sum()


def _go_back(loss: torch.Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


@contextmanager
def _quiet() -> Iterator[None]:
    """Opacus warns that its generator is no cryptographic one, and torch of its hooks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Secure RNG turned off")
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        yield


def logits_of(rows: npt.NDArray[np.floating], weights: Floats, bias: float) -> Floats:
    """Logits (…) of rows (…, features + 1) as they are."""
    return np.asarray(rows.astype(np.float64) @ weights + bias)
