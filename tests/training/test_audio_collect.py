"""Collected speech: recordings from unpacked packages, sentences from engines, one manifest."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from deepfake_training.audio import corpora as audio_corpora
from deepfake_training.audio import engines as audio_engines
from deepfake_training.audio.collect import collect_speech
from deepfake_training.audio.corpora import Corpus
from deepfake_training.audio.data import SpeechFold, read_clips
from deepfake_training.audio.engines import Engine
from scipy.io import wavfile

from deepfake.errors import SettingsError

RATE = 16000


def tone(*, seconds: float, hertz: float, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def fake_package(package: str, folder: Path) -> None:
    """Recordings of two speakers, one of them in syllables, and a file that is no sound."""
    place = folder / "usr" / package
    for speaker, lengths in (("ann", [2.0, 5.0]), ("bo", [0.5, 0.4, 0.6, 0.7])):
        (place / speaker).mkdir(parents=True)
        for number, seconds in enumerate(lengths):
            samples = np.pad(tone(seconds=seconds, hertz=300), RATE // 2)
            path = place / speaker / f"{number}.wav"
            wavfile.write(path, RATE, np.round(samples * 32767).astype(np.int16))
    (place / "bo" / "9.wav").write_bytes(b"RIFF, but no sound at all")
    (place / "readme.txt").write_text("not a recording")


CORPUS = Corpus(
    name="Test",
    packages=("voices",),
    pattern=r"usr/voices/([^/]+)/\d\.wav$",
    most_per_speaker=5,
    licence="CC0",
)


def test_collected_speech_has_clips_of_bounded_length_and_a_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_corpora, "unpack_package", fake_package)
    engine = Engine("Hum", lambda rng: tone(seconds=rng.uniform(4.9, 5.1), hertz=200), 2, "CC0")
    collect_speech(tmp_path, corpora=(CORPUS,), engines=(engine,), seed=1)
    folds = [SpeechFold(name="all", folders=("Test", "Hum"))]
    clips = read_clips([tmp_path], folds=folds)
    assert [clip.item.label for clip in clips] == [1] * 4 + [0] * 3
    assert {clip.item.facts["speaker"] for clip in clips} == {"Hum", "Test/ann", "Test/bo"}
    for clip in clips:
        assert 1.2 * RATE <= len(clip.stored) <= 3.5 * RATE
        assert np.abs(clip.samples).max() == pytest.approx(0.3, abs=0.02)
    joined = next(clip for clip in clips if clip.item.facts["speaker"] == "Test/bo")
    assert float(np.mean(np.abs(joined.samples) < 1e-3)) < 0.05
    before = (tmp_path / "manifest.tsv").stat().st_mtime_ns
    collect_speech(tmp_path, corpora=(), engines=(), seed=1)
    assert (tmp_path / "manifest.tsv").stat().st_mtime_ns == before


def test_a_stopped_collection_leaves_no_manifest(tmp_path: Path) -> None:
    def stop(_: np.random.Generator) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect_speech(tmp_path, corpora=(), engines=(Engine("Hum", stop, 1, "CC0"),))
    assert not (tmp_path / "manifest.tsv").exists()


def test_a_missing_package_or_program_is_told_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="apt-get: not found; run on Debian"):
        audio_corpora.unpack_package("voices", tmp_path)
    with pytest.raises(SettingsError, match="espeak-ng: not found; run: apt-get install"):
        audio_engines.speak_espeak(np.random.default_rng(0))


def test_every_language_has_sentences_of_all_its_parts() -> None:
    for language, parts in audio_engines.SENTENCES.items():
        made = {
            audio_engines.draw_sentence(np.random.default_rng(seed), language) for seed in range(30)
        }
        assert len(made) > 20
        for sentence in made:
            assert sentence.startswith(parts[0])
            assert sentence.endswith(".")


def test_resampling_keeps_the_pitch() -> None:
    resampled = audio_engines.resample(tone(seconds=1.0, hertz=400, rate=24000), rate=24000)
    assert len(resampled) == pytest.approx(RATE, abs=40)
    spectrum = np.abs(np.fft.rfft(resampled))
    assert np.fft.rfftfreq(len(resampled), 1 / RATE)[spectrum.argmax()] == pytest.approx(400, abs=2)


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs the program espeak-ng")
def test_espeak_speaks() -> None:
    samples = audio_engines.speak_espeak(np.random.default_rng(0))
    assert 1 < len(samples) / RATE < 15
    assert float(np.abs(samples).max()) > 0.05
