"""Bundles calibrated on labelled files, which are read as the detector reads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from deepfake_training import recalibrate
from deepfake_training.manifests import list_labelled
from deepfake_training.perturb import AUDIO_VIEWS
from deepfake_training.recalibrate import read_views
from deepfake_training.video.views import recompress_video

from benchmarks.borders import KINDS
from deepfake.bundle import Bundle
from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.engine.scores import pool_frames
from deepfake.errors import SettingsError
from deepfake.media.opening import open_media
from deepfake.trust.registry import read_bundles
from deepfake.types import Evidence
from tests.analyzers.test_video import clip, drawn, room
from tests.bundles import add_full_tier
from tests.content.test_drawings import photo
from tests.media_files import image_bytes, scene, speech, video_bytes, wav_bytes


def test_recompression_keeps_times_and_limits_the_height() -> None:
    frames = [scene(160, 120, seed=n) for n in range(10)]
    seconds = [0.0, 0.1, 0.2, 0.6, 0.7, 0.8, 0.9, 1.5, 1.6, 1.7]
    content = recompress_video(video_bytes(frames, seconds=seconds), crf=32, most_height=60)
    with open_media(content) as media:
        assert (media.info.width, media.info.height) == (80, 60)
        seen = [frame.seconds for frame in media.frames(most=1000)]
    assert seen == pytest.approx(seconds, abs=0.01)


def evidence(detector: Detector, path: Path, source: str) -> Evidence:
    return next(one for one in detector.detect(path).evidence if one.source == source)


def test_what_is_calibrated_on_is_what_the_detector_sees(
    known_detector: Detector, tmp_path: Path
) -> None:
    engine = known_detector.engine
    bordered, _ = KINDS[next(iter(KINDS))]((photo(300, 400, seed=3) // 4 + 110).astype(np.uint8))
    quiet = np.zeros(3 * 16000, np.float32)
    contents = {
        "image": image_bytes(bordered),
        "face": image_bytes(room(140, faces=((1, 1), (1, 5)))),
        "audio": wav_bytes(np.concatenate([speech(3.0), quiet, speech(2.0)])),
    }
    for slot, content in contents.items():
        path = tmp_path / slot
        path.write_bytes(content)
        bundle, shown = engine.bundle(slot), evidence(known_detector, path, slot)
        logits = dict(read_views(engine, bundle, path))["clean"]
        scores = [bundle.calibration.probability(logit) for logit in logits]
        if slot == "face":
            assert scores == pytest.approx([max(face.score or 0 for face in shown.faces)])
        else:
            assert len(logits) == shown.details["windows"]
            pooled = bundle.calibration.pool(np.array(logits, np.float32))
            assert bundle.calibration.probability(pooled) == pytest.approx(shown.score, abs=1e-4)


def test_of_clips_what_the_detector_says_of_frames_and_motion(
    known_detector: Detector, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip((2.0, room(80)), (1.0, room(150)), (2.0, room(90))))
    shown = evidence(known_detector, path, "video")
    frames = next(line for line in shown.timelines if line.name == "frames").scores
    engine = known_detector.engine
    (told,) = dict(read_views(engine, engine.bundle("frame"), path))["clean"]
    assert told == pytest.approx(pool_frames(frames), abs=1e-4)
    (both,) = dict(read_views(engine, engine.bundle("video"), path))["clean"]
    motion, still = shown.details["motion_score"], shown.details["frames_score"]
    odds = np.log([motion / (1 - motion), still / (1 - still)])
    assert both == pytest.approx(odds.sum(), abs=1e-4)


def test_clips_of_graphics_are_not_calibrated_on(known_detector: Detector, tmp_path: Path) -> None:
    path, engine = tmp_path / "clip.mp4", known_detector.engine
    path.write_bytes(clip((2.0, drawn()), (1.0, room(150))))
    for slot in ("frame", "video"):
        assert dict(read_views(engine, engine.bundle(slot), path)) == {}


Files = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Files:
    def make(*, clips: bool = False, each: int = 6, sources: int = 2) -> Path:
        """Dark genuine files and bright synthetic ones, of as many sources of either."""
        for label, level in (("genuine", 20), ("synthetic", 160)):
            for number in range(each):
                place = tmp_path / "files" / label / f"{label}-{number % sources}"
                place.mkdir(parents=True, exist_ok=True)
                tone = level + 3 * number
                if clips:
                    content = clip((1.0, room(tone)))
                    (place / f"{number}.mp4").write_bytes(content)
                else:
                    pixels = (photo(96, 80, seed=number) // 4 + tone).astype(np.uint8)
                    (place / f"{number}.png").write_bytes(image_bytes(pixels))
        (tmp_path / "files" / "notes.txt").write_text("not a picture")
        return tmp_path / "files"

    return make


def test_command_calibrates_a_bundle_on_labelled_pictures(
    tmp_path: Path, known_models: Path, folder: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    models = Path(shutil.copytree(known_models, tmp_path / "models"))
    before = Bundle.read(models / "image-1").calibration
    files = folder(each=12)
    assert len(list_labelled(files)) == 24
    assert main(["calibrate", str(models / "image-1"), "--files", str(files)]) == 0
    out = capsys.readouterr().out
    assert "| clean | synthetic-0 | 6 |" in out
    assert "deepfake models activate image-1" in out
    after = Bundle.read(models / "image-1").calibration
    assert after.slope > 0
    assert after != before
    assert after.spread > 0
    card = (models / "image-1" / "README.md").read_text()
    assert card.count("## Calibration on other files") == 1


def test_command_calibrates_a_copy_that_answers_once_it_is_activated(
    tmp_path: Path, known_models: Path, folder: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    own, source = tmp_path / "own", known_models / "image-1"
    command = ["calibrate", str(source), "--output", str(own / "newsroom-1"), "--files"]
    assert main([*command, str(folder(each=2))]) == 2  # too few
    assert not (own / "newsroom-1").exists()
    before = Bundle.read(source)
    assert main([*command, str(folder(each=12))]) == 0
    assert Bundle.read(source) == before
    assert main(["models", "activate", "newsroom-1", "--models", str(own)]) == 0
    assert read_bundles(own)["image"].name == "newsroom-1"
    capsys.readouterr()
    assert main([*command, str(folder(each=12))]) == 2
    assert "name a folder that is not there yet" in capsys.readouterr().err


def test_of_two_tiers_the_quick_one_loses_its_limits_and_the_full_one_is_refused(
    tmp_path: Path, known_models: Path, folder: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    models = Path(shutil.copytree(known_models, tmp_path / "models"))
    full = add_full_tier(models)
    assert Bundle.read(models / "image-1").settled is not None
    files = str(folder(each=12))
    assert main(["calibrate", str(models / "image-1"), "--files", files]) == 0
    assert Bundle.read(models / "image-1").settled is None
    assert main(["calibrate", str(full.folder), "--files", files]) == 2
    assert "is a full tier, whose calibration counts the quick one in" in capsys.readouterr().err
    assert Bundle.read(full.folder).sha256 == full.sha256


def test_too_few_files_change_nothing(known_models: Path, folder: Files, tmp_path: Path) -> None:
    models = Path(shutil.copytree(known_models, tmp_path / "models"))
    before = (models / "image-1" / "bundle.json").read_text()
    with pytest.raises(SettingsError, match="6 genuine and 6 synthetic could be judged; give at"):
        recalibrate.recalibrate(models / "image-1", list_labelled(folder()))
    assert (models / "image-1" / "bundle.json").read_text() == before
    with pytest.raises(SettingsError, match="says where faces are"):
        recalibrate.recalibrate(models / "face-finder-1", [])


def test_command_calibrates_how_frames_of_clips_are_read(
    tmp_path: Path,
    known_models: Path,
    folder: Files,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recalibrate, "LEAST_FILES", 4)
    models = tmp_path / "models"  # a copy alone: the shipped ones find faces for it
    shutil.copytree(known_models / "frame-1", models / "frame-1")
    monkeypatch.setattr(recalibrate, "shipped_models_folder", lambda: known_models)
    files = folder(clips=True, each=4)
    broken = files / "genuine" / "genuine-0" / "broken.mp4"
    broken.write_bytes((files / "genuine" / "genuine-0" / "0.mp4").read_bytes()[:300])
    command = ["calibrate", str(models / "frame-1"), "--files", str(files)]
    records = tmp_path / "runs" / "frames" / "frames.jsonl"
    assert main([*command, "--records", str(records)]) == 0
    captured = capsys.readouterr()
    assert "| crf_40_360p | genuine-1 | 2 |" in captured.out
    assert "left out" in captured.out + captured.err
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    assert len(rows) == 8 * 3
    assert {row["view"] for row in rows} == set(recalibrate.CLIP_VIEWS)
    calibration = Bundle.read(models / "frame-1").frames_calibration
    assert calibration is not None
    assert calibration.slope > 0
    card = (models / "frame-1" / "README.md").read_text()
    assert card.count("## Video frames") == 1
    assert card.startswith("# frame-1")


def test_sources_of_labelled_files_are_their_folders(tmp_path: Path) -> None:
    for name in ("genuine/phone/a.jpg", "genuine/b.jpg", "synthetic/gan/deep/c.png", "other/d.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    items = {item.facts["path"]: (item.label, item.source) for item in list_labelled(tmp_path)}
    assert items == {
        "genuine/b.jpg": (0, "genuine"),
        "genuine/phone/a.jpg": (0, "phone"),
        "synthetic/gan/deep/c.png": (1, "gan"),
    }
    with pytest.raises(SettingsError, match="no labelled files; put them into genuine/SOURCE"):
        list_labelled(tmp_path / "other")


def test_views_in_which_nobody_speaks_are_left_out(
    known_detector: Detector, tmp_path: Path
) -> None:
    path = tmp_path / "noise.wav"
    path.write_bytes(wav_bytes(np.random.default_rng(0).normal(0, 0.05, 32000).astype(np.float32)))
    engine = known_detector.engine
    assert dict(read_views(engine, engine.bundle("audio"), path)) == {}
    path.write_bytes(wav_bytes(speech(3.0)))
    heard = dict(read_views(engine, engine.bundle("audio"), path))
    assert "clean" in heard
    assert set(heard) <= set(AUDIO_VIEWS)
