from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from benchmarks.borders import KINDS
from benchmarks.hostile import make_gif
from deepfake.detector import Detector
from deepfake.errors import DeepfakeError, MediaError, TimeLimit
from deepfake.media.budget import LEAST_PIXELS, OTHER_CODECS_COST
from deepfake.schema import REPORT_SCHEMA
from deepfake.settings import DetectOptions, Limits, Settings
from deepfake.types import Evidence, Kind, Status, Verdict
from examples.samples import camera_exif, jpeg, png
from tests.content.test_drawings import photo
from tests.media_files import (
    gif_bytes,
    image_bytes,
    scene,
    speech,
    tracks_bytes,
    video_bytes,
    wav_bytes,
)


def by_source(report: object) -> dict[str, Evidence]:
    return {evidence.source: evidence for evidence in report.evidence}  # type: ignore[attr-defined]


def bright(width: int = 96, height: int = 64) -> np.ndarray:
    """A picture that the known bundle calls synthetic."""
    return (scene(width, height, noise=24.0) // 8 + 224).astype(np.uint8)


def test_a_picture_from_every_kind_of_source(known_detector: Detector, tmp_path: Path) -> None:
    content = image_bytes(scene())
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    reports = [
        known_detector.detect(source)
        for source in (path, str(path), content, io.BytesIO(content), scene())
    ]
    assert len({report.probability for report in reports}) == 1
    assert len({report.media.sha256 for report in reports[:4]}) == 1
    assert reports[0].path == str(path)
    for report in reports:
        jsonschema.validate(report.to_dict(), REPORT_SCHEMA)
        assert report.versions["image"] == "image-1"
        assert {"open", "image", "provenance", "metadata"} <= set(report.seconds_by_step)


def test_score_and_verdict_follow_the_bundle(known_detector: Detector) -> None:
    report = known_detector.detect(image_bytes(bright()))
    image = by_source(report)["image"]
    assert image.score is not None
    assert image.score > 0.9
    assert report.verdict is Verdict.SYNTHETIC
    assert report.reasons[0].code == "image_synthetic"
    dark = known_detector.detect(image_bytes((scene(noise=24.0) // 8).astype(np.uint8)))
    assert dark.verdict is Verdict.AUTHENTIC
    assert dark.probability is not None
    assert dark.probability < 0.2


def test_stability_and_heatmap_are_options(known_detector: Detector) -> None:
    content = image_bytes(scene())
    plain = by_source(known_detector.detect(content, DetectOptions(stability=False)))["image"]
    assert "recompressed_score" not in plain.details
    assert not plain.heatmaps
    full = by_source(known_detector.detect(content, DetectOptions(heatmap=True)))["image"]
    assert 0 < full.details["recompressed_score"] < 1
    assert len(full.heatmaps[0].values) >= 10


def test_tiny_picture_is_inconclusive_with_its_reason(known_detector: Detector) -> None:
    report = known_detector.detect(image_bytes(scene(4, 4)))
    assert (report.verdict, report.probability) == (Verdict.INCONCLUSIVE, None)
    assert report.reasons[0].code == "image_too_small"


def test_unsigned_text_does_not_accuse_a_genuine_picture(known_detector: Detector) -> None:
    dark = (scene(noise=24.0) // 8).astype(np.uint8)
    plain = known_detector.detect(image_bytes(dark))
    assert plain.verdict is Verdict.AUTHENTIC
    text = {"parameters": "a, Steps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64"}
    told = known_detector.detect(png(dark, text=text))
    assert (told.verdict, told.reasons[0].code) == (Verdict.SUSPICIOUS, "metadata_claim")
    assert "Anyone can write this" in told.reasons[0].text
    assert (told.probability, told.interval) == (plain.probability, plain.interval)
    believed = known_detector.detect(png(dark, text=text), DetectOptions(trust_claims=True))
    assert (believed.verdict, believed.probability) == (Verdict.SYNTHETIC, 0.999)


def test_unsigned_text_does_not_clear_a_synthetic_picture(known_detector: Detector) -> None:
    exif = camera_exif()
    told = known_detector.detect(jpeg(bright(), exif=exif), DetectOptions(trust_claims=True))
    assert "camera" in by_source(told)["metadata"].details
    assert told.verdict is Verdict.SYNTHETIC


def test_graphic_is_recognised(known_detector: Detector) -> None:
    graphic = np.full((200, 200, 3), 240, np.uint8)
    graphic[50:100, 50:150] = (20, 90, 160)
    report = known_detector.detect(image_bytes(graphic))
    assert by_source(report)["image"].reason == "graphic_not_photo"
    assert report.verdict is not Verdict.SYNTHETIC


def test_of_a_screenshot_the_photo_is_judged(known_detector: Detector) -> None:
    shot = np.full((480, 640, 3), 8, np.uint8)
    shot[:40] = (30, 60, 90)
    for line in range(60, 470, 12):
        shot[line : line + 2, 10:130] = 180
    shot[120:400, 160:520] = bright(360, 280)
    report = known_detector.detect(image_bytes(shot), DetectOptions(heatmap=True))
    image = by_source(report)["image"]
    assert image.reason is None, "as if the photo were alone"
    assert image.box
    left, top, right, bottom = image.box
    assert 160 <= left < right <= 520
    assert 120 <= top < bottom <= 400
    assert image.heatmaps[0].box == image.box
    assert image.score is not None
    assert image.score > 0.9, "the dark interface is not judged"
    assert "Only that photo was judged" in image.claim
    assert report.verdict is Verdict.SYNTHETIC
    jsonschema.validate(report.to_dict(), REPORT_SCHEMA)


@pytest.mark.parametrize("kind", KINDS)
def test_a_border_does_not_change_the_verdict(known_detector: Detector, kind: str) -> None:
    for level, verdict in ((20, Verdict.AUTHENTIC), (190, Verdict.SYNTHETIC)):
        alone = (photo(300, 400, seed=3) // 4 + level).astype(np.uint8)
        plain = by_source(known_detector.detect(alone))["image"]
        assert plain.box is None
        bordered, _ = KINDS[kind](alone)
        report = known_detector.detect(bordered)
        image = by_source(report)["image"]
        assert (report.verdict, image.box is not None) == (verdict, True)
        assert image.score == pytest.approx(plain.score, abs=0.02)


def test_speech_has_a_timeline(known_detector: Detector) -> None:
    report = known_detector.detect(wav_bytes(speech(4.0)))
    audio = by_source(report)["audio"]
    assert report.media.kind is Kind.AUDIO
    assert audio.score is not None
    timeline = audio.timelines[0]
    assert timeline.window_seconds == 1.0
    assert timeline.seconds[0] < 0.2
    assert timeline.seconds[-1] > 2.5
    assert len(timeline.scores) == len(timeline.seconds)


@pytest.mark.parametrize(
    ("samples", "code"),
    [
        (np.zeros(32000, np.float32), "no_speech"),
        (speech(0.38), "audio_too_short"),
    ],
    ids=["silence", "short"],
)
def test_unjudgeable_sound_is_inconclusive(
    known_detector: Detector, samples: np.ndarray, code: str
) -> None:
    report = known_detector.detect(wav_bytes(samples))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert code in {reason.code for reason in report.reasons}


def test_clipped_sound_is_careful(known_detector: Detector) -> None:
    loud = np.clip(speech(2.0) * 40, -1, 1)
    report = known_detector.detect(wav_bytes(loud))
    assert by_source(report)["audio"].reason == "clipped"
    assert report.verdict in (Verdict.SUSPICIOUS, Verdict.INCONCLUSIVE)


def test_picture_and_sound_of_a_video_are_separate_evidence(known_detector: Detector) -> None:
    frames = [scene(96, 64, seed=n) for n in range(20)]
    content = video_bytes(frames, sound=speech(2.0), sample_rate=16000)
    report = known_detector.detect(content, DetectOptions(heatmap=True))
    evidence = by_source(report)
    assert report.media.kind is Kind.VIDEO
    assert evidence["video"].score is not None
    assert evidence["video"].heatmaps[0].second in evidence["video"].timelines[-1].seconds
    assert evidence["face"].reason == "no_face"
    assert evidence["audio"].status is Status.OK


def test_a_file_of_which_a_track_was_left_out_is_not_cleared(known_detector: Detector) -> None:
    report = known_detector.detect(tracks_bytes(default=1))
    assert report.verdict is not Verdict.AUTHENTIC
    assert by_source(report)["tracks"].reason == "other_tracks"
    assert len([text for text in report.warnings if "that players choose" in text]) == 2


def test_silent_film_says_that_it_has_no_sound(known_detector: Detector) -> None:
    for content in (
        video_bytes([scene(96, 64, seed=n) for n in range(6)]),
        gif_bytes([scene(64, 64, seed=n) for n in range(5)]),
    ):
        audio = by_source(known_detector.detect(content))["audio"]
        assert (audio.status, audio.reason) == (Status.SKIPPED, "no_sound")


def test_many_files_keep_order_and_survive_bad_ones(known_detector: Detector) -> None:
    good = [image_bytes(scene(seed=seed)) for seed in range(6)]
    sources = [good[0], b"", good[1], b"text", *good[2:]]
    results = list(known_detector.detect_many(sources, workers=3))
    assert [isinstance(result, DeepfakeError) for result in results] == [
        isinstance(source, bytes) and len(source) < 10 for source in sources
    ]
    alone = known_detector.detect(good[5])
    assert results[-1].probability == pytest.approx(alone.probability)  # type: ignore[union-attr]


def test_a_file_over_its_time_is_an_error_among_the_others(known_models: Path) -> None:
    settings = Settings(models_folder=known_models, threads=1, file_seconds=1e-6)
    sources = [image_bytes(scene()), image_bytes(scene(seed=1))]
    with Detector(settings) as detector:
        late = list(detector.detect_many(sources))
        assert [one.code for one in late if isinstance(one, TimeLimit)] == ["time_limit"] * 2
        done = list(detector.detect_many(sources, file_seconds=60.0))
        assert not any(isinstance(one, DeepfakeError) for one in done)
        assert detector.detect(sources[0]).verdict  # one file alone has no limit of its own


def test_the_report_says_how_much_of_a_costly_video_was_looked_at(known_models: Path) -> None:
    limits = Limits(decode_pixels=100 * LEAST_PIXELS * OTHER_CODECS_COST, sampled_frames=32)
    content = make_gif(300, size=(64, 64))
    with Detector(Settings(models_folder=known_models, threads=1, limits=limits)) as detector:
        report = detector.detect(content)
    said = " ".join(report.warnings)
    assert "32 of 300 frames were looked at, spread over the first 10 of 30 seconds." in said
    assert report.verdict


def test_async_variant_gives_the_same_report(known_detector: Detector) -> None:
    content = image_bytes(scene())

    async def both() -> list[float | None]:
        reports = await asyncio.gather(*(known_detector.detect_async(content) for _ in range(3)))
        return [report.probability for report in reports]

    assert set(asyncio.run(both())) == {known_detector.detect(content).probability}


def test_a_failing_analyzer_is_evidence_and_a_bug_is_not(known_models: Path) -> None:
    class Failing:
        name = "failing"
        kinds = frozenset({Kind.IMAGE})

        def __init__(self, error: Exception) -> None:
            self.error = error

        def analyze(self, media: object, engine: object, options: object) -> list[Evidence]:
            raise self.error

    settings = Settings(models_folder=known_models)
    content = image_bytes(scene())
    with Detector(settings, analyzers=(Failing(MediaError("x", code="broken")),)) as detector:
        evidence = detector.detect(content).evidence[0]
        assert (evidence.status, evidence.reason) == (Status.FAILED, "broken")
    with (
        Detector(settings, analyzers=(Failing(ZeroDivisionError()),)) as detector,
        pytest.raises(ZeroDivisionError),
    ):
        detector.detect(content)


def test_import_is_light() -> None:
    code = (
        "import sys, deepfake; heavy = {'torch', 'gradio', 'timm', 'cv2', 'PIL', 'av', 'librosa',"
        "'onnxruntime', 'openvino', 'rich', 'matplotlib', 'scipy', 'sklearn', 'c2pa'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


BASE_ONLY = """
import sys, io
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "timm", "gradio", "matplotlib", "librosa", "scipy",
                                      "sklearn", "onnx", "soundfile", "torchvision"}:
            raise ImportError(name + " is not part of the base install")
sys.meta_path.insert(0, Absent())
import deepfake
for path in sys.argv[1:]:
    report = deepfake.detect(path)
    print(report.media.kind, *(e.source for e in report.evidence if e.score is not None))
"""


def test_base_install_runs_every_shipped_detector(tmp_path: Path) -> None:
    files = {
        "a.png": image_bytes(scene(400, 300)),
        "b.wav": wav_bytes(speech(5.0)),
        "c.mp4": video_bytes(
            [scene(320, 240, seed=n) for n in range(6)], sound=speech(5.0), sample_rate=16000
        ),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in files]
    seen = subprocess.run(
        [sys.executable, "-c", BASE_ONLY, *paths], capture_output=True, text=True, check=False
    )
    assert seen.returncode == 0, seen.stderr
    assert seen.stdout.splitlines() == ["image image", "audio audio", "video video audio"]
