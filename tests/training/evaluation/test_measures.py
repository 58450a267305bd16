from __future__ import annotations

import numpy as np
import pytest
from deepfake_training import metrics
from deepfake_training.evaluation.measures import (
    Draws,
    compare_areas,
    estimate_all,
    estimate_difference,
    estimate_share,
    measure,
    measure_auc,
)
from sklearn.metrics import roc_auc_score

RNG = np.random.default_rng(3)
LABELS = np.repeat([1.0, 0.0], [60, 90])
SCORES = np.clip(np.round(RNG.normal(0.4 + 0.2 * LABELS, 0.2), 2), 0, 1)  # with ties


def test_unit_weights_give_the_usual_measures() -> None:
    found = {name: value[0] for name, value in measure(LABELS, SCORES, np.ones((1, 150))).items()}
    assert found["auc"] == pytest.approx(metrics.auc(LABELS, SCORES))
    assert found["eer"] == pytest.approx(metrics.eer(LABELS, SCORES))
    assert found["tpr_at_1"] == pytest.approx(metrics.tpr_at_fpr(LABELS, SCORES, fpr=0.01))
    halves = np.where(LABELS == 1, 0.5 / 60, 0.5 / 90)
    error = metrics.calibration_error(LABELS, SCORES, weights=halves)
    assert found["calibration_error"] == pytest.approx(error)


def test_a_weight_of_three_is_a_file_thrice() -> None:
    weights = RNG.integers(0, 4, 150)
    found = measure(LABELS, SCORES, weights[None].astype(float))
    labels, scores = np.repeat(LABELS, weights), np.repeat(SCORES, weights)
    assert found["auc"][0] == pytest.approx(roc_auc_score(labels, scores))
    assert found["eer"][0] == pytest.approx(metrics.eer(labels, scores))


def test_a_few_files_cannot_show_a_rate_of_one_in_a_thousand() -> None:
    labels, scores = np.array([1.0, 1, 0, 0]), np.array([0.9, 0.4, 0.5, 0.1])
    found = measure(labels, scores, np.ones((1, 4)))
    assert found["tpr_at_1"][0] == found["tpr_at_01"][0] == 0.5


def test_scores_that_are_no_shares_have_no_calibration() -> None:
    lots = Draws(LABELS, ["x"] * 150, sources=["x"] * 150, count=5, seed=1)
    found = estimate_all(LABELS, 10 * SCORES, lots)
    assert found["calibration_error"] is None
    assert found["auc"] is not None
    one_class = estimate_all(LABELS[:60], SCORES[:60], lots)
    assert set(one_class.values()) == {None}


def test_sources_are_drawn_together() -> None:
    """Ten sources that differ: files drawn one by one would make the interval much too narrow."""
    sources = [f"s{index // 15}" for index in range(150)]
    shifts = np.repeat(RNG.normal(0, 0.3, 10), 15)
    scores = np.clip(0.5 + 0.1 * LABELS + shifts + RNG.normal(0, 0.01, 150), 0, 1)
    widths = []
    for groups in (sources, [f"{index}" for index in range(150)]):
        lots = Draws(LABELS, groups, sources=sources, count=400, seed=1)
        found = estimate_all(LABELS, scores, lots)["auc"]
        assert found is not None
        value, low, high = found
        assert low <= value <= high
        widths.append(high - low)
    assert widths[0] > 1.5 * widths[1]


def test_the_seed_repeats_the_draws_and_both_classes_are_in_each() -> None:
    def draw(seed: int) -> np.ndarray:
        groups = ["a"] * 60 + ["b"] * 40 + ["c"] * 50
        lots = Draws(LABELS, groups, sources=groups, count=20, seed=seed)
        return np.concatenate([*lots.weights()])

    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).any()
    np.testing.assert_allclose(draw(1)[:, :60].sum(axis=1), 60)
    assert (draw(1)[:, 60:].sum(axis=1) > 0).all()


def test_sources_alike_is_the_mean_over_pairs_of_sources() -> None:
    sources = ["a"] * 10 + ["b"] * 50 + ["c"] * 70 + ["d"] * 20
    lots = Draws(LABELS, sources, sources=sources, count=1, seed=1, each_alike=True)
    found = float(measure_auc(LABELS, SCORES, lots.base[None])[0])
    parts = {name: SCORES[np.array(sources) == name] for name in "abcd"}
    pairs = [metrics.separation([*parts[one]], [*parts[other]]) for one in "ab" for other in "cd"]
    assert found == pytest.approx(np.mean(pairs))


def test_nought_of_twelve_is_not_never() -> None:
    labels = np.zeros(12)
    lots = Draws(labels, ["x"] * 12, sources=["x"] * 12, count=50, seed=1)
    none, everything = np.zeros(12, bool), np.ones(12, bool)
    assert estimate_share(none, lots) == pytest.approx((0.0, 0.0, 0.2646), abs=1e-3)
    assert estimate_share(everything, lots) == pytest.approx((1.0, 0.7354, 1.0), abs=1e-3)
    half = estimate_share(np.arange(12) < 6, lots)
    assert half[0] == 0.5
    assert half[1] < 0.5 < half[2]


def test_a_better_score_is_told_from_an_equal_one() -> None:
    better = np.clip(SCORES + 0.25 * LABELS, 0, 1)
    groups = [f"g{index // 10}" for index in range(150)]
    lots = Draws(LABELS, groups, sources=groups, count=300, seed=1)
    (gain, low, _), p = estimate_difference(LABELS, {"one": SCORES, "two": better}, lots)
    assert gain == pytest.approx(metrics.auc(LABELS, better) - metrics.auc(LABELS, SCORES))
    assert low > 0
    assert p < 0.01
    assert compare_areas(LABELS, SCORES, better) < 0.001
    other = np.clip(RNG.permutation(SCORES[:60]), 0, 1)
    shuffled = np.concatenate([other, RNG.permutation(SCORES[60:])])
    found, p = estimate_difference(LABELS, {"one": SCORES, "two": shuffled}, lots)
    assert found[1] < 0 < found[2]
    assert p > 0.05
    assert compare_areas(LABELS, SCORES, shuffled) == pytest.approx(1.0)
    assert compare_areas(LABELS, SCORES, SCORES) == 1.0


def test_delong_holds_its_level() -> None:
    """Of two useless scores about one pair in twenty differs at 5 %."""
    rejected = []
    for _ in range(200):
        first, second = RNG.normal(size=(2, 150))
        rejected.append(compare_areas(LABELS, first, second) < 0.05)
    assert 0.02 < np.mean(rejected) < 0.1
