"""Heads under differential privacy: the noise that is planned, and what is spent and learnt."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from deepfake_training.privacy.descent import (
    CLIP,
    Start,
    descend_privately,
    fit_private,
    logits_of,
    tensors_of,
)
from deepfake_training.privacy.design import (
    Private,
    Samples,
    Scale,
    measure_scale,
    release_scale,
)
from deepfake_training.privacy.guarantee import (
    Budget,
    Ledger,
    Schedule,
    plan,
    require_spent,
    spent,
)

from deepfake.errors import DeepfakeError, MissingDependency, SettingsError
from tests.training.planted import planted_samples, reference_of, separated

FEATURES = 24


def test_the_planned_noise_spends_the_budget_and_no_more() -> None:
    for epsilon in (0.5, 4.0):
        for rate, steps in ((1.0, 40), (0.3, 60)):
            schedule = plan(Budget(epsilon=epsilon, delta=1e-5), rate=rate, steps=steps)
            assert 0.98 * epsilon < schedule.epsilon(1e-5) <= epsilon


def test_less_noise_more_steps_and_a_smaller_delta_cost_more() -> None:
    def cost(noise: float = 20.0, steps: int = 40, delta: float = 1e-5) -> float:
        schedule = Schedule(statistics_noise=20.0, noise=noise, rate=1.0, steps=steps)
        return schedule.epsilon(delta)

    assert cost(noise=10.0) > cost()
    assert cost(steps=80) > cost()
    assert cost(delta=1e-7) > cost()
    assert cost() > spent([(20.0, 1.0, 40)], 1e-5), "the statistics are paid for too"


def test_the_epsilon_is_never_below_what_a_gaussian_truly_costs() -> None:
    """δ(ε) of a Gaussian mechanism in closed form (Balle and Wang 2018, theorem 8)."""

    def phi(value: float) -> float:
        return (1 + math.erf(value / math.sqrt(2))) / 2

    for noise, steps in ((8.0, 40), (30.0, 40), (1.5, 1)):
        told = spent([(noise, 1.0, steps)], 1e-5)
        mu = math.sqrt(steps) / noise
        delta = phi(mu / 2 - told / mu) - math.exp(told) * phi(-mu / 2 - told / mu)
        assert delta <= 1e-5, "the true δ at the told ε is within what was stated"
        assert delta > 1e-8, "and not by far"


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 1e-5), (math.nan, 1e-5), (1, 0), (1, 0.02)])
def test_a_budget_that_promises_nothing_is_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(SettingsError, match="option --dp-"):
        Budget(epsilon=epsilon, delta=delta).check(100)


def test_what_was_spent_is_what_the_steps_cost_and_is_held_to_the_budget() -> None:
    samples = planted_samples(120, FEATURES, seed=1)
    budget = Budget(epsilon=3.0, delta=1e-5)
    _, _, ledger = fit_private(samples, Private(budget, reference_of(FEATURES)), started=True)
    assert 2.9 < ledger.epsilon <= 3.0
    assert ledger.epsilon == pytest.approx(ledger.schedule.epsilon(1e-5))
    over = Ledger(epsilon=3.1, delta=1e-5, schedule=ledger.schedule, clip=CLIP)
    with pytest.raises(DeepfakeError, match="nothing is written"):
        require_spent(over, budget)


def test_more_privacy_costs_accuracy_and_little_of_it_finds_what_is_planted() -> None:
    samples, unseen = (planted_samples(400, FEATURES, seed=seed) for seed in (1, 2))

    def area(epsilon: float, seed: int) -> float:
        private = Private(Budget(epsilon=epsilon, delta=1e-5), reference_of(FEATURES))
        raw, bias, _ = fit_private(samples, private, started=False, seed=seed)
        return separated(logits_of(unseen.rows[:, 0], raw, bias), unseen.labels)

    strong, weak = (np.mean([area(epsilon, seed) for seed in range(4)]) for epsilon in (0.05, 8.0))
    assert weak > 0.9
    assert strong < weak - 0.05


def test_two_fits_differ_because_nobody_may_know_the_noise() -> None:
    samples = planted_samples(60, FEATURES, seed=1)
    private = Private(Budget(epsilon=2.0, delta=1e-5), reference_of(FEATURES))
    first, second = (fit_private(samples, private, started=False)[0] for _ in range(2))
    assert not np.allclose(first, second)
    once, again = (fit_private(samples, private, started=False, seed=5)[0] for _ in range(2))
    assert np.allclose(once, again)


def test_one_file_moves_a_step_no_further_than_the_clip() -> None:
    samples = planted_samples(40, FEATURES, seed=1)
    wild = Samples(
        samples.rows.copy(), samples.known, samples.labels, np.append(samples.weights[:-1], 50.0)
    )
    wild.rows[-1] *= 1e4
    schedule = Schedule(statistics_noise=1e9, noise=1e-9, rate=1.0, steps=2)
    scale = Scale(np.zeros(FEATURES + 1), np.ones(FEATURES + 1), started=False)
    nothing = Start(*scale.start())
    with_it, without = (
        descend_privately(
            tensors_of(some, scale), nothing, schedule, delta=1e-5, seed=1, pace=float(count)
        )[0]
        for some, count in ((wild, 40), (_cut(samples, 39), 39))
    )
    moved = np.append(with_it.weights - without.weights, with_it.bias - without.bias)
    assert 0.5 * CLIP < np.linalg.norm(moved) <= 2.5 * CLIP, "two steps, and what the first changes"


def _cut(samples: Samples, count: int) -> Samples:
    return Samples(
        samples.rows[:count],
        samples.known[:count],
        samples.labels[:count],
        samples.weights[:count],
    )


def test_what_one_file_adds_to_the_statistics_is_at_most_one() -> None:
    samples = planted_samples(30, FEATURES, seed=1)
    samples.rows[0] = 1e6

    class Recorded:
        """In place of a generator: no noise, and the numbers of what would have any."""

        def normal(self, _middle: float, _noise: float, size: int) -> np.ndarray:
            return np.zeros(size)

    def total(some: Samples) -> Scale:
        return release_scale(
            some,
            reference_of(FEATURES),
            noise=0.0,
            started=True,
            rng=Recorded(),  # type: ignore[arg-type]
        )

    # the centre is the reference plus the mean of what was added, so that the sum is in it
    reach = np.linalg.norm(reference_of(FEATURES)[:-1])
    sums = [
        (total(some).centre - reference_of(FEATURES))[:-1] * len(some.labels) / reach
        for some in (samples, _cut_first(samples))
    ]
    assert np.linalg.norm(sums[0] - sums[1]) <= 1 + 1e-6


def _cut_first(samples: Samples) -> Samples:
    return Samples(samples.rows[1:], samples.known[1:], samples.labels[1:], samples.weights[1:])


def test_statistics_without_noise_are_about_the_true_ones() -> None:
    samples = planted_samples(500, FEATURES, seed=3)
    true = measure_scale(samples, started=True)
    told = release_scale(
        samples, reference_of(FEATURES), noise=1e-6, started=True, rng=np.random.default_rng(1)
    )
    assert told.centre[:-1] == pytest.approx(true.centre[:-1], abs=0.1)
    assert told.spread[0] == pytest.approx(np.sqrt(np.mean(true.spread[:-1] ** 2)), rel=0.2)
    assert told.spread[-1] == pytest.approx(true.spread[-1], rel=0.2)


def test_scaled_heads_start_from_the_shipped_logit() -> None:
    samples = planted_samples(50, FEATURES, seed=3)
    scale = measure_scale(samples, started=True)
    weights, bias = scale.unscale(*scale.start())
    rows = samples.rows[:, 0]
    assert logits_of(rows, weights, bias) == pytest.approx(rows[:, -1], abs=1e-6)
    assert scale(rows) @ scale.start()[0] + scale.start()[1] == pytest.approx(rows[:, -1], abs=1e-3)


def test_views_of_a_file_are_one_sample() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    samples = Samples.gather(
        rows, np.array([2, 0, 2, 2]), np.array([1, 0, 0]), np.array([1.0, 9, 3])
    )
    assert samples.rows.shape == (2, 3, 3)
    assert samples.known.sum(axis=1).tolist() == [1, 3]
    assert samples.labels.tolist() == [1, 0]
    assert samples.weights.tolist() == [0.5, 1.5]
    assert samples.means()[1].tolist() == rows[[0, 2, 3]].mean(axis=0).tolist()


def test_without_opacus_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    with pytest.raises(MissingDependency, match=r'pip install "deepfake\[private\]"'):
        spent([(1.0, 1.0, 1)], 1e-5)
