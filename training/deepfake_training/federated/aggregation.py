"""How the updates of sites become one: averaging, and three rules that a few poisoned sites cannot
carry away.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
TRIMMED = 0.25
"""Share of the values of a coordinate that is cut off at either end."""
MOST_LENGTH = 2.0
"""Longest update, in units of the middle one; longer ones are shortened."""


def average(updates: Floats) -> Floats:
    """FedAvg (McMahan et al. 2017) of updates (sites, numbers), sites counting alike: what a site
    says of its number of files nobody can check.
    """
    return np.asarray(updates.mean(axis=0))


def take_median(updates: Floats) -> Floats:
    """The median of every coordinate (Yin et al. 2018); holds below a half of poisoned sites."""
    return np.asarray(np.median(updates, axis=0))


def trim(updates: Floats) -> Floats:
    """The mean of every coordinate without its largest and smallest values (Yin et al. 2018)."""
    cut = int(np.ceil(TRIMMED * len(updates))) if len(updates) > 2 else 0
    cut = min(cut, (len(updates) - 1) // 2)
    return np.asarray(np.sort(updates, axis=0)[cut : len(updates) - cut].mean(axis=0))


def choose_near(updates: Floats) -> Floats:
    """Multi-Krum (Blanchard et al. 2017): the mean of those updates whose nearest others are
    nearest, for ``f`` poisoned ones of ``2 f + 3``.
    """
    count = len(updates)
    poisoned = max(0, (count - 3) // 2)
    near = max(1, count - poisoned - 2)
    gaps = np.square(updates[:, None] - updates[None]).sum(axis=2)
    scores = np.sort(gaps, axis=1)[:, 1 : near + 1].sum(axis=1)
    return average(updates[np.argsort(scores, kind="stable")[: count - poisoned]])


AGGREGATIONS: dict[str, Callable[[Floats], Floats]] = {
    "fedavg": average,
    "median": take_median,
    "trimmed": trim,
    "krum": choose_near,
}


def bound_lengths(updates: Floats) -> Floats:
    """Updates (sites, numbers) of which none is longer than twice the middle one (norm bounding,
    Sun et al. 2019).
    """
    lengths = np.linalg.norm(updates, axis=1)
    most = MOST_LENGTH * float(np.median(lengths))
    return np.asarray(updates * np.minimum(1, most / lengths.clip(1e-12))[:, None])


def aggregate(updates: Floats, *, rule: str) -> Floats:
    """One update (numbers,) of those of the sites (sites, numbers). All rules but plain ``fedavg``
    bound lengths first.
    """
    if rule != "fedavg":
        updates = bound_lengths(updates)
    return AGGREGATIONS[rule](updates)
