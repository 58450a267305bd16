"""The audio analyzer on sounds that it hears as they are, with networks whose answer is known."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from deepfake_training.perturb import add_noise, code_audio, mix, resample_and_back

from deepfake.analyzers.audio import measure_level
from deepfake.commands.cli import main
from deepfake.content.inputs import WINDOWS_AT_ONCE
from deepfake.detector import Detector
from deepfake.engine.engine import Engine
from deepfake.media.opening import open_media
from deepfake.preprocess import AudioPreprocess, Batch, Samples
from deepfake.schema import REPORT_SCHEMA
from deepfake.settings import DetectOptions, Settings
from deepfake.types import Evidence, Report, Status, Verdict
from tests.bundles import POINTS, make_rough_models, roughen
from tests.media_files import speech, wav_bytes
from tests.sounds import music

RATE = 16000


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Detector]:
    folder = make_rough_models(
        tmp_path_factory.mktemp("models"), span_windows=2, length_penalty=0.5
    )
    with Detector(Settings(models_folder=folder, threads=1)) as detector:
        yield detector


def audio(report: Report) -> Evidence:
    jsonschema.validate(report.to_dict(), REPORT_SCHEMA)
    return next(evidence for evidence in report.evidence if evidence.source == "audio")


def insert(seconds: float, *, start: float, length: float = 3.0) -> Samples:
    """Speech in which a part is rough: the known network answers 4 to it and -4 to the rest."""
    samples = speech(seconds, seed=5).copy()
    span = slice(round(start * RATE), round((start + length) * RATE))
    samples[span] = roughen(speech(length, seed=6))
    return samples


@pytest.mark.parametrize("start", [2.0, 22.6, 41.3, 56.5])
def test_a_sentence_of_three_seconds_in_a_minute_is_found(detector: Detector, start: float) -> None:
    report = detector.detect(wav_bytes(insert(60.0, start=start)))
    evidence = audio(report)
    assert evidence.score is not None
    assert evidence.score >= POINTS.suspicious
    assert report.verdict in (Verdict.SUSPICIOUS, Verdict.SYNTHETIC)
    (segment,) = evidence.segments
    assert segment.start == pytest.approx(start, abs=1.0)
    assert segment.end == pytest.approx(start + 3.0, abs=1.0)
    low, high = evidence.interval or (0, 0)
    assert low < evidence.score < high
    assert "from 0:" in evidence.claim
    timeline = evidence.timelines[0]
    assert timeline.seconds[int(np.argmax(timeline.scores))] == pytest.approx(start + 1, abs=1)


def test_the_same_minute_without_it_is_not_lifted(detector: Detector) -> None:
    evidence = audio(detector.detect(wav_bytes(speech(60.0, seed=5))))
    assert evidence.score is not None
    assert evidence.score < 0.1
    assert evidence.segments == ()
    assert "from" not in evidence.claim


def test_without_spans_the_insert_is_averaged_away_but_still_located(tmp_path: Path) -> None:
    folder = make_rough_models(tmp_path)
    with Detector(Settings(models_folder=folder, threads=1)) as detector:
        evidence = audio(detector.detect(wav_bytes(insert(60.0, start=30.0))))
    assert evidence.score is not None
    assert evidence.score < 0.1
    assert evidence.segments[0].start == pytest.approx(30.0, abs=1.0)
    assert "0:30" not in evidence.claim


def test_a_sound_that_is_rough_throughout_needs_no_place(detector: Detector) -> None:
    evidence = audio(detector.detect(wav_bytes(roughen(speech(20.0)))))
    assert evidence.score is not None
    assert evidence.score > 0.9
    assert "from" not in evidence.claim
    assert len(evidence.segments) == 1


def test_times_are_those_of_the_sound_with_its_silence(detector: Detector) -> None:
    lead, gap = np.zeros(round(7.4 * RATE), np.float32), np.zeros(6 * RATE, np.float32)
    samples = np.concatenate([lead, insert(20.0, start=10.0), gap, speech(5.0), lead])
    evidence = audio(detector.detect(wav_bytes(samples)))
    timeline = evidence.timelines[0]
    assert timeline.window_seconds == 1.0
    assert all(second == int(second) for second in timeline.seconds)
    spoken = {*range(7, 28), *range(33, 39)}
    assert spoken - {7, 27, 33, 38} <= set(timeline.seconds) <= spoken
    (segment,) = evidence.segments
    assert segment.start == pytest.approx(17.4, abs=1.0)
    assert segment.end == pytest.approx(20.4, abs=1.0)


def test_the_heat_map_follows_the_seconds(detector: Detector) -> None:
    samples = insert(60.0, start=30.0)
    report = detector.detect(wav_bytes(samples), DetectOptions(heatmap=True))
    evidence = audio(report)
    row = np.array(evidence.heatmaps[0].values[0])
    assert len(row) == 600
    for second, score in zip(
        evidence.timelines[0].seconds, evidence.timelines[0].scores, strict=True
    ):
        np.testing.assert_allclose(row[10 * int(second) : 10 * int(second) + 10], score)


def test_the_heat_map_of_a_cut_sound_spans_the_whole(detector: Detector) -> None:
    content = wav_bytes(insert(40.0, start=5.0))
    options = DetectOptions(heatmap=True, max_audio_seconds=20.0)
    row = np.array(audio(detector.detect(content, options)).heatmaps[0].values[0])
    assert row[len(row) // 2 + 1 :].max() == 0.0
    assert row.argmax() / len(row) == pytest.approx(6.5 / 40, abs=0.05)


def test_only_music_is_not_judged(detector: Detector) -> None:
    report = detector.detect(wav_bytes(music(10.0, instrument="strings", drums=True)))
    evidence = audio(report)
    assert (evidence.status, evidence.reason) == (Status.SKIPPED, "music")
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.reasons[0].code == "music"


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(5 * RATE, np.float32),
        np.random.default_rng(0).normal(0, 0.1, 5 * RATE).astype(np.float32),
    ],
    ids=["silence", "noise"],
)
def test_no_speech_is_not_judged(detector: Detector, samples: Samples) -> None:
    evidence = audio(detector.detect(wav_bytes(samples)))
    assert (evidence.status, evidence.reason) == (Status.SKIPPED, "no_speech")


def test_music_under_speech_is_a_caution(detector: Detector) -> None:
    report = detector.detect(wav_bytes(0.5 * mix(speech(10.0), music(10.0), snr_db=0.0)))
    evidence = audio(report)
    assert (evidence.status, evidence.reason) == (Status.OK, "music")
    assert evidence.score is not None
    assert evidence.score < POINTS.authentic
    assert report.verdict is Verdict.INCONCLUSIVE


def test_noise_over_speech_is_a_caution(detector: Detector) -> None:
    clean = speech(10.0)
    noisy = add_noise(clean, snr_db=0.0, rng=np.random.default_rng(0), tilt=0.0)
    evidence = audio(detector.detect(wav_bytes(0.3 * noisy)))
    assert evidence.reason == "too_noisy"
    assert evidence.details["snr_db"] < 6
    plain = audio(detector.detect(wav_bytes(clean)))
    assert plain.reason is None
    assert plain.details["snr_db"] > evidence.details["snr_db"] + 5
    assert plain.details["speech_seconds"] == pytest.approx(10.0, abs=1.0)


def test_the_level_is_that_of_a_full_scale() -> None:
    tone = np.sin(np.arange(RATE, dtype=np.float32) / 7).astype(np.float32)
    assert measure_level(tone) == pytest.approx(-3.01, abs=0.02)
    assert measure_level(0.1 * tone) == pytest.approx(-23.01, abs=0.02)
    for silent in (np.zeros(100, np.float32), np.zeros(0, np.float32)):
        assert measure_level(silent) == -120.0


def test_windows_are_those_of_the_preprocess_step() -> None:
    preprocess = AudioPreprocess(window_seconds=2.0, hop_seconds=1.0)
    voice = np.tile(speech(10.0), 30)
    for seconds in (0.7, 2.0, 2.5, 30.3, 299.0):
        samples = np.pad(voice[: round(seconds * RATE)], (RATE, 0))
        starts = preprocess.starts(*preprocess.active(samples))
        assert [start / RATE for start in starts] == list(preprocess(samples).seconds)


def test_a_long_recording_is_scored_throughout_in_small_batches(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    plain = Engine.submit

    def submit(engine: Engine, bundle: object, batch: Batch) -> object:
        sizes.append(len(batch))
        return plain(engine, bundle, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "submit", submit)
    samples = np.tile(speech(60.0, seed=5), 4)
    samples[217 * RATE : 220 * RATE] = roughen(speech(3.0, seed=6))
    evidence = audio(detector.detect(wav_bytes(samples)))
    assert max(sizes) <= WINDOWS_AT_ONCE
    assert sum(sizes) == evidence.details["windows"] == 239
    (segment,) = evidence.segments
    assert segment.start == pytest.approx(217.0, abs=1.0)
    assert "from 3:37 to 3:40" in evidence.claim


def test_the_command_says_and_draws_where(
    detector: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound, output = tmp_path / "call.wav", tmp_path / "where.png"
    sound.write_bytes(wav_bytes(insert(40.0, start=10.0)))
    models = str(detector.settings.models_folder)
    arguments = ["detect", str(sound), "--models", models, "--threads", "1"]
    assert main([*arguments, "--save-heatmap", str(output)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"traces of a generative model in the sound from 0:(09|10|11) to 0:1\d", text)
    with open_media(output) as media:
        pixels = media.image().astype(int)
    redness = (pixels[..., 0] - pixels[..., 2]).mean(axis=0)
    red = np.flatnonzero(redness > redness.max() / 2) * 40.0 / len(redness)
    assert red.min() == pytest.approx(10.0, abs=1.1)
    assert red.max() == pytest.approx(13.0, abs=1.1)


@pytest.fixture(scope="module")
def shipped() -> Iterator[Detector]:
    with Detector(Settings(threads=1)) as detector:
        yield detector


@pytest.fixture(scope="module", params=["quick", "full"])
def unchanged(shipped: Detector, request: pytest.FixtureRequest) -> tuple[DetectOptions, float]:
    """An effort, and the score of the speech by the shipped bundles."""
    options = DetectOptions(effort=request.param)
    score = audio(shipped.detect(wav_bytes(speech(12.0)), options)).score
    assert score is not None
    return options, score


@pytest.mark.parametrize(
    "change",
    [
        lambda samples: samples * 0.25,
        lambda samples: np.pad(samples, (2 * RATE, RATE)),
        lambda samples: resample_and_back(samples, sample_rate=48000),
        lambda samples: code_audio(samples, codec="mp3", bit_rate=128000),
    ],
    ids=["level", "silence", "48 kHz and back", "MP3"],
)
def test_the_shipped_bundles_do_not_judge_by_level_silence_rate_or_codec(
    change: Callable[[Samples], Samples],
    shipped: Detector,
    unchanged: tuple[DetectOptions, float],
) -> None:
    options, before = unchanged
    after = audio(shipped.detect(wav_bytes(change(speech(12.0))), options)).score
    assert after == pytest.approx(before, abs=0.05 if options.effort == "quick" else 0.1)
