"""Two tiers of the audio slot: which of them speaks, of which windows, what the report tells."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deepfake.detector import Detector
from deepfake.settings import DetectOptions, Settings
from deepfake.types import Evidence
from tests.bundles import make_rough_models, roughen
from tests.media_files import speech, wav_bytes

SHARE = 0.5
DULL = speech(9.0, seed=5)
ROUGH = roughen(speech(9.0, seed=6))
HALF = ((DULL + 0.9 * ROUGH) / 2).astype(np.float32)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rough_models(tmp_path_factory.mktemp("models"), settled=(0.3, 0.7), share=SHARE)


@pytest.fixture(scope="module")
def detector(models: Path) -> Iterator[Detector]:
    with Detector(Settings(models_folder=models, threads=1)) as detector:
        yield detector


def examine(detector: Detector, samples: np.ndarray, effort: str) -> Evidence:
    report = detector.detect(wav_bytes(samples), DetectOptions(effort=effort))
    return next(one for one in report.evidence if one.source == "audio")


def odds(score: float | None) -> float:
    assert score is not None
    return float(np.log(score / (1 - score)))


def test_the_full_tier_hears_some_windows_and_counts_the_quick_one_in(
    detector: Detector,
) -> None:
    quick, full = (examine(detector, HALF, effort) for effort in ("quick", "full"))
    assert (quick.bundle, full.bundle) == ("audio-1", "audio-1-large")
    assert quick.details["tier"] == "quick"
    assert full.details["tier"] == "full"
    assert full.details["quick_bundle"] == "audio-1"
    assert full.details["quick_score"] == pytest.approx(quick.score, abs=1e-6)
    assert (quick.details["windows"], full.details["windows"]) == (8, 4)
    assert odds(full.score) == pytest.approx((1 + SHARE) * odds(quick.score), abs=0.6)
    assert "The full tier judged, as was asked" in full.claim
    (timeline,) = full.timelines
    assert timeline == quick.timelines[0], "seconds are a matter of the quick tier"


@pytest.mark.parametrize(
    ("samples", "tier"),
    [(DULL, "quick"), (ROUGH, "quick"), (HALF, "full")],
    ids=["dull", "rough", "half"],
)
def test_auto_asks_it_where_the_quick_one_is_unsure(
    detector: Detector, samples: np.ndarray, tier: str
) -> None:
    found = examine(detector, samples, "auto")
    assert found.details["tier"] == tier
    assert ("because the quick one did not settle it" in found.claim) == (tier == "full")


def test_one_that_is_not_installed_is_missed(models: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models, tmp_path / "models"))
    shutil.rmtree(folder / "audio-1-large")
    with Detector(Settings(models_folder=folder, threads=1)) as detector:
        found = examine(detector, HALF, "auto")
        assert found.details["missing_tier"] == "audio-1-large"
        assert found.reason == "full_tier_missing"
        assert "missing_tier" not in examine(detector, DULL, "auto").details
