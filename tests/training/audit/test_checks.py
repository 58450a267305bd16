"""Every check of an audit finds what was planted, and little else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from deepfake_training.audit.activations import (
    Spread,
    find_clusters,
    find_outliers,
    find_signatures,
)
from deepfake_training.audit.duplicates import find_twins, judge_twins
from deepfake_training.audit.findings import KINDS, Code, Finding, trust_files
from deepfake_training.audit.labels import find_wrong_labels, guess_labels
from deepfake_training.audit.patterns import find_patterns
from deepfake_training.audit.provenance import is_unknown, judge_claims, judge_terms
from deepfake_training.audit.shortcuts import measure_shortcuts

from .collection import candidate, collection, folds_of, mark


def test_every_kind_of_finding_says_what_to_do() -> None:
    assert set(KINDS) == set(Code)
    assert all(kind.title and kind.do for kind in KINDS.values())


def test_twins_are_told_by_class_split_and_source() -> None:
    files = [
        candidate("one", 0, "a", fingerprint=mark(1), split="train"),
        candidate("one", 1, "c", fingerprint=mark(1), split="train"),  # the same bytes
        candidate("two", 0, "a", fingerprint=mark(2), split="train"),
        candidate("two'", 0, "a", fingerprint=mark(2, flipped=6), split="test"),
        candidate("three", 0, "a", fingerprint=mark(3)),
        candidate("three'", 0, "b", fingerprint=mark(3, flipped=31)),
        candidate("four", 1, "c", fingerprint=mark(4)),
        candidate("four'", 1, "c", fingerprint=mark(4, flipped=1)),
        candidate("five", 1, "c", fingerprint=mark(5)),
        candidate("none", 1, "c"),
    ]
    found = [*judge_twins(files, find_twins(files))]
    assert [(one.code, one.files) for one in found] == [
        (Code.TWIN_CLASSES, (0, 1)),
        (Code.TWIN_SPLITS, (2, 3)),
        (Code.TWIN_SOURCES, (4, 5)),
        (Code.TWIN, (6, 7)),
    ]
    assert trust_files(found, count=len(files)).tolist() == [0, 0, *[1] * 8]


def test_a_source_made_of_the_other_class_is_aligned_not_mislabelled() -> None:
    files = [candidate(f"r{n}", 0, "a", fingerprint=mark(n)) for n in range(8)]
    files += [candidate(f"f{n}", 1, "c", fingerprint=mark(n, flipped=9)) for n in range(4)]
    files += [candidate(f"x{n}", 1, "d", fingerprint=mark(50 + n)) for n in range(20)]
    files.append(candidate("odd", 1, "d", fingerprint=mark(7, flipped=2)))
    codes = {one.files: one.code for one in judge_twins(files, find_twins(files))}
    assert codes[0, 8] is Code.PAIRED
    assert codes[7, 32] is Code.PAIRED, "its partner is of a source that has many pairs"
    lone = [one for one in files if one.source != "c"]
    (finding,) = judge_twins(lone, find_twins(lone))
    assert finding.code is Code.TWIN_CLASSES


def test_a_wrong_label_stands_out_within_its_source() -> None:
    rng = np.random.default_rng(0)
    files = collection(40)
    odds = np.where([one.label for one in files], 2.0, -2.0) + rng.normal(0, 0.7, len(files))
    odds[40:80] += 3.5  # a source that is misjudged as a whole
    wrong = {3, 17, 90, 125}
    odds[[*wrong]] *= -1.5
    odds[60] = np.nan
    found = {one.files[0] for one in find_wrong_labels(files, odds)}
    assert wrong <= found
    assert len(found - wrong) <= 3
    labels = np.array([one.label for one in files])
    plain = np.flatnonzero(
        (guess_labels(labels, odds) >= 0) & (guess_labels(labels, odds) != labels)
    )
    assert len(set(plain) & set(range(40, 80))) > 20, (
        "which confident learning alone takes for errors"
    )
    assert guess_labels(labels[:40], odds[:40]).tolist() == [-1] * 40


@pytest.mark.parametrize("values", [352, 96 * 96])
def test_a_faint_pattern_in_few_files_is_found(values: int) -> None:
    rng = np.random.default_rng(3)
    files = collection(60)
    patterns = rng.normal(0, 1, (len(files), values))
    patterns[:60] += 0.7 * rng.normal(
        0, 1, values
    )  # what a whole source has in common is no trigger
    planted = {5, 30, 70, 110, 111, 118}
    patterns[[*planted]] += 1.2 * rng.normal(0, 1, values)
    patterns -= patterns.mean(axis=1, keepdims=True)
    patterns /= np.linalg.norm(patterns, axis=1, keepdims=True)
    marked = [
        replace(one, facts=replace(one.facts, pattern=row.astype(np.float32)))
        for one, row in zip(files, patterns, strict=True)
    ]
    assert {one.files[0] for one in find_patterns(marked)} == planted
    assert not [*find_patterns(files)], "files without a pattern"


def test_what_lies_apart_in_the_features_is_told() -> None:
    rng = np.random.default_rng(1)
    files = collection(60)
    features = rng.normal(0, 1, (len(files), 24)) + 6 * np.repeat(rng.normal(0, 1, (4, 24)), 60, 0)
    shift = rng.normal(0, 1, 24)
    planted = [1, 2, 3, 4, 61, 62, 63, 64]
    features[planted] += 5 * shift
    features[200] += 40 * rng.normal(0, 1, 24)
    spread = Spread(files, features, range(len(files)))
    found = {one.files[0] for one in find_signatures(spread) if one.files[0] < 120}
    assert found == set(planted)
    assert {one.files[0] for one in find_clusters(spread, seed=1) if one.files[0] < 120} == set(
        planted
    )
    assert 200 in {one.files[0] for one in find_outliers(spread)}


def test_a_trait_is_asked_about_sources_that_it_did_not_see() -> None:
    rng = np.random.default_rng(2)
    files = [
        replace(
            one,
            info=replace(
                one.info,
                format=("png" if one.label else "jpeg") if rng.random() < 0.9 else "webp",
                width={"a": 400, "b": 900, "c": 500, "d": 1000}[one.source],
                height=2000,
            ),
            facts=replace(one.facts, traits={"level": float(rng.normal()), "camera named": "no"}),
        )
        for one in collection(40)
    ]
    found = {one.trait: one for one in measure_shortcuts(files, folds_of(files), seed=1)}
    assert found["format"].sources > 0.85
    assert found["format"].usual[1].startswith("png (")
    assert found["short side in pixels"].files > 0.9 > found["short side in pixels"].sources
    assert 0.3 < found["level"].sources < 0.7
    assert "camera named" not in found, "what all have alike"
    assert found["source"].files == 1.0
    assert found["source"].usual[0] == "0 of 4 origins have both classes"
    assert not measure_shortcuts(files[:80], [], seed=1), "one class alone"


def test_what_files_and_manifest_say_is_held_together() -> None:
    files = [
        candidate(
            "a", 0, "a", generators=("It names Midjourney.",), licence="CC-BY-4.0", origin="x"
        ),
        candidate("b", 1, "c", camera="Canon EOS", licence="CC BY-NC 4.0", origin="x"),
        candidate(
            "c", 1, "c", camera="Canon EOS", generators=("It names Sora.",), licence="none stated"
        ),
        candidate("d", 0, "a", recorded="d", licence="MIT", origin="x"),
        candidate("e", 0, "a", recorded="f", licence="MIT", origin="x"),
    ]
    claims = [(one.code, one.files) for one in judge_claims(files)]
    assert claims == [(Code.CLAIM, (0,)), (Code.CLAIM, (1,)), (Code.CHANGED, (4,))]
    texts = [one.text for one in judge_terms(files, stated=True)]
    assert texts == [
        "synthetic source c: no terms are known of 1 of 2 files",
        "synthetic source c: the terms may forbid the use (CC BY-NC 4.0)",
        "synthetic source c: the manifest names no origin of 1 of 2 files",
    ]
    assert "there is no manifest" in [*judge_terms(files, stated=False)][-1].text
    assert [is_unknown(text) for text in ("", "None stated", "n/a", "MIT", "NASA", "Nan")] == [
        *[True] * 3,
        *[False] * 3,
    ]


def test_trust_is_the_least_of_all_findings() -> None:
    found = [Finding(Code.OUTLIER, (0, 1), 1, ""), Finding(Code.LABEL, (1,), 1, "")]
    assert trust_files(found, count=3).tolist() == [1, 0, 1]
