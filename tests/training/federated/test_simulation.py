"""Sites of planted sources: together they are as good as in one place, and who poisons is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deepfake_training.exposure.material import Shelf
from deepfake_training.federated.simulation import (
    LABELS,
    REVERSED,
    Scheme,
    judge_out,
    list_schemes,
    make_places,
    simulate,
    table,
)

from deepfake.bundle import Bundle
from tests.bundles import make_models
from tests.training.planted import planted_shelf, separated


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    base = Bundle.read(make_models(tmp_path_factory.mktemp("models")) / "image-1")
    return planted_shelf(base, files=16, features=12)


def run(shelf: Shelf, schemes: list[Scheme], **given: Any) -> dict[tuple, float]:
    values: dict = {"rounds": 6, "steps": 3, "delta": 1e-4, "seed": 1, **given}
    return {
        (row.scheme, row.rule, row.poison, row.epsilon): row.auc
        for row in simulate(shelf, schemes, **values)
    }


def test_every_source_is_in_one_place(shelf: Shelf) -> None:
    for alone, count in ((False, 3), (True, 6)):
        places = make_places(shelf, alone=alone)
        assert len(places) == count
        assert np.sum([place.files for place in places], axis=0).tolist() == [1] * 96
        classes = {len(set(shelf.labels[place.files])) for place in places}
        assert classes == {1 if alone else 2}


def test_together_is_as_good_as_in_one_place(shelf: Shelf) -> None:
    found = run(shelf, [*list_schemes(epsilons=(), poisoned=())])
    one = found["in one place, the same steps", "", "", 0.0]
    assert one > 0.9
    for rule in ("fedavg", "median", "trimmed", "krum"):
        assert found["federated", rule, "", 0.0] > one - 0.05
    assert found["each site alone", "", "", 0.0] <= one + 0.02


def test_sites_of_one_class_each_learn_together(shelf: Shelf) -> None:
    found = run(shelf, list_schemes(epsilons=(), poisoned=()), alone=True)
    assert found["federated", "fedavg", "", 0.0] > 0.85
    assert ("each site alone", "", "", 0.0) not in found


def test_poison_ruins_averaging(shelf: Shelf) -> None:
    schemes = [
        Scheme(name="federated", rule="fedavg", poison=poison, poisoned=1)
        for poison in (LABELS, REVERSED)
    ]
    found = run(shelf, schemes)
    assert found["federated", "fedavg", REVERSED, 0.0] < 0.5


def test_privacy_of_small_sites_costs_much(shelf: Shelf) -> None:
    schemes = [Scheme(name="federated", rule="fedavg", epsilon=epsilon) for epsilon in (0.2, 60.0)]
    found = run(shelf, schemes, most_folds=2)
    strong, weak = found.values()
    assert strong < weak


def test_left_out_files_are_judged_by_source(shelf: Shelf) -> None:
    head = shelf.fit(np.ones(len(shelf.files), np.bool_))
    out = np.isin(shelf.sources, ["camera", "first"])
    plain, changed = judge_out(shelf, head, out)
    assert plain == [
        pytest.approx(separated(head(shelf.clean[out, :-1]), shelf.labels[out]), abs=1e-9)
    ]
    assert len(changed) == 1


def test_the_table_names_what_was_done(shelf: Shelf) -> None:
    schemes = [Scheme(name="federated", rule="median", poison=LABELS, poisoned=1)]
    text = table(simulate(shelf, schemes, rounds=1, steps=1, delta=1e-4, seed=1, most_folds=1))
    assert text.splitlines()[2].startswith("| federated | median | 1 | labels flipped | – | ")


def test_without_files_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from deepfake.commands.cli import main

    line = ["study", "federated", "--genuine", str(tmp_path), "--synthetic", str(tmp_path)]
    assert main([*line, "--work", str(tmp_path / "w"), "--quick"]) == 2
    assert "holds no files" in capsys.readouterr().err
