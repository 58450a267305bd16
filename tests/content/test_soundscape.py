from __future__ import annotations

import numpy as np
import pytest
from deepfake_training.perturb import add_noise, clip_peaks, limit_band, mix

from deepfake.content.soundscape import NOISY_DB, Soundscape, survey
from deepfake.content.speech import find_speech
from deepfake.preprocess import Samples
from tests.media_files import speech
from tests.sounds import INSTRUMENTS, music

RATE = 16000


def look(samples: Samples) -> Soundscape:
    return survey(samples, find_speech(samples))


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_music_is_recognised(instrument: str) -> None:
    for seed in range(6):
        sound = music(8.0, seed=seed, instrument=instrument, drums=bool(seed % 2))
        assert look(sound).musical


@pytest.mark.parametrize("seed", range(4))
def test_speech_is_no_music(seed: int) -> None:
    assert look(speech(8.0, seed=seed)).cautions == ()


def test_noise_and_silence_are_no_music() -> None:
    rng = np.random.default_rng(0)
    assert not look(rng.normal(0, 0.1, 8 * RATE).astype(np.float32)).musical
    assert look(np.zeros(8 * RATE, np.float32)).cautions == ()
    assert look(np.zeros(100, np.float32)).cautions == ()
    assert look(np.zeros(0, np.float32)).cautions == ()


def test_strong_music_under_speech_is_found_and_faint_music_is_not() -> None:
    voices = [mix(speech(8.0, seed=s), music(8.0, seed=s), snr_db=0.0) for s in range(5)]
    assert all("music" in look(voice).cautions for voice in voices)
    faint = [mix(speech(8.0, seed=s), music(8.0, seed=s), snr_db=40.0) for s in range(5)]
    assert not any("music" in look(voice).cautions for voice in faint)


def dry_speech(seed: int) -> Samples:
    """Speech with pauses, as a microphone near the mouth records it."""
    parts = [np.pad(speech(2.0, seed=seed + n), (0, RATE // 2)) for n in range(4)]
    rng = np.random.default_rng(seed)
    samples = np.concatenate(parts)
    return (samples + rng.normal(0, 1e-3, len(samples))).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_the_estimate_falls_with_the_noise(seed: int) -> None:
    clean = dry_speech(seed)
    rng = np.random.default_rng(seed)
    seen = [look(add_noise(clean, snr_db=snr, rng=rng)).snr_db for snr in (20, 10, 5, 0, -5)]
    assert seen == sorted(seen, reverse=True)
    assert look(clean).snr_db > NOISY_DB + 4
    assert seen[0] > NOISY_DB
    assert seen[3] < NOISY_DB


def test_pauses_do_not_change_the_noise() -> None:
    noisy = add_noise(dry_speech(1), snr_db=0.0, rng=np.random.default_rng(1))
    silent = np.pad(noisy, 10 * RATE)
    assert look(silent).snr_db == pytest.approx(look(noisy).snr_db, abs=1.5)
    assert "too_noisy" in look(silent).cautions


def test_a_telephone_is_no_noise() -> None:
    narrow = limit_band(dry_speech(2), low_hz=300, high_hz=3400)
    assert look(narrow).snr_db > look(dry_speech(2)).snr_db - 3


def test_clipping_is_found_at_any_level() -> None:
    voice = speech(4.0)
    assert look(voice).clipped_share < 0.001
    clipped = 0.2 * clip_peaks(voice, share=0.05)
    assert look(clipped.astype(np.float32)).cautions[0] == "clipped"


def test_many_pieces_measure_as_one() -> None:
    voice, tune = speech(10.0), music(10.0)
    long = np.concatenate([np.tile(voice, 9), np.tile(tune, 9)])
    half = look(long).music_share
    assert half == pytest.approx((look(voice).music_share + look(tune).music_share) / 2, abs=0.1)
