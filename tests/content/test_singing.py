"""Held notes against a pitch that moves."""

from __future__ import annotations

import numpy as np
import pytest

from deepfake.content.singing import held_share, track_pitch
from deepfake.content.soundscape import SINGING_SHARE, survey
from deepfake.content.speech import find_speech
from deepfake.preprocess import Samples
from tests.media_files import speech

RATE = 16000


def sung(seconds: float = 8.0, *, seed: int = 0, vibrato: float = 0.2) -> Samples:
    """Notes of a scale, sung by the buzz and the vowels of a voice, with a vibrato in semitones."""
    rng = np.random.default_rng(seed)
    at = np.arange(round(seconds * RATE)) / RATE
    notes = np.repeat(rng.integers(0, 12, size=int(seconds / 0.5) + 1), RATE // 2)[: len(at)]
    semitones = notes + vibrato * np.sin(2 * np.pi * 5.5 * at)
    turns = np.cumsum(150 * 2 ** (semitones / 12)) / RATE
    buzz = sum(np.sin(2 * np.pi * k * turns) / k for k in range(1, 20))
    return (0.1 * buzz + rng.normal(0, 1e-3, len(at))).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_singing_holds_notes_and_speech_does_not(seed: int) -> None:
    assert held_share(sung(seed=seed)) > 2 * SINGING_SHARE
    assert held_share(speech(8.0, seed=seed)) < 0.8 * SINGING_SHARE


def test_singing_is_a_caution_and_speech_none() -> None:
    song, talk = sung(), speech(8.0)
    assert "singing" in survey(song, find_speech(song)).cautions
    assert survey(talk, find_speech(talk)).cautions == ()


def test_loudness_changes_nothing_and_silence_around_little() -> None:
    song = sung()
    assert held_share(0.01 * song) == pytest.approx(held_share(song), abs=0.01)
    padded = np.pad(song, 4 * RATE)
    assert held_share(padded) == pytest.approx(held_share(song), abs=0.05)


@pytest.mark.parametrize("hertz", [80.0, 150.0, 330.0, 700.0])
def test_the_pitch_is_that_of_the_voice(hertz: float) -> None:
    at = np.arange(2 * RATE) / RATE
    buzz = sum(np.sin(2 * np.pi * k * hertz * at) / k for k in range(1, 8))
    pitch = track_pitch(np.asarray(buzz, np.float32))
    assert pitch.clarity[3:-3].min() > 0.9
    assert np.median(pitch.semitones) == pytest.approx(12 * np.log2(hertz / 55), abs=0.1)


def test_nothing_silence_and_noise_are_not_sung() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)
    for samples in (np.zeros(0, np.float32), np.zeros(100, np.float32), np.zeros(RATE, np.float32)):
        assert held_share(samples) == 0
    assert held_share(noise) < 0.01


def test_an_hour_is_followed_in_pieces() -> None:
    long = np.tile(sung(60.0), 3)
    assert held_share(long) > SINGING_SHARE
