from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from deepfake_training.calibrate import (
    choose_pooling,
    cross_calibrate,
    fit_calibration,
    source_weights,
)
from deepfake_training.manifests import data_sha256, read_manifest
from deepfake_training.metrics import (
    auc,
    calibration_error,
    eer,
    separation,
    tabulate,
    tpr_at_fpr,
)
from deepfake_training.records import FileLogits, read_records, write_records

from deepfake.bundle import Calibration


def make_records(*, files: int = 120, gap: float = 3.0) -> list[FileLogits]:
    """Two folds, each with one system and one bona fide source, in two views."""
    rng = np.random.default_rng(7)
    records = []
    for fold in (0, 1):
        for label, source in ((0, f"camera{fold}"), (1, f"system{fold}")):
            for number in range(files):
                for view, noise in (("clean", 0.5), ("web", 1.5)):
                    centre = gap * (label - 0.5)
                    logits = centre + rng.normal(0, 1) + noise * rng.normal(0, 0.3, 4)
                    path = f"{source}/{number}"
                    records.append(
                        FileLogits(path, label, source, f"{fold}", fold, view, tuple(logits))
                    )
    return records


def test_metrics_on_known_scores() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1], dtype=float)
    scores = np.array([0.1, 0.2, 0.3, 0.8, 0.4, 0.7, 0.9, 0.95])
    assert auc(labels, scores) == pytest.approx(14 / 16)
    assert eer(labels, scores) == pytest.approx(0.25)
    assert tpr_at_fpr(labels, scores, fpr=0.01) == 0.5
    assert tpr_at_fpr(labels, scores, fpr=0.25) == 1.0
    assert calibration_error(labels, labels * 0.98 + 0.01) == pytest.approx(0.01)
    assert calibration_error(labels, np.full(8, 0.9)) == pytest.approx(0.4)
    assert np.isnan(auc(np.ones(3), np.ones(3)))
    assert separation([0.4, 0.7, 0.9, 0.95], [0.1, 0.2, 0.3, 0.8]) == pytest.approx(14 / 16)
    assert np.isnan(separation([], [0.1]))


def test_calibration_error_sums_the_gaps_of_its_bins() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 300).astype(float), rng.random(300)
    weights = np.where(labels == 1, 0.5 / labels.sum(), 0.5 / (1 - labels).sum())
    plain = weighted = 0.0
    for low in np.arange(10) / 10:
        inside = (scores >= low) & (scores < low + 0.1)
        plain += inside.mean() * abs(labels[inside].mean() - scores[inside].mean())
        weighted += abs(float((weights * (labels - scores))[inside].sum()))
    assert calibration_error(labels, scores) == pytest.approx(plain)
    assert calibration_error(labels, scores, weights=weights) == pytest.approx(weighted)


def test_calibration_holds_its_false_positive_rates() -> None:
    records = make_records()
    calibration = fit_calibration(records)
    scores = {
        label: np.array(
            [
                calibration.probability(calibration.pool(np.array(r.logits, np.float32)))
                for r in records
                if r.label == label
            ]
        )
        for label in (0, 1)
    }
    assert (scores[0] >= calibration.points.synthetic).mean() <= 0.01
    assert 0.03 < (scores[0] >= calibration.points.suspicious).mean() <= 0.05
    assert (scores[1] < calibration.points.authentic).mean() <= 0.1
    together = np.concatenate([scores[0], scores[1]])
    labels = np.repeat([0.0, 1.0], [len(scores[0]), len(scores[1])])
    assert calibration_error(labels, together) < 0.05
    assert calibration.spread > 0


def test_sources_count_equally() -> None:
    records = make_records(files=10) + make_records(files=50)[:200]
    weights = source_weights(records)
    for source in ("camera0", "camera1"):
        share = sum(w for w, r in zip(weights, records, strict=True) if r.source == source)
        assert share == pytest.approx(0.5)


def test_cross_calibration_never_uses_the_own_group() -> None:
    records = make_records()
    shifted = [
        FileLogits(**{**r.__dict__, "logits": tuple(x + 100 for x in r.logits)})
        if r.fold == 1
        else r
        for r in records
    ]
    plain = {s.record: s.score for s in cross_calibrate(records, top_fraction=1.0)}
    moved = cross_calibrate(shifted, top_fraction=1.0)
    assert all(s.points.synthetic != 0 for s in moved)
    fold0 = [s.score for s in moved if s.record.fold == 0]
    assert max(fold0) < 0.01  # judged by the shifted fold, everything looks bona fide
    assert len(plain) == len(records)


def test_pooling_finds_short_inserts() -> None:
    rng = np.random.default_rng(1)
    records = [
        FileLogits(str(n), n % 2, "ab"[n % 2], "", 0, "clean", tuple(windows))
        for n in range(200)
        for windows in [rng.normal(0, 1, 8) + 2.5 * (n % 2) * (np.arange(8) < 2)]
    ]
    assert choose_pooling(records) == 0.25


def test_table_compares_within_the_fold() -> None:
    records = make_records()
    calibration: Calibration = fit_calibration(records)
    sources, views = tabulate(records, calibration)
    assert [view.view for view in views] == ["clean", "web"]
    assert {row.source for row in sources} == {"camera0", "camera1", "system0", "system1"}
    assert all(row.auc > 0.95 for row in sources if row.label)
    assert all(np.isnan(row.auc) for row in sources if not row.label)
    assert views[0].files == 480
    assert views[0].worst_false_positives <= 0.05


def test_records_survive_the_disk(tmp_path: Path) -> None:
    records = make_records(files=3)
    write_records(tmp_path / "records.jsonl", records)
    assert read_records(tmp_path / "records.jsonl") == records


def test_manifest(tmp_path: Path) -> None:
    text = "path\tsha256\tlabel\tsource\nfake/b/2.png\t22\tfake\tb\nreal/a/1.jpg\t11\treal\ta\n"
    (tmp_path / "manifest.tsv").write_text(text)
    items = read_manifest(tmp_path)
    assert [(item.label, item.source) for item in items] == [(1, "b"), (0, "a")]
    assert data_sha256(items) == data_sha256(reversed(items))
    (tmp_path / "manifest.tsv").write_text(text + "broken\n")
    with pytest.raises(ValueError, match="line 4"):
        read_manifest(tmp_path)


def test_systems_are_also_compared_with_unheard_files_of_heard_sources() -> None:
    records = make_records()
    calibration = fit_calibration(records)
    plain, _ = tabulate(records, calibration)
    assert all(np.isnan(row.system_auc) for row in plain)
    easy = [
        FileLogits(f"reserved/{i}", 0, "camera1", "1", 0, "clean", (-9.0,), heard=True)
        for i in range(20)
    ]
    sources, views = tabulate([*records, *easy], calibration)
    assert [row.auc for row in sources] == pytest.approx([row.auc for row in plain], nan_ok=True)
    by_key = {(row.view, row.source): row for row in sources}
    assert by_key["clean", "system0"].system_auc == 1.0
    assert by_key["clean", "system0"].system_eer == 0.0
    assert np.isnan(by_key["clean", "system1"].system_auc)
    assert np.isnan(by_key["web", "system0"].system_auc)
    assert next(v for v in views if v.view == "clean").system_auc == 1.0
