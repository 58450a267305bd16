"""What noise proves: ε at a δ, by the accountant of Opacus, and how much noise a wanted ε takes.

The unit is one file. Two runs are neighbours when one of them leaves a file out and keeps its place
(zero-out adjacency, Ponomareva et al. 2023): how many files each source has is taken as known.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from deepfake.errors import DeepfakeError, MissingDependency, SettingsError

ORDERS = tuple(np.concatenate([np.arange(1.05, 12, 0.05), np.geomspace(12, 4000, 120)]).tolist())
"""Orders of Rényi divergence, wider than those of Opacus, so that a small ε is tight too."""
SAMPLED_ORDERS = tuple(range(2, 129))
"""Those for Poisson samples: whole ones, where the divergence is a finite sum (fractional ones of
Opacus 1.6 gave a negative ε for much noise), and small enough for its terms.
"""
STATISTICS_SHARE = 0.1
"""Of the squared ratio of signal to noise, what the release of the statistics spends."""
_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The ε that is wanted, at this δ."""

    epsilon: float
    delta: float

    def check(self, files: int) -> None:
        """Raise ``SettingsError`` for numbers that promise nothing about so many files."""
        if not 0.01 <= self.epsilon <= 100:
            raise SettingsError(
                f"option --dp-epsilon {self.epsilon}: out of range",
                hint="give a number from 0.01 to 100; under 1 is strong, over 10 proves little",
            )
        if not 0 < self.delta < 1 / max(files, 1):
            raise SettingsError(
                f"option --dp-delta {self.delta}: with {files} files it must be above 0 and below "
                f"{1 / max(files, 1):.1e}, or a whole file could be given away",
                hint="leave it out for 1e-05, or give less",
            )


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One release of statistics with noise of ``statistics_noise`` times what one file can change,
    then ``steps`` with ``noise`` times that, each on a Poisson sample of ``rate`` of the files.
    """

    statistics_noise: float
    noise: float
    rate: float
    steps: int

    @property
    def history(self) -> list[tuple[float, float, int]]:
        """As accountants of Opacus keep it: noise multiplier, sample rate, steps."""
        return [(self.statistics_noise, 1.0, 1), (self.noise, self.rate, self.steps)]

    def epsilon(self, delta: float) -> float:
        """The ε that these steps come to."""
        return spent(self.history, delta)


def spent(history: list[tuple[float, float, int]], delta: float) -> float:
    """ε at ``delta`` by Rényi differential privacy (Mironov 2017), subsampled Gaussians composed
    (Mironov, Talwar and Zhang 2019).
    """
    accountant = make_accountant()
    accountant.history = list(history)
    sampled = any(rate < 1 for _, rate, _ in history)
    orders = SAMPLED_ORDERS if sampled else ORDERS
    with warnings.catch_warnings():  # the best order is the first or the last one: still a bound
        warnings.filterwarnings("ignore", message="Optimal order is")
        epsilon = float(accountant.get_epsilon(delta, alphas=orders))
    if not epsilon > 0:
        raise ArithmeticError(f"accountant: gave an ε of {epsilon}")
    return epsilon


@cache
def plan(budget: Budget, *, rate: float, steps: int) -> Schedule:
    """The schedule with the least noise that keeps within the budget."""

    def schedule(noise: float) -> Schedule:
        # σ √steps / rate is what a single step of that noise would have, about
        whole = noise / (rate * np.sqrt(steps))
        statistics = whole * np.sqrt((1 - STATISTICS_SHARE) / STATISTICS_SHARE)
        return Schedule(statistics_noise=float(statistics), noise=noise, rate=rate, steps=steps)

    low, high = 0.25, 1.0
    while schedule(high).epsilon(budget.delta) > budget.epsilon:
        low, high = high, 2 * high
    while high / low > 1 + _TOLERANCE:
        middle = float(np.sqrt(low * high))
        if schedule(middle).epsilon(budget.delta) > budget.epsilon:
            low = middle
        else:
            high = middle
    return schedule(high)


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What a private fit spent: ``epsilon`` is the accountant's, of all steps that were taken."""

    epsilon: float
    delta: float
    schedule: Schedule
    clip: float

    def to_dict(self) -> dict[str, object]:
        """As it stands in ``bundle.json``."""
        return {
            "epsilon": round(self.epsilon, 4),
            "delta": self.delta,
            "unit": "one file, left out with its place kept; counts of files are taken as known",
            "mechanism": "DP-SGD (Abadi et al. 2016) and one Gaussian release of statistics",
            "accountant": "Rényi differential privacy, Opacus",
            "noise_multiplier": round(self.schedule.noise, 4),
            "statistics_noise_multiplier": round(self.schedule.statistics_noise, 4),
            "sample_rate": self.schedule.rate,
            "steps": self.schedule.steps,
            "clip": self.clip,
            "inside": "the weights and the bias of the head, with the statistics they scale by",
            "outside": (
                "calibration, limits of the words, pooling, tables, pictures and warnings, which "
                "are made from the files without noise; names of sources and counts of files; "
                "what was dropped or found suspicious, and that a bundle was written at all"
            ),
        }


def make_accountant() -> Any:
    """An ``RDPAccountant``; raises ``MissingDependency`` naming the extra."""
    try:
        from opacus.accountants import RDPAccountant
    except ImportError as error:
        raise MissingDependency(error.name or "opacus", extra="private") from error
    return RDPAccountant()


def require_spent(ledger: Ledger, budget: Budget) -> None:
    """Raise ``DeepfakeError`` where more was spent than was allowed, which would be a bug."""
    if ledger.epsilon > budget.epsilon * (1 + 1e-6):
        raise DeepfakeError(
            f"privacy budget: ε {ledger.epsilon:.4f} was spent of {budget.epsilon}; "
            "nothing is written"
        )
