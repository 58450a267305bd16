"""A clean score that holds for the very pixels that were judged and for no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deepfake.analyzers.manipulation import ACROSS, DOWN, MOST_RISE, move, reduce, tell
from deepfake.detector import Detector
from deepfake.fusion import Policy, decide
from deepfake.preprocess import Box, ImagePreprocess, Pixels
from deepfake.reasons import Code
from deepfake.settings import DetectOptions
from deepfake.types import Evidence, Kind, OperatingPoints, Status, Verdict
from tests.media_files import scene

CROPS = ImagePreprocess(side_pixels=32, max_windows=4)
"""As the known detector cuts them, which sees how bright they are."""


def noisy(side: int = 200, *, level: int) -> Pixels:
    noise = np.random.default_rng(0).normal(0, 12, (side, side, 3))
    return (level + noise).round().clip(0, 255).astype(np.uint8)


def tuned(side: int = 200) -> Pixels:
    """A bright picture, dark in the crops that are judged."""
    pixels, dark = noisy(side, level=190), noisy(side, level=20)
    for box in CROPS.boxes(side, side):
        place = np.s_[box.top : box.top + box.height, box.left : box.left + box.width]
        pixels[place] = dark[place]
    return pixels


def test_a_score_of_its_very_pixels_clears_nothing(known_detector: Detector) -> None:
    report = known_detector.detect(tuned())
    assert report.probability is not None
    assert report.probability < 0.1
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.reasons[0].code is Code.SCORE_DOES_NOT_LAST
    (found,) = [one for one in report.evidence if one.source == "manipulation"]
    assert (found.score, found.bundle) == (None, "image-1")
    assert found.details["rise"] > MOST_RISE
    assert found.runtime is not None


def test_it_is_asked_only_where_a_score_is_clean_and_wanted(known_detector: Detector) -> None:
    for pixels, options in ((noisy(level=20), None), (tuned(), DetectOptions(stability=False))):
        report = known_detector.detect(pixels, options)
        assert report.verdict is Verdict.AUTHENTIC
        assert "manipulation" not in [one.source for one in report.evidence]
    bright = 255 - tuned()
    assert known_detector.detect(bright).verdict is Verdict.SYNTHETIC


@pytest.mark.parametrize("score", [0.05, 0.4, 0.7, 0.95])
def test_it_accuses_nobody(score: float) -> None:
    points = OperatingPoints(authentic=0.2, suspicious=0.6, synthetic=0.9)
    judged = Evidence(source="image", status=Status.OK, claim="Said.", score=score, points=points)
    told = tell(2.0)
    assert told is not None
    before, after = (
        decide(evidence, kind=Kind.IMAGE, policy=Policy())
        for evidence in ([judged], [judged, replace(told, bundle="image-1")])
    )
    clean = before.verdict is Verdict.AUTHENTIC
    assert after.verdict is (Verdict.INCONCLUSIVE if clean else before.verdict)
    assert (after.probability, after.interval) == (before.probability, before.interval)
    assert (after.reasons[0].code is Code.SCORE_DOES_NOT_LAST) is clean
    assert tell(MOST_RISE) is None


def test_crops_move_within_the_picture() -> None:
    pixels = scene(100, 80)
    inner = move(pixels, Box(10, 20, 32, 32))
    assert np.array_equal(inner, pixels[20 + DOWN :, 10 + ACROSS :][:32, :32])
    corner = move(pixels, Box(68, 48, 32, 32))
    assert np.array_equal(corner, pixels[48 - DOWN :, 68 - ACROSS :][:32, :32])
    whole = move(pixels, Box(0, 0, 100, 80))
    assert np.array_equal(whole, pixels[DOWN:, ACROSS:])


@pytest.mark.parametrize("box", [(10, 20, 32, 32), (68, 48, 32, 32), (0, 0, 100, 80)])
def test_reduced_crops_show_what_is_around(box: tuple[int, int, int, int]) -> None:
    left, top, width, height = box
    ramp = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 80, axis=0).repeat(3, axis=2)
    seen = reduce(ramp, Box(*box))
    assert seen.shape[0] <= height
    assert seen.shape[1] <= width
    spread = int(seen[0, -1, 0]) - int(seen[0, 0, 0])
    assert spread == pytest.approx((seen.shape[1] - 1) / 0.9, abs=1.5)
    assert abs(float(seen.mean()) - (left + width / 2)) < 5
    del top
