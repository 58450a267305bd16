from __future__ import annotations

import numpy as np
import pytest

from deepfake import DetectOptions
from deepfake.analyzers.face import highest
from deepfake.bundle import Calibration
from deepfake.detector import Detector
from deepfake.engine.scores import Scored
from deepfake.types import Evidence, Status
from tests.bundles import POINTS, paint_face
from tests.media_files import Pixels, image_bytes, scene


def portrait(brightness: int, *, cells: tuple[tuple[int, int], ...] = ((1, 1),)) -> Pixels:
    pixels = (scene(256, 160) // 8 + brightness).astype(np.uint8)
    for row, column in cells:
        paint_face(pixels, row=row, column=column)
    return pixels


def face_evidence(detector: Detector, pixels: Pixels, *, heatmap: bool = False) -> Evidence:
    report = detector.detect(image_bytes(pixels), DetectOptions(heatmap=heatmap))
    (found,) = (item for item in report.evidence if item.source == "face")
    return found


def test_a_face_has_a_score_and_a_box(known_detector: Detector) -> None:
    found = face_evidence(known_detector, portrait(220))
    assert found.status is Status.OK
    assert found.score is not None
    assert found.score > 0.8
    (face,) = found.faces
    assert face.name == "face 1"
    assert face.box == pytest.approx((16, 16, 80, 80), abs=0.2)
    assert face.score == pytest.approx(found.score, abs=1e-3)
    assert "a replaced or re-enacted face" in found.claim
    dark = face_evidence(known_detector, portrait(0))
    assert dark.score is not None
    assert dark.score < 0.2


def test_every_face_is_scored_alone_and_the_claim_names_one(known_detector: Detector) -> None:
    pixels = portrait(0, cells=((1, 1), (3, 6)))
    pixels[64:, 160:] = np.maximum(pixels[64:, 160:], 215)
    paint_face(pixels, row=3, column=6)
    found = face_evidence(known_detector, pixels)
    scores = {face.box[0] > 100: face.score for face in found.faces}
    assert scores[True] > 0.7
    assert scores[False] < 0.2
    name = next(face.name for face in found.faces if face.box[0] > 100)
    assert f"in {name}" in found.claim


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (scene(200, 120), "no_face"),
        (np.full((120, 200, 3), 120, np.uint8), "no_face"),
        (paint_face(np.full((120, 200, 3), 120, np.uint8)), None),
    ],
    ids=["scene", "grey", "face"],
)
def test_a_picture_without_faces_is_skipped(
    known_detector: Detector, pixels: Pixels, reason: str | None
) -> None:
    found = face_evidence(known_detector, pixels)
    assert found.reason == reason
    assert (found.status is Status.SKIPPED) == (reason is not None)


def test_many_faces_are_told(known_detector: Detector) -> None:
    cells = tuple((row, column) for row in (1, 4, 7) for column in (1, 4, 7, 10))
    pixels = np.full((320, 400, 3), 100, np.uint8)
    for row, column in cells:
        paint_face(pixels, row=row, column=column)
    found = face_evidence(known_detector, pixels)
    assert found.reason == "too_many_faces"
    assert len(found.faces) == 8


def test_heat_map_covers_the_box_and_shows_what_the_score_rests_on(
    known_detector: Detector,
) -> None:
    pixels = portrait(40)
    pixels[50:90, 16:90] = np.maximum(pixels[50:90, 16:90], 235)
    pixels[1::2, 50:90] //= 4  # a pattern that the blur of a patch levels out
    found = face_evidence(known_detector, paint_face(pixels), heatmap=True)
    (heatmap,) = found.heatmaps
    assert heatmap.box == pytest.approx((16, 16, 80, 80), abs=0.2)
    values = np.array(heatmap.values)
    assert values.shape == (16, 16)
    assert 0 <= values.min() <= values.max() <= 1


def test_highest_shares_the_prior_between_faces() -> None:
    calibration = Calibration(slope=1.0, intercept=0.0, spread=0.2, points=POINTS)
    read = [Scored.read(np.array([logit], np.float32), calibration) for logit in (2.0, 0.0, -1.0)]
    name, score, (low, high) = highest([("a", read[1]), ("b", read[0]), ("c", read[2])])
    assert name == "b"
    assert np.log(score / (1 - score)) == pytest.approx(2 - np.log(3), abs=1e-3)
    assert low < score < high
    assert highest([("a", read[0])])[1] == pytest.approx(read[0].score)
