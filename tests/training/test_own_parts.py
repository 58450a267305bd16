"""The parts of ``deepfake train``: which files are taken, how they are split, and the head."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deepfake_training.audit.shortcuts import find_leaks
from deepfake_training.own.features import Known
from deepfake_training.own.folds import make_folds
from deepfake_training.own.head import Lessons, balance, fit_head, read_samples
from deepfake_training.own.material import find_sources
from deepfake_training.own.network import Linear, OpenNetwork

from deepfake import networks
from deepfake.errors import SettingsError
from deepfake.types import Kind, MediaInfo


def put(*places: Path) -> None:
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x")


def known(label: int, source: str, number: int = 0, **facts: Any) -> Known:
    info = MediaInfo(kind=Kind.IMAGE, format="png", sha256=f"{source}{number}", bytes=9)
    return Known(Path(f"{source}-{number}"), source, label, replace(info, **facts), Path())


def test_sub_folders_are_sources_and_a_folder_without_any_is_one(tmp_path: Path) -> None:
    put(*(tmp_path / "real" / "a" / name for name in ("1", ".hidden", "deep/2")))
    put(tmp_path / "real" / "b" / "3", tmp_path / "real" / ".cache" / "4", tmp_path / "one" / "5")
    put(tmp_path / "fake" / "a" / "6", tmp_path / "fake" / "empty" / ".7", tmp_path / "fake/c/8")
    found = find_sources([tmp_path / "real", tmp_path / "one"], [tmp_path / "fake"])
    assert [(one.name, one.label, [path.name for path in one.files]) for one in found] == [
        ("b", 0, ["3"]),
        ("genuine/a", 0, ["1", "2"]),
        ("one", 0, ["5"]),
        ("c", 1, ["8"]),
        ("synthetic/a", 1, ["6"]),
    ]


def test_the_same_name_in_two_folders_of_a_class_is_two_sources(tmp_path: Path) -> None:
    put(tmp_path / "x" / "a" / "1", tmp_path / "y" / "a" / "2")
    put(tmp_path / "fake" / "b" / "3", tmp_path / "fake" / "c" / "4")
    found = find_sources([tmp_path / "x", tmp_path / "y"], [tmp_path / "fake"])
    assert len({one.name for one in found}) == 4


def test_a_limit_draws_the_same_files_again(tmp_path: Path) -> None:
    names = [f"{number:02}" for number in range(40)]
    for place in ("real/a", "real/b", "fake/c", "fake/d"):
        put(*(tmp_path / place / name for name in names))
    folders = [tmp_path / "real"], [tmp_path / "fake"]
    first, again, other = (find_sources(*folders, limit=7, seed=seed) for seed in (1, 1, 2))
    assert [len(one.files) for one in first] == [7] * 4
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("genuine", "synthetic", "words"),
    [
        ("one", "fake", "genuine media of one source: .*--split random"),
        ("real", "one", "synthetic media of one source"),
        ("nowhere", "fake", "nowhere: is not there"),
        ("real", "empty", "empty: holds no files"),
    ],
)
def test_too_little_is_refused(tmp_path: Path, genuine: str, synthetic: str, words: str) -> None:
    put(*(tmp_path / place / "1" for place in ("one", "real/a", "real/b", "fake/c", "fake/d")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match=words):
        find_sources([tmp_path / genuine], [tmp_path / synthetic])


def test_every_source_is_held_out_once_beside_one_of_the_other_class() -> None:
    files = [
        known(label, f"{label}{name}", number)
        for label, names in ((0, "abc"), (1, "abcdefg"))
        for name in names
        for number in range(4)
    ]
    folds = make_folds(files, split="source", seed=1)
    assert len(folds) == 3
    assert sorted(n for fold in folds for n in fold.files) == list(range(len(files)))
    for fold in folds:
        inside = {(files[n].label, files[n].source) for n in fold.files}
        outside = {(one.label, one.source) for n, one in enumerate(files) if n not in fold.files}
        assert not inside & outside
        assert {label for label, _ in inside} == {label for label, _ in outside} == {0, 1}


def test_at_random_every_fold_has_files_of_every_source() -> None:
    files = [known(name == "b", name, number) for name in "ab" for number in range(10)]
    folds = make_folds(files, split="random", seed=1)
    for fold in folds:
        assert Counter(files[n].source for n in fold.files) == {"a": 2, "b": 2}


def test_classes_sources_and_files_count_alike() -> None:
    files = [known(0, "a", n) for n in range(8)] + [known(0, "b"), known(1, "c"), known(1, "c", 1)]
    numbers = np.array([*range(11), 10, 10])
    weights = balance(files, numbers)
    assert weights.sum() == pytest.approx(1)
    assert weights[:8].sum() == pytest.approx(0.25)
    assert weights[8] == pytest.approx(0.25)
    assert weights[10:].sum() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("mobile_picture", {}, (2, 3, 64, 64)),
        ("face_net", {"stages": 2}, (2, 3, 64, 64)),
        ("mobile_speech", {}, (2, 8000)),
        ("clip_net", {"residual": False, "width": 4}, (1, 4, 3, 64, 64)),
    ],
)
def test_another_head_goes_into_every_network(
    name: str, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    network = OpenNetwork(networks.create(name, **options))
    batch = torch.randn(shape)
    with torch.inference_mode():
        rows = network(batch).numpy()
        network.check(batch.numpy())
        assert network.head()(rows[:, :-1]) == pytest.approx(rows[:, -1], abs=1e-4)
        rng = np.random.default_rng(1)
        head = Linear(rng.normal(0, 1, rows.shape[1] - 1), 0.7)
        logits = network.with_head(head)(batch).numpy()
    assert logits == pytest.approx(head(rows[:, :-1]), abs=1e-3)


def test_a_network_that_ends_otherwise_is_refused() -> None:
    class Squared(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = torch.nn.Linear(4, 1)

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return 3 + self.last(batch)[:, 0].square()

    with pytest.raises(RuntimeError, match="not that of its last linear layer"):
        OpenNetwork(Squared()).check(np.ones((2, 4), np.float32))


def test_a_head_finds_the_feature_that_tells_and_starts_from_the_shipped_one() -> None:
    rng = np.random.default_rng(0)
    files = [known(label, f"{label}{s}", n) for label in (0, 1) for s in "ab" for n in range(30)]
    labels = np.array([one.label for one in files])
    features = rng.normal(0, 1, (len(files), 5))
    features[:, 2] += 3 * labels
    shipped = Linear(np.array([0.0, 0, 0, 0.5, 0]), 0.2)
    rows = np.hstack([features, shipped(features)[:, None]]).astype(np.float32)
    lessons = Lessons(rows, np.arange(len(files)))
    chosen = np.arange(len(files)) % 3 > 0
    fresh = fit_head(lessons, files, chosen, shipped=None)
    assert int(np.abs(fresh.weights).argmax()) == 2
    logits = fresh(rows[~chosen, :-1])
    assert logits[labels[~chosen] == 1].mean() > 1 > -1 > logits[labels[~chosen] == 0].mean()
    # where the shipped head knows the answer, starting from it finds more than starting afresh
    knows = Linear(np.array([0.0, 0, 1.0, 0, 0]), -1.5)
    rows[:, -1] = knows(features)
    started = fit_head(lessons, files, chosen, shipped=knows)
    assert started.weights[2] > fresh.weights[2]


def test_what_is_not_trusted_counts_nothing_in_either_kind_of_fit() -> None:
    files = [known(label, f"{label}{s}", n) for label in (0, 1) for s in "ab" for n in range(8)]
    labels = np.array([one.label for one in files])
    rows = np.random.default_rng(0).normal(0, 1, (len(files), 4)).astype(np.float32)
    rows[:, 2] += 3 * labels
    doubted = np.array([one.source == "1b" for one in files])
    rows[doubted, 2] *= -1
    lessons = Lessons(rows, np.arange(len(files)), np.where(doubted, 0.0, 1.0))
    everything = np.ones(len(files), np.bool_)
    weights = read_samples(lessons, files, everything).weights
    assert np.array_equal(weights == 0, doubted)
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 1].sum())
    head = fit_head(lessons, files, everything, shipped=None)
    alone = fit_head(replace(lessons, trust=None), files, ~doubted, shipped=None)
    assert head.weights == pytest.approx(alone.weights, rel=0.01, abs=1e-3)


def test_what_else_tells_the_classes_apart_is_told() -> None:
    files = [known(0, "a", n, format="jpeg", bytes=100 + n) for n in range(20)]
    files += [known(1, "b", n, format="png", bytes=101 + n) for n in range(20)]
    (leak,) = find_leaks(files)
    assert leak.startswith("the format alone tells 100% of the files apart (genuine mostly jpeg, ")
    bigger = [
        known(label, "ab"[label], n, width=64 + 900 * label + n, height=2000)
        for label in (0, 1)
        for n in range(20)
    ]
    (leak,) = find_leaks(bigger)
    assert "the short side in pixels ranks the classes with AUC 1.00" in leak
    assert "genuine about 74, synthetic about 974" in leak
