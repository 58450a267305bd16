from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from deepfake.content import lips as lipsync
from deepfake.content.lips import LipTrack, Sync, evidence, measure_sync, why_not_sync
from deepfake.content.speech import CHUNK_SAMPLES
from deepfake.reasons import Code
from deepfake.types import Status, Weight
from tests.media_files import speech

Floats = npt.NDArray[np.float64]


def voice(seconds: float, *, seed: int = 0) -> npt.NDArray[np.float32]:
    """Noise that is loud in words of some quick syllables, with pauses between them."""
    rng = np.random.default_rng(seed)
    level: list[Floats] = []
    while sum(map(len, level)) < seconds * 16000:
        for _ in range(int(rng.integers(2, 7))):
            length = int(rng.uniform(0.1, 0.2) * 16000)
            level.append(np.sin(np.linspace(0, np.pi, length)) * rng.uniform(0.3, 1.0))
        level.append(np.full(int(rng.uniform(0.1, 0.5) * 16000), 1e-3))
    joined = np.concatenate(level)[: round(seconds * 16000)]
    return (0.3 * joined * rng.normal(0, 1, len(joined))).astype(np.float32)


def face(opening: float, rng: np.random.Generator, *, side: int = 96, light: float = 1.0) -> Floats:
    """A drawn aligned face whose mouth is open by 0…1."""
    y, x = np.mgrid[0:side, 0:side] * (96 / side)
    grey = np.full((side, side), 170.0)
    for eye in (35.0, 61.0):
        grey[(x - eye) ** 2 / 20 + (y - 34) ** 2 / 6 < 1] = 60
    lips = (x - 48) ** 2 / 120 + (y - 67) ** 2 / (20 + 60 * opening) < 1
    grey[lips] = 120
    inner = (x - 48) ** 2 / 80 + (y - 67) ** 2 / (0.5 + 50 * opening) < 1
    grey[inner] = 35
    pixels = light * grey[..., None] * np.array([1.0, 0.85, 0.75])
    return np.clip(pixels + rng.normal(0, 2, pixels.shape), 0, 255)


def talk(
    samples: npt.NDArray[np.float32],
    *,
    late: float = 0.0,
    moves: float = 1.0,
    side: int = 96,
    flicker: float = 0.0,
) -> LipTrack:
    """A face that opens its mouth with the loudness of ``samples``, ``late`` seconds later."""
    steps = round(len(samples) / 16000 / lipsync.STEP_SECONDS)
    loudness = lipsync.find_envelope(samples, steps=steps, second=-late)
    loudness = moves * loudness / loudness.max()
    rng, track = np.random.default_rng(1), LipTrack()
    for step, opening in enumerate(loudness):
        light = 1 + flicker * (step % 2)
        crop = face(float(opening), rng, side=side, light=light).astype(np.uint8)
        track.add(step * lipsync.STEP_SECONDS, crop)
    return track


def all_speech(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    return np.ones(len(samples) // CHUNK_SAMPLES, np.bool_)


def measure(track: LipTrack, samples: npt.NDArray[np.float32]) -> Sync:
    sync = measure_sync(track, samples, speech=all_speech(samples))
    assert sync is not None
    return sync


def test_a_mouth_that_follows_is_in_sync() -> None:
    samples = voice(8.0)
    sync = measure(talk(samples), samples)
    assert sync.correlation > 0.35
    assert sync.prominence > 4.5
    assert sync.out_of_sync < lipsync.IN_SYNC
    assert sync.lag_seconds == pytest.approx(0, abs=0.04)
    assert sync.speech_seconds == pytest.approx(8, abs=0.1)


@pytest.mark.parametrize("late", [-0.2, -0.08, 0.12, 0.24])
def test_a_lag_is_found(late: float) -> None:
    samples = voice(8.0, seed=2)
    assert measure(talk(samples, late=late), samples).lag_seconds == pytest.approx(late, abs=0.04)


@pytest.mark.parametrize("shift", [0.8, -1.5, 3.0])
def test_shifted_sound_is_out_of_sync(shift: float) -> None:
    samples = voice(8.0, seed=3)
    shifted = np.roll(samples, round(shift * 16000))
    sync = measure(talk(samples), shifted)
    assert sync.out_of_sync > 0.5
    assert sync.prominence < measure(talk(samples), samples).prominence / 2


def test_another_voice_is_out_of_sync() -> None:
    mouth = talk(voice(8.0, seed=4))
    others = [measure(mouth, voice(8.0, seed=seed)).out_of_sync for seed in range(5, 10)]
    assert np.median(others) > 0.9
    assert min(others) > measure(mouth, voice(8.0, seed=4)).out_of_sync + 0.3


def test_size_and_flicker_do_not_matter() -> None:
    samples = voice(6.0, seed=6)
    plain = measure(talk(samples), samples)
    for other in (talk(samples, side=160), talk(samples, flicker=0.1)):
        assert measure(other, samples).prominence > 0.6 * plain.prominence


def test_few_numbers_of_each_step_are_kept() -> None:
    track = talk(voice(2.0))
    assert len(track) == 50
    steps = track.steps()
    assert steps.values.shape == (50, len(lipsync.FEATURES))
    assert steps.seen.all()
    assert np.isfinite(steps.values).all()


def test_a_lost_face_is_not_compared() -> None:
    samples = voice(6.0, seed=7)
    whole = talk(samples).steps()
    rng, track = np.random.default_rng(1), LipTrack()
    for step, opening in enumerate(np.linspace(0, 1, 150)):
        if not 50 <= step < 100:
            track.add(step * 0.04, face(float(opening), rng).astype(np.uint8))
    steps = track.steps()
    assert len(steps.seen) == len(whole.seen) == 150
    assert steps.seen[:49].all()
    assert not steps.seen[51:99].any()
    sync = measure(track, samples)
    assert sync.speech_seconds == pytest.approx(4, abs=0.2)


def test_a_face_that_appears_later_keeps_the_clock() -> None:
    samples = voice(10.0, seed=8)
    track, rng = LipTrack(), np.random.default_rng(2)
    loudness = lipsync.find_envelope(samples, steps=250)
    for step in range(75, 250):
        opening = float(loudness[step] / loudness.max())
        track.add(step * 0.04, face(opening, rng).astype(np.uint8))
    sync = measure(track, samples)
    assert sync.lag_seconds == pytest.approx(0, abs=0.04)
    assert sync.out_of_sync < 0.5


def test_reasons_for_none() -> None:
    samples = voice(4.0)
    still = talk(samples, moves=0.0)
    everything, nothing = all_speech(samples), np.zeros(125, np.bool_)
    cases = [
        (LipTrack(), samples, everything, "no_face"),
        (talk(samples[:16000]), samples, everything, "no_face"),
        (still, samples[:0], everything, "no_sound"),
        (still, samples, nothing, "no_speech"),
        (still, samples, everything, "too_little_motion"),
    ]
    for track, sound, spoken, reason in cases:
        found = why_not_sync(track, sound, speech=spoken)
        if reason == "no_face" and len(track):
            found = "no_face" if found in ("no_face", "no_speech") else found
        assert found == reason
        assert measure_sync(track, sound, speech=spoken) is None
        said = evidence(None, Code(reason))
        assert (said.status, said.reason, said.score) == (Status.SKIPPED, reason, None)
    assert why_not_sync(talk(samples), samples, speech=everything) is None


def test_silence_around_speech_is_left_out() -> None:
    spoken = np.zeros(312, np.bool_)
    spoken[100:150] = True
    spoken[160:200] = True
    inside = lipsync.speech_steps(spoken, steps=250)
    heard = np.flatnonzero(inside) * lipsync.STEP_SECONDS
    assert heard.min() == pytest.approx(3.2, abs=0.04)
    assert heard.max() == pytest.approx(6.4, abs=0.05)
    assert inside[80:160].all()


def test_speech_is_looked_for() -> None:
    samples = speech(5.0)
    assert why_not_sync(talk(samples), samples) in (None, "no_speech")
    noise = np.random.default_rng(0).normal(0, 0.01, 80000).astype(np.float32)
    assert why_not_sync(talk(voice(5.0)), noise) == "no_speech"


def test_the_peak_of_a_curve() -> None:
    curve = np.random.default_rng(0).normal(0, 0.05, 200)
    curve[[-4, -3, -2]] = (0.5, 0.8, 0.5)
    top, lag, prominence = lipsync.find_peak(curve)
    assert (top, lag) == (pytest.approx(0.8), pytest.approx(-3, abs=0.2))
    assert prominence > 10
    assert np.isnan(lipsync.find_peak(curve[:20])[2])


def test_the_chance_stays_in_doubt_and_needs_length() -> None:
    assert lipsync.out_of_sync(50.0, 8.0) == pytest.approx(0.02)
    assert lipsync.out_of_sync(-5.0, 1e6) == pytest.approx(0.98)
    assert lipsync.out_of_sync(1.0, 8.0) > lipsync.out_of_sync(3.0, 8.0)
    assert lipsync.out_of_sync(1.2, 8.0) > lipsync.out_of_sync(1.2, 1.4)


def test_claims_say_what_was_found_and_no_more() -> None:
    sync = Sync(
        correlation=0.4, lag_seconds=0.0, prominence=6.0, speech_seconds=8.0, out_of_sync=0.01
    )
    claims = []
    for chance in (0.01, 0.5, 0.99):
        said = evidence(replace(sync, out_of_sync=chance))
        assert (said.source, said.status, said.score) == ("lip-sync", Status.OK, None)
        assert said.weight is Weight.SCORE
        assert json.loads(json.dumps(dict(said.details)))["out_of_sync"] == chance
        claims.append(said.claim)
    assert "does not rule out" in claims[0]
    assert "cannot be told" in claims[1]
    assert "dubbed" in claims[2]
