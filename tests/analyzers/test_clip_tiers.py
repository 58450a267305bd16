"""Two tiers of the slots that judge clips: which of them speaks, and what is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from deepfake.detector import Detector
from deepfake.settings import DetectOptions, Settings
from deepfake.trust.registry import activate
from deepfake.types import Evidence, Report, Verdict
from tests.analyzers.test_video import clip, room
from tests.bundles import add_full_tier
from tests.media_files import video_bytes

Open = Callable[[], Detector]
UNCLEAR, CLEAR = 0.1, 0.8


@pytest.fixture
def models(known_models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(known_models, tmp_path / "models"))


@pytest.fixture
def opened(models: Path) -> Iterator[Open]:
    """Opens detectors of ``models``, as it then is, and closes them."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Detector(Settings(models_folder=models, threads=1)))


def grey(value: float, *, seconds: float = 3.0, odd: float | None = None) -> bytes:
    """A clip with a little noise of whose frames the known quick tier has the logit 4 ``value``,
    but from its middle on, for a second and a half, 4 ``odd``.
    """
    noise = np.random.default_rng(0).normal(0, 4, (96, 128, 1)).repeat(3, axis=2)
    values = np.full(round(8 * seconds), value)
    if odd is not None:
        values[len(values) // 2 :][:12] = odd
    frames = [(127.5 * (one + 1) + noise).round().clip(0, 255) for one in values]
    return video_bytes([frame.astype(np.uint8) for frame in frames], rate=8)


def of_video(report: Report) -> Evidence:
    (found,) = [one for one in report.evidence if one.source == "video"]
    return found


def examine(detector: Detector, value: float, effort: str = "auto") -> Evidence:
    return of_video(detector.detect(grey(value), DetectOptions(effort=effort)))


def frames_score(evidence: Evidence) -> float:
    return float(evidence.details["frames_score"])  # type: ignore[arg-type]


def score_of(odds: float) -> float:
    return float(1 / (1 + np.exp(-odds)))


def test_the_full_tier_is_asked_where_the_quick_one_is_unsure(models: Path, opened: Open) -> None:
    add_full_tier(models, slot="frame")
    detector = opened()
    unsure, sure = examine(detector, UNCLEAR), examine(detector, CLEAR)
    assert unsure.details["tier"] == "full"
    assert unsure.details["quick_bundle"] == "frame-1"
    assert frames_score(unsure) == pytest.approx(score_of(8 * UNCLEAR), abs=0.03)
    assert unsure.details["quick_score"] == pytest.approx(score_of(4 * UNCLEAR), abs=0.03)
    assert "tier" not in sure.details
    assert frames_score(sure) == pytest.approx(score_of(4 * CLEAR), abs=0.03)


def test_effort_forces_either(models: Path, opened: Open) -> None:
    add_full_tier(models, slot="frame")
    detector = opened()
    assert "tier" not in examine(detector, UNCLEAR, effort="quick").details
    forced = examine(detector, CLEAR, effort="full")
    assert forced.details["tier"] == "full"
    assert frames_score(forced) == pytest.approx(score_of(8 * CLEAR), abs=0.03)


def test_the_quick_tier_counts_in_the_full_one(models: Path, opened: Open) -> None:
    add_full_tier(models, slot="frame", share=0.5, slope=0.25)
    found = examine(opened(), UNCLEAR)
    of_a_frame = 0.25 * 8 * UNCLEAR
    odds = 0.25 * of_a_frame + 0.5 * 4 * UNCLEAR
    assert frames_score(found) == pytest.approx(score_of(odds), abs=0.02)


def test_a_long_clip_is_looked_at_closer_at_few_moments_only(models: Path, opened: Open) -> None:
    add_full_tier(models, slot="frame")
    report = opened().detect(grey(UNCLEAR, seconds=100.0), DetectOptions())
    found = of_video(report)
    (timeline,) = [line for line in found.timelines if line.name == "frames"]
    assert found.details["frames_closer"] == len(timeline.seconds) <= 24
    assert timeline.seconds[0] < 5
    assert timeline.seconds[-1] > 80


@pytest.mark.parametrize("effort", ["quick", "auto", "full"])
def test_a_clip_of_which_one_frame_stands_out_is_not_cleared(
    models: Path, opened: Open, effort: str
) -> None:
    add_full_tier(models, slot="frame")
    detector, options = opened(), DetectOptions(effort=effort)
    plain = detector.detect(grey(-CLEAR, seconds=20), options)
    assert plain.verdict is Verdict.AUTHENTIC
    assert (of_video(plain).details.get("tier") == "full") == (effort != "quick")
    report = detector.detect(grey(-CLEAR, seconds=20, odd=CLEAR), options)
    found = of_video(report)
    assert (found.details.get("tier") == "full") == (effort != "quick")
    assert found.reason == "frame_stands_out"
    assert found.score is not None
    assert found.points is not None
    assert found.score < found.points.authentic
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.reasons[0].code == "frame_stands_out"


def test_a_full_tier_that_is_not_installed_is_told(models: Path, opened: Open) -> None:
    full = add_full_tier(models, slot="frame")
    activate(models, full.name)
    shutil.rmtree(full.folder)
    report = opened().detect(grey(UNCLEAR), DetectOptions())
    assert any("frame-1-large" in text for text in report.warnings)
    assert of_video(report).details["missing_tier"] == "frame-1-large"
    quiet = opened().detect(grey(UNCLEAR), DetectOptions(effort="quick"))
    assert not any("frame-1-large" in text for text in quiet.warnings)


def of_face(report: Report) -> Evidence:
    (found,) = [one for one in report.evidence if one.source == "face"]
    return found


def test_the_full_tier_judges_every_person_of_a_clip(models: Path, opened: Open) -> None:
    content = clip((6.0, room(150, faces=((1, 1), (1, 4)))))
    alone = of_face(opened().detect(content, DetectOptions(effort="auto")))
    full = add_full_tier(models, slot="face", settled=None)
    detector = opened()
    both = of_face(detector.detect(content, DetectOptions()))
    assert both.bundle == full.name
    assert both.details["tier"] == "full"
    assert [track.name for track in both.tracks] == ["face 1", "face 2"]
    assert both.score is not None
    assert alone.score is not None
    assert both.score > alone.score  # the same brightness, which counts twice as much
    for line in both.timelines:
        assert len(line.seconds) <= 8
        assert list(line.seconds) == sorted(line.seconds)
    quick = of_face(detector.detect(content, DetectOptions(effort="quick")))
    assert quick.score == alone.score
    assert "tier" not in quick.details


def test_nobody_is_left_out_where_they_are_many(models: Path, opened: Open) -> None:
    add_full_tier(models, slot="face", settled=None)
    places = ((0, 0), (0, 3), (2, 0), (2, 3))
    found = of_face(opened().detect(clip((3.0, room(150, faces=places)))))
    assert found.details["tier"] == "full"
    assert len(found.tracks) == len(places)


def test_a_full_tier_of_faces_that_is_not_installed_is_told(models: Path, opened: Open) -> None:
    full = add_full_tier(models, slot="face", settled=None)
    activate(models, full.name)
    shutil.rmtree(full.folder)
    content = clip((3.0, room(150)))
    report = opened().detect(content, DetectOptions())
    assert any("face-1-large" in text for text in report.warnings)
    assert of_face(report).details["missing_tier"] == "face-1-large"
    without = opened().detect(clip((3.0, room(150, faces=()))), DetectOptions())
    assert not any("face-1-large" in text for text in without.warnings)
