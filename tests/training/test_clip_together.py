"""What kinds of evidence are worth together: the regression, its folds, and the table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from deepfake_training.clips.together import (
    COLUMNS,
    Judged,
    fit_fusion,
    fuse_out_of_fold,
    rank_clips,
    tabulate_together,
)


def judged(
    label: int,
    odds: Mapping[str, float],
    *,
    fold: int = 0,
    source: str = "",
    family: str = "face swap",
) -> Judged:
    source = source or ("maker" if label else "camera")
    return Judged(
        label=label,
        source=source,
        group=f"{source} {fold}",
        fold=fold,
        family=family if label else "genuine",
        odds=odds,
        present=max(odds.values()),
    )


def material(*, faces: float, sound: float, each: int = 40) -> list[Judged]:
    """Clips of three folds whose evidence lies so far apart; every second one has no sound."""
    rng, files = np.random.default_rng(3), []
    for fold in range(3):
        for number in range(each):
            label = number % 2
            odds = {
                "frames": 2.0 * label - 1 + rng.normal(),
                "faces": faces * (2 * label - 1) + rng.normal(),
            }
            if number % 4 < 2:
                odds["sound"] = sound * (2 * label - 1) + rng.normal()
            files.append(judged(label, odds, fold=fold))
    return files


def test_evidence_that_misleads_has_no_weight_and_good_one_has_some() -> None:
    fusion = fit_fusion(
        material(faces=1.5, sound=-1.0), ("frames", "faces", "sound"), raising=False
    )
    weights = dict(zip(fusion.names, fusion.weights, strict=True))
    assert weights["faces"] > weights["frames"] > 0.5
    assert weights["sound"] == 0


def test_what_a_clip_lacks_counts_nothing() -> None:
    fusion = fit_fusion(material(faces=1.0, sound=1.0), ("frames", "sound"), raising=False)
    silent, unsure = judged(0, {"frames": 1.0}), judged(0, {"frames": 1.0, "sound": 0.0})
    assert fusion([silent]) == pytest.approx(fusion([unsure]))
    loud = judged(0, {"frames": 1.0, "sound": 1.0})
    assert fusion([loud])[0] > fusion([silent])[0]


def test_others_only_raise_where_that_is_asked() -> None:
    files = material(faces=1.0, sound=1.0)
    both = {
        raising: fit_fusion(files, ("frames", "faces"), raising=raising)
        for raising in (True, False)
    }
    calm, calmer = judged(0, {"frames": 1.0, "faces": -1.0}), judged(0, {"frames": 1.0})
    assert both[True]([calm]) == pytest.approx(both[True]([calmer]))
    assert both[False]([calm])[0] < both[False]([calmer])[0]


def test_no_clip_is_judged_by_a_regression_that_saw_its_fold() -> None:
    files = material(faces=1.0, sound=1.0)
    fused = fuse_out_of_fold(files, ("frames", "faces"), raising=False)
    others = [file for file in files if file.fold != 1]
    expected = fit_fusion(others, ("frames", "faces"), raising=False)
    inside = [number for number, file in enumerate(files) if file.fold == 1]
    assert fused[inside] == pytest.approx(expected([files[number] for number in inside]))
    whole = fit_fusion(files, ("frames", "faces"), raising=False)
    assert fused[inside] != pytest.approx(whole([files[number] for number in inside]))


def test_clips_are_ranked_over_all_by_system_and_by_family() -> None:
    files = [judged(0, {"frames": float(n)}) for n in range(10)]
    files += [judged(1, {"frames": 20.0}, source="a", family="editing")] * 3
    files += [judged(1, {"frames": 4.5}, source="b")]
    row = dict(zip(COLUMNS, rank_clips(files, np.array([f.present for f in files])), strict=True))
    assert row["clips"] == 14
    assert row["AUC"] == pytest.approx((3 + 0.5) / 4)
    assert row["mean over systems"] == pytest.approx(0.75)
    assert row["TPR at 1 % FPR"] == pytest.approx(0.75)
    assert row["editing"] == 1.0
    assert row["face swap"] == 0.5
    assert str(row["lip-sync"]) == "nan"


def test_the_table_tells_every_way_and_what_it_gains() -> None:
    files = material(faces=2.0, sound=1.0)
    table = tabulate_together(files, seed=1)
    rows = {
        cells[1]: cells[2:]
        for line in table.splitlines()
        if len(cells := [cell.strip() for cell in line.split("|")]) == 4 + len(COLUMNS) - 1
    }
    assert rows["frames alone"][0] == rows["all, fitted"][0] == "120"
    assert rows["sound alone"][0] == "60"
    assert float(rows["all, fitted"][1]) > float(rows["frames alone"][1])
    assert float(rows["fitted without faces"][1]) < float(rows["all, fitted"][1])
    present, fitted = (float(rows[name][1]) for name in ("all, by the present rule", "all, fitted"))
    (gain,) = [line for line in table.splitlines() if line.startswith("| all, fitted | 0.0")]
    values = [float(cell) for cell in gain.split("|")[2:5]]
    assert values[0] == pytest.approx(fitted - present, abs=0.0015)
    assert values[1] <= values[0] <= values[2]
    assert "all, fitted: frames " in table
