"""Rules that join updates: what they give for honest sites, and who can carry them away."""

from __future__ import annotations

import numpy as np
import pytest
from deepfake_training.federated.aggregation import AGGREGATIONS, aggregate, bound_lengths


def honest(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(1.0, 0.1, (count, 40))


@pytest.mark.parametrize("rule", AGGREGATIONS)
@pytest.mark.parametrize("count", [1, 2, 3, 6, 11])
def test_honest_sites_are_about_their_mean(rule: str, count: int) -> None:
    updates = honest(count)
    assert aggregate(updates, rule=rule) == pytest.approx(updates.mean(axis=0), abs=0.25)


@pytest.mark.parametrize("rule", [rule for rule in AGGREGATIONS if rule != "fedavg"])
@pytest.mark.parametrize("poison", [-1.0, -1000.0, 1e9])
def test_two_poisoned_sites_of_seven_carry_no_robust_rule_away(rule: str, poison: float) -> None:
    updates = honest(7)
    updates[2:4] *= poison
    assert aggregate(updates, rule=rule).mean() > 0.85
    assert np.abs(aggregate(updates, rule=rule)).max() < 1.5


def test_one_poisoned_site_carries_averaging_away() -> None:
    updates = honest(7)
    updates[3] *= -100
    assert aggregate(updates, rule="fedavg").mean() < -10


def test_lengths_are_bound_by_the_middle_one() -> None:
    updates = honest(5)
    updates[0] *= 50
    bound = bound_lengths(updates)
    middle = np.median(np.linalg.norm(updates, axis=1))
    assert np.linalg.norm(bound, axis=1).max() == pytest.approx(2 * middle)
    assert np.array_equal(bound[1:], updates[1:]), "honest ones stay as they are"


def test_nothing_moves_where_nobody_moves() -> None:
    for rule in AGGREGATIONS:
        assert not aggregate(np.zeros((5, 8)), rule=rule).any()
