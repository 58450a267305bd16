"""The likelihood-ratio attack: finds members of a head that learnt them by heart, and no others."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from deepfake_training.exposure import private
from deepfake_training.exposure.material import Mask, Shelf
from deepfake_training.exposure.membership import (
    expose,
    likelihood_ratios,
    list_queries,
    make_shadows,
    read_signals,
)
from deepfake_training.own.network import Linear

from deepfake.bundle import Bundle
from tests.bundles import make_models
from tests.training.planted import planted_shelf


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.read(make_models(tmp_path_factory.mktemp("models")) / "image-1")


@pytest.fixture
def shelf(bundle: Bundle) -> Shelf:
    return planted_shelf(bundle, files=10, features=40, gap=0.3)


def learn_by_heart(shelf: Shelf, chosen: Mask) -> Linear:
    """Least squares with more features than files goes through every file it is fitted to."""
    rows = shelf.clean[chosen, :-1].astype(np.float64)
    wanted = np.where(shelf.labels[chosen], 3.0, -3.0)
    return Linear(np.linalg.lstsq(rows, wanted, rcond=1e-6)[0], 0.0)


def test_members_of_a_head_that_learnt_by_heart_are_found(shelf: Shelf) -> None:
    exposed = expose(shelf, lambda c, _: learn_by_heart(shelf, c), shadows=16, seed=1)
    assert exposed.auc > 0.9
    assert exposed.tpr_at_1 > 0.05
    assert exposed.auc > exposed.loss_auc, "a likelihood ratio is more than a loss"


def test_a_head_that_read_no_file_gives_nobody_away(shelf: Shelf) -> None:
    def blind(_: Mask, seed: int) -> Linear:
        return Linear(np.random.default_rng(seed).normal(0, 1, shelf.clean.shape[1] - 1), 0.0)

    exposed = expose(shelf, blind, shadows=16, seed=1)
    assert exposed.auc == pytest.approx(0.5, abs=0.06)
    assert exposed.tpr_at_1 < 0.05


def test_every_file_is_in_half_of_the_heads(shelf: Shelf) -> None:
    members, heads = make_shadows(shelf, lambda c, _: shelf.fit(c), shadows=6, seed=1)
    signals = np.stack([read_signals(one, list_queries(shelf), shelf.labels) for one in heads])
    assert members.sum(axis=0).tolist() == [3] * len(shelf.files)
    assert signals.shape == (6, len(shelf.files), 3), "as it is, and both changes"
    assert np.isfinite(likelihood_ratios(members, signals, 0)).all()


def test_what_could_not_be_judged_in_a_view_is_asked_about_as_it_is(shelf: Shelf) -> None:
    last = shelf.lessons.files == len(shelf.files) - 1
    last[: len(last) // 2] = False
    kept = type(shelf.lessons)(shelf.lessons.rows[~last], shelf.lessons.files[~last])
    queries = list_queries(type(shelf)(**{**vars(shelf), "lessons": kept}))
    assert np.array_equal(queries[-1, 2], shelf.clean[-1, :-1])
    assert not np.array_equal(queries[0, 2], shelf.clean[0, :-1])


@pytest.mark.slow
def test_the_study_shows_what_privacy_costs_and_buys(bundle: Bundle) -> None:
    shelf = planted_shelf(bundle, files=12, features=60, gap=2.0)
    rows = private.study(shelf, epsilons=(0.3, 8.0), delta=1e-5, repeats=1, shadows=8, seed=1)
    nothing, without, alone, strong, weak = rows
    assert [row.fit for row in rows[:2]] == [private.NOTHING, private.REGRESSION]
    assert [row.fit for row in rows[2:]] == [private.STEPS_ALONE, private.NOISY, private.NOISY]
    assert nothing.member_auc == pytest.approx(0.5), "it read no file"
    assert math.isinf(alone.epsilon)
    assert alone.auc >= weak.auc - 0.05
    assert math.isinf(without.epsilon)
    assert without.noise == 0.0
    assert strong.noise > 10 * weak.noise > 0
    assert without.auc > 0.7
    assert strong.auc < weak.auc
    assert without.member_auc > strong.member_auc + 0.05
    assert strong.member_auc < 0.6
    text = private.table(rows, delta=1e-5)
    assert text.startswith("| fit | ε at δ = 1e-05 | noise |")
    assert text.splitlines()[3].startswith("| logistic regression | – | 0.000 |")


def test_the_place_of_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from deepfake.commands.cli import main

    line = ["study", "private", "--genuine", str(tmp_path / "a"), "--synthetic", str(tmp_path)]
    assert main([*line, "--work", str(tmp_path / "work"), "--quick"]) == 2
    assert "is not there; give a folder of media files" in capsys.readouterr().err
