"""What answers give away: copies, membership and inversion under each policy of the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deepfake_service.answers import redact
from deepfake_service.store.keys import Policy
from deepfake_training.exposure import copying, inversion, policies, shipped
from deepfake_training.exposure.answers import POLICIES, Service, read_odds
from deepfake_training.exposure.copying import choose_limit, learn_copy
from deepfake_training.exposure.material import Shelf

from deepfake.bundle import Bundle, Calibration
from deepfake.types import Kind, Report, Verdict
from tests.bundles import POINTS, make_models
from tests.training.planted import planted_rows, planted_shelf


def as_key_sees(report: Report, policy: str) -> Report:
    return redact(report, Policy(policy))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    base = Bundle.read(make_models(tmp_path_factory.mktemp("models")) / "image-1")
    return planted_shelf(base, files=40, features=16, gap=1.0)


@pytest.fixture(scope="module")
def service() -> Service:
    calibration = Calibration(slope=1.0, intercept=0.0, spread=0.0, points=POINTS)
    return Service(slot="image", kind=Kind.IMAGE, calibration=calibration, redact=as_key_sees)


def test_each_policy_of_the_service_is_studied() -> None:
    assert set(POLICIES) == {policy.value for policy in Policy}


def test_what_is_read_of_an_answer_is_what_the_policy_leaves(service: Service) -> None:
    full, rounded, verdict = (service.ask(0.85, policy) for policy in POLICIES)
    assert read_odds(full) == pytest.approx(0.85, abs=1e-4)
    assert rounded["probability"] == 0.7
    assert read_odds(rounded) == pytest.approx(np.log(0.7 / 0.3))
    assert verdict["probability"] is None
    assert verdict["evidence"] == []
    assert read_odds(verdict) == 1.5
    assert read_odds(service.ask(9.0, "rounded")) < 4
    assert [Verdict(one["verdict"]) for one in (full, rounded, verdict)] == ["suspicious"] * 3
    odds, alarms = service.read(np.array([-3.0, 0.0, 0.85, 4.0]), "verdict")
    assert odds.tolist() == [-2.0, 0.0, 1.5, 3.0]
    assert alarms.tolist() == [False, False, True, True]


def test_exact_scores_give_a_linear_head_away_once_there_are_more_than_its_weights() -> None:
    rows, _ = planted_rows(60, 20, seed=1)
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 1, 21)
    odds = rows @ weights
    few, many = (learn_copy(rows[:n], odds[:n], odds[:n] > 0) for n in (10, 60))
    unseen, _ = planted_rows(200, 20, seed=2)
    truth = unseen @ weights
    assert many(unseen) == pytest.approx(truth, abs=0.05)
    assert np.abs(few(unseen) - truth).max() > 0.5


def test_the_limit_is_where_alarms_begin() -> None:
    odds = np.array([3.0, -1.0, 2.0, 0.0])
    assert choose_limit(odds, odds > 1) == pytest.approx(1.0)
    assert choose_limit(odds, odds > 99) == np.inf
    assert choose_limit(odds, odds > -99) == -np.inf


def test_more_queries_and_more_telling_answers_make_better_copies(shelf: Shelf) -> None:
    rows = copying.study(shelf, as_key_sees, queries=(10, 120), seed=1)
    found = {(row.policy, row.queries): row for row in rows}
    assert [row.policy for row in rows[::2]] == list(POLICIES)
    assert found["full", 120].correlation > 0.99
    assert found["full", 120].correlation > found["verdict", 120].correlation
    for policy in POLICIES:
        assert found[policy, 120].correlation > found[policy, 10].correlation
        assert 0 <= found[policy, 10].agreement <= 1
    assert found["full", 120].agreement > 0.9
    assert "| full | 10 |" in copying.table(rows)


def test_more_queries_than_the_material_has_are_what_it_has(shelf: Shelf) -> None:
    rows = copying.study(
        shelf, as_key_sees, queries=(10, 99_999), policies=("full",), seed=1, most_folds=1
    )
    assert [row.queries for row in rows] == [10, 240], "40 files of 2 sources, each in 3 ways"


def test_words_tell_less_of_members_than_scores(shelf: Shelf) -> None:
    few = planted_shelf(shelf.base, files=10, features=40, gap=0.3)
    rows = policies.study(few, as_key_sees, shadows=8, seed=1)
    areas = {row.policy: row.exposed.auc for row in rows}
    assert areas["full"] > 0.55
    assert areas["full"] > areas["verdict"]
    assert "| verdict | " in policies.table(rows)


def test_a_climb_gets_up_where_numbers_are_seen(service: Service) -> None:
    start = np.full((16, 16, 3), 128, np.uint8)

    def score(pixels: np.ndarray) -> float:
        return float(pixels.mean() - 128) / 4 - 2

    reached = {
        policy: score(inversion.climb(start, score, service, policy, queries=60, seed=1))
        for policy in POLICIES
    }
    assert reached["full"] > score(start) + 1
    assert reached["full"] >= reached["rounded"] >= reached["verdict"]


def test_inversion_says_how_near_members_are(shelf: Shelf) -> None:
    sides: list[tuple[int, ...]] = []

    def measure(batch: np.ndarray) -> np.ndarray:
        sides.append(batch.shape)
        rng = np.random.default_rng(int(batch.sum()) % 1000)
        return rng.normal(1, 0.3, (len(batch), 17)).astype(np.float32)

    rows = inversion.study(shelf, as_key_sees, measure, queries=5, climbs=2, seed=1)
    assert [row.policy for row in rows] == list(POLICIES)
    assert set(sides) == {(1, 32, 32, 3)}
    assert all(row.after >= row.before - 1e-9 for row in rows[:1])
    assert all(-1 <= row.nearest_member <= 1 for row in rows)
    assert all(row.member_first in (0, 0.5, 1) for row in rows)
    assert "nearest member" in inversion.table(rows)


@pytest.mark.parametrize("synthetic", [True, False])
def test_members_that_score_surer_are_told_and_equal_ones_are_not(synthetic: bool) -> None:
    rng = np.random.default_rng(1)
    sign = 1 if synthetic else -1
    inside, outside = (sign * rng.normal(middle, 1, 300) for middle in (2.0, 0.0))
    told = shipped.attack("image-1", inside, outside, synthetic=synthetic, seed=1)
    assert told.loss_auc > 0.9
    assert told.ratio_auc > 0.88
    assert told.ratio_tpr_at_1 > 0.2
    equal = shipped.attack("image-1", outside, outside[::-1], synthetic=synthetic, seed=1)
    assert equal.loss_auc == pytest.approx(0.5)
    assert equal.deviation == pytest.approx(0.0236, abs=1e-3)
    assert "image-1" in shipped.table([equal])


def test_likelihood_ratios_find_members_by_their_spread_too() -> None:
    rng = np.random.default_rng(1)
    inside, outside = rng.normal(0, 0.2, 300), rng.normal(0, 2, 300)
    told: Any = shipped.attack("image-1", inside, outside, synthetic=True, seed=1)
    assert told.loss_auc == pytest.approx(0.5, abs=0.06)
    assert told.ratio_auc > 0.8


def test_a_study_names_the_extra_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from deepfake.commands import study
    from deepfake.commands.cli import main

    monkeypatch.setattr(study, "_shelf", lambda options: None)
    monkeypatch.setitem(sys.modules, "deepfake_service.answers", None)
    line = ["study", "copies", "--genuine", "a", "--synthetic", "b", "--work", str(tmp_path)]
    assert main(line) == 2
    assert 'pip install "deepfake[server]"' in capsys.readouterr().err
