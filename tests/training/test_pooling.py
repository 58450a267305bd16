"""Ways to pool window logits, the safer operating points, and the sheet of failures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from deepfake_training.calibrate import fit_calibration, pool_logits
from deepfake_training.card import pooling_table
from deepfake_training.image.failures import EACH, choose_failures, draw_failures
from deepfake_training.image.pooling import LEARNED, POOLINGS, compare_poolings
from deepfake_training.records import FileLogits
from PIL import Image


def records(*, spots: bool) -> list[FileLogits]:
    """Two folds of two sources each; synthetic files differ in one window, or in all a little."""
    rng = np.random.default_rng(1)
    found = []
    for fold in (0, 1):
        for label, source in ((0, f"camera-{fold}"), (1, f"maker-{fold}")):
            for number in range(60):
                logits = rng.normal(0, 1, 8)
                if label:
                    logits += np.eye(8)[number % 8] * 6 if spots else 1.0
                found.append(
                    FileLogits(
                        path=f"{source}/{number}.png",
                        label=label,
                        source=source,
                        group=f"group-{fold}",
                        fold=fold,
                        view="clean",
                        logits=tuple(logits),
                    )
                )
    return found


def test_the_pooling_that_fits_the_windows_has_the_highest_auc() -> None:
    spots = {row.pooling: row.auc["clean"] for row in compare_poolings(records(spots=True))}
    assert set(spots) == {*POOLINGS, LEARNED}
    assert spots["highest"] > 0.95 > spots["median"]
    assert spots[LEARNED] > 0.95
    everywhere = {row.pooling: row.auc["clean"] for row in compare_poolings(records(spots=False))}
    assert everywhere["mean"] > everywhere["highest"]
    assert everywhere["mean of the middle half"] > everywhere["highest"]
    assert pooling_table(compare_poolings(records(spots=True))).count("\n") == len(spots) + 2


def test_operating_points_can_hold_on_every_source() -> None:
    found = records(spots=False)
    odd = [
        FileLogits(f"odd/{n}.png", 0, "odd", "group-0", 0, "clean", (2.0 + n / 25,))
        for n in range(50)
    ]
    together = [*found, *odd]
    rates = {}
    for each_source in (False, True):
        calibration = fit_calibration(together, each_source=each_source)
        scores = [calibration.probability(pool_logits(r, top_fraction=1.0)) for r in odd]
        rates[each_source] = np.mean(np.array(scores) >= calibration.points.suspicious)
        assert calibration.points.suspicious <= calibration.points.synthetic
    assert rates[True] <= 0.05
    assert rates[False] > 0.1


def test_failures_are_drawn_with_their_sources(tmp_path: Path) -> None:
    found = records(spots=False)
    chosen = choose_failures(found, top_fraction=1.0)
    assert len(chosen) == 4 * EACH
    assert [one.record.label for one in chosen] == [0] * 2 * EACH + [1] * 2 * EACH
    flagged = [one.score for one in chosen if not one.record.label]
    assert flagged == sorted(flagged, reverse=True)
    for one in chosen:
        path = tmp_path / one.record.path
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (50, 30), "red").save(path)
    sheet = tmp_path / "failures.png"
    draw_failures(chosen, folder=tmp_path, path=sheet)
    with Image.open(sheet) as picture:
        assert picture.size == (1600, 216)
        assert picture.getpixel((50, 50)) == (255, 0, 0)
