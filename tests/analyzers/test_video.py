from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepfake import DetectOptions
from deepfake.content.footage import BURST_SECONDS
from deepfake.detector import Detector
from deepfake.settings import Settings
from deepfake.types import Evidence, Status, Verdict
from tests.bundles import make_models, paint_face
from tests.media_files import Pixels, speech, video_bytes

RATE = 8
CELLS = (1, 2, 4, 8)


def room(
    brightness: int, *, faces: tuple[tuple[int, int], ...] = ((1, 1),), cells: Sequence[int] = CELLS
) -> Pixels:
    """A frame of one brightness with the texture of a camera and faces at (row, column)."""
    pixels = _texture(brightness, 96, 176, cells=cells)
    for row, column in faces:
        paint_face(pixels, row=row, column=column)
    return pixels


def _texture(brightness: int, height: int, width: int, *, cells: Sequence[int] = CELLS) -> Pixels:
    """Noise in cells of several sizes, so that coding leaves some of it."""
    rng, total = np.random.default_rng(1), np.full((height, width), float(brightness))
    for cell in cells:
        noise = rng.uniform(-20, 20, (height // cell, width // cell)) / np.sqrt(len(cells))
        total += noise.repeat(cell, axis=0).repeat(cell, axis=1)
    return total[..., None].repeat(3, axis=2).round().clip(0, 255).astype(np.uint8)


def lit(brightness: int) -> Pixels:
    """A large dark room in which only the face is lit."""
    pixels = _texture(30, 192, 352)
    pixels[:96, :112] = room(brightness)[:, :112]
    return pixels


def clip(*stretches: tuple[float, Pixels]) -> bytes:
    frames = [pixels for seconds, pixels in stretches for _ in range(round(seconds * RATE))]
    return video_bytes(frames, rate=RATE)


def evidence_of(detector: Detector, content: bytes, **options: bool) -> dict[str, Evidence]:
    report = detector.detect(content, DetectOptions(**options))  # type: ignore[arg-type]
    return {item.source: item for item in report.evidence}


@pytest.fixture(scope="module")
def span_detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Detector]:
    """The known bundles, of which two adjacent bursts may raise a whole clip."""
    folder = make_models(tmp_path_factory.mktemp("span"))
    with Detector(Settings(models_folder=folder, threads=1)) as detector:
        for slot in ("face", "video"):
            bundle = detector.engine.active[slot]
            spans = replace(bundle.calibration, span_windows=2, length_penalty=0.1)
            detector.engine.active[slot] = replace(bundle, calibration=spans)
        yield detector


def test_one_pass_gives_motion_frames_and_faces(known_detector: Detector) -> None:
    found = evidence_of(known_detector, clip((3, room(230))))
    for source in ("video", "face"):
        assert found[source].status is Status.OK
        assert found[source].score is not None
        assert found[source].score > 0.8
    assert [line.name for line in found["video"].timelines] == ["motion", "frames"]
    assert found["video"].details["motion_score"] > 0.8
    assert found["video"].reason == "not_calibrated_for_video"
    assert found["face"].timelines[0].seconds == pytest.approx((0.0, 1.0, 2.0), abs=0.01)
    assert found["face"].timelines[0].window_seconds == BURST_SECONDS
    (track,) = found["face"].tracks
    assert track.box == pytest.approx((16, 16, 80, 80), abs=1)
    assert track.end == pytest.approx(3.0)


def test_a_short_fake_stretch_of_a_face_is_found_and_timed(span_detector: Detector) -> None:
    content = clip((5, lit(30)), (3, lit(235)), (5, lit(30)))
    face = evidence_of(span_detector, content)["face"]
    assert face.score is not None
    assert face.points is not None
    assert face.score >= face.points.suspicious
    (segment,) = face.segments
    assert segment.start == pytest.approx(5, abs=1)
    assert segment.end == pytest.approx(8, abs=1)
    assert "from 0:05 to 0:08" in face.claim
    genuine = evidence_of(span_detector, clip((13, lit(30))))["face"]
    assert genuine.score is not None
    assert genuine.score < 0.2


def test_people_are_scored_apart(known_detector: Detector) -> None:
    pixels = room(30)
    pixels[:, 100:] = room(230, faces=())[:, 100:]
    paint_face(pixels, row=1, column=4)
    face = evidence_of(known_detector, clip((3, pixels)))["face"]
    by_place = {track.box[0] > 90: track.score for track in face.tracks}
    assert by_place[True] > 0.6
    assert by_place[False] < 0.2
    assert len(face.timelines) == 2


def test_a_picture_of_many_faces_shares_its_prior(known_detector: Detector) -> None:
    one = evidence_of(known_detector, clip((2, room(200))))["face"]
    two = evidence_of(known_detector, clip((2, room(200, faces=((1, 1), (1, 4))))))["face"]
    assert one.score is not None
    assert two.score is not None
    assert two.score == pytest.approx(1 / (1 + 2 * (1 - one.score) / one.score), abs=0.03)


def test_without_a_face_the_reason_is_told(known_detector: Detector) -> None:
    found = evidence_of(known_detector, clip((2, room(120, faces=()))))
    assert (found["face"].status, found["face"].reason) == (Status.SKIPPED, "no_face")
    assert found["video"].status is Status.OK


def test_one_frame_has_no_motion(known_detector: Detector) -> None:
    report = known_detector.detect(video_bytes([room(230)], rate=RATE))
    found = {item.source: item for item in report.evidence}
    assert found["video"].reason == "not_calibrated_for_video"
    assert [line.name for line in found["video"].timelines] == ["frames"]
    assert report.verdict is not Verdict.AUTHENTIC


def test_heat_maps_lie_on_the_frames_they_are_about(known_detector: Detector) -> None:
    content = clip((2, lit(150)), (1, lit(235)), (2, lit(150)))
    found = evidence_of(known_detector, content, heatmap=True)
    (face,) = found["face"].heatmaps
    assert face.name == "face 1"
    assert face.second == pytest.approx(2.0, abs=0.01)
    assert face.box == pytest.approx((16, 16, 80, 80), abs=1)
    (frame,) = found["video"].heatmaps
    assert frame.second == pytest.approx(2.0, abs=0.01)
    assert frame.box is None


def test_a_missing_bundle_fails_only_its_own_evidence(tmp_path: Path) -> None:
    import shutil

    folder = make_models(tmp_path / "models")
    shutil.rmtree(folder / "video-1")
    with Detector(Settings(models_folder=folder, threads=1)) as detector:
        found = evidence_of(detector, clip((2, room(230))))
    assert (found["video"].status, found["video"].reason) == (Status.FAILED, "no_bundle")
    assert found["face"].status is Status.OK


def talk(seconds: float, *, faces: tuple[tuple[int, int], ...] = ((1, 1),)) -> bytes:
    """A face whose mouth opens with the loudness of what is said."""
    sound = speech(seconds, sample_rate=16000)
    frames = []
    for index in range(round(25 * seconds)):
        loud = float(np.abs(sound[640 * index : 640 * index + 640]).mean())
        pixels = room(150, faces=faces, cells=(4,))
        depth = round(min(1.0, 4 * loud) * 10)
        pixels[64 : 64 + depth, 42:55] = 10
        frames.append(pixels)
    return video_bytes(frames, rate=25, sound=sound, sample_rate=16000)


def test_lips_are_compared_with_the_sound(known_detector: Detector) -> None:
    lips = evidence_of(known_detector, talk(4.0))["lip-sync"]
    assert lips.status is Status.OK
    assert lips.score is None
    assert abs(lips.details["lag_seconds"]) < 0.1
    assert lips.details["correlation"] > 0.2


def test_without_face_or_sound_lips_are_not_compared(known_detector: Detector) -> None:
    faceless = evidence_of(known_detector, talk(2.0, faces=()))["lip-sync"]
    assert (faceless.status, faceless.reason) == (Status.SKIPPED, "no_face")
    silent = evidence_of(known_detector, clip((2, room(150))))["lip-sync"]
    assert (silent.status, silent.reason) == (Status.SKIPPED, "no_sound")


def drawn(brightness: int = 230, *, face: bool = False) -> Pixels:
    """A flat drawing, or one with a face."""
    pixels = np.full((96, 176, 3), brightness, np.uint8)
    pixels[20:40, 120:160] = (40, 90, 160)
    pixels[60:90, 100:110] = (200, 60, 20)
    return paint_face(pixels) if face else pixels


def test_a_clip_of_graphics_accuses_nobody(known_detector: Detector) -> None:
    report = known_detector.detect(clip((3, drawn(face=True))), DetectOptions())
    found = {item.source: item for item in report.evidence}
    assert (found["video"].status, found["video"].reason) == (Status.SKIPPED, "graphic_not_photo")
    assert found["video"].claim.startswith("3 of 3 frames look like graphics or a recorded screen")
    assert found["video"].details == {"graphics": 3}
    assert (found["face"].status, found["face"].reason) == (Status.SKIPPED, "graphic_not_photo")
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.probability is None
    assert report.reasons[0].code == "graphic_not_photo"


def test_a_title_card_does_not_count(known_detector: Detector) -> None:
    plain = evidence_of(known_detector, clip((5, room(60, faces=()))))["video"]
    titled = clip((1, drawn()), (5, room(60, faces=())), (1, drawn()))
    found = evidence_of(known_detector, titled)["video"]
    assert found.details["graphics"] == 2
    assert found.score == pytest.approx(plain.score, abs=0.02)
    (frames,) = [line for line in found.timelines if line.name == "frames"]
    assert min(frames.seconds) >= 1
    assert max(frames.seconds) < 6


def test_a_person_on_a_recorded_screen_is_judged(known_detector: Detector) -> None:
    screen = np.full((192, 352, 3), 235, np.uint8)
    for line in range(110, 190, 8):
        screen[line, 20:330] = (30, 30, 60)
    screen[:96, :128] = room(230)[:, :128]
    found = evidence_of(known_detector, clip((3, screen)))
    assert found["video"].reason == "graphic_not_photo"
    assert found["face"].status is Status.OK
    assert found["face"].score is not None
    assert found["face"].score > 0.8
