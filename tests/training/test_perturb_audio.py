"""Channels of sound: lengths, levels, determinism and what each one does to a spectrum."""

from __future__ import annotations

import numpy as np
import pytest
from deepfake_training import perturb

from deepfake.errors import SettingsError

RATE = perturb.SAMPLE_RATE


def speechlike(*, seconds: float = 1.5, seed: int = 0) -> np.ndarray:
    """A buzz with moving level and a little noise, about -20 dBFS."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    turns = 140 * time + 30 * time**2
    buzz = sum(np.sin(2 * np.pi * k * turns + k) / k for k in range(1, 40))
    level = 0.55 + 0.45 * np.sin(2 * np.pi * 3 * time)
    return (0.08 * buzz * level + rng.normal(0, 0.002, len(time))).astype(np.float32)


def power(samples: np.ndarray, low_hz: float, high_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    return float(spectrum[(hertz >= low_hz) & (hertz < high_hz)].sum())


def rms_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2)))


@pytest.mark.parametrize("view", perturb.AUDIO_VIEWS)
def test_views_keep_length_type_and_are_repeatable(view: str) -> None:
    for seconds in (0.31, 1.5):
        samples = speechlike(seconds=seconds)
        first, second = perturb.AUDIO_VIEWS[view](samples), perturb.AUDIO_VIEWS[view](samples)
        assert first.dtype == np.float32
        assert first.shape == samples.shape
        assert np.isfinite(first).all()
        np.testing.assert_array_equal(first, second)
        assert view == "clean" or not np.array_equal(first, samples)


@pytest.mark.parametrize("codec", perturb.AUDIO_CODECS)
def test_codecs_stay_in_time(codec: str) -> None:
    samples = speechlike()
    coded = perturb.code_audio(
        samples, codec=codec, bit_rate=perturb.AUDIO_CODECS[codec].bit_rates[-1]
    )
    padded = 2 * len(samples)
    cross = np.fft.irfft(np.fft.rfft(coded, padded) * np.conj(np.fft.rfft(samples, padded)))
    lag = int(np.argmax(cross))
    assert min(lag, padded - lag) <= 4
    assert abs(rms_db(coded) - rms_db(samples)) < 2


def test_unknown_codec_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="known: mp3"):
        perturb.code_audio(speechlike(), codec="flac9", bit_rate=1)


def test_limit_band_removes_only_what_lies_outside() -> None:
    samples = speechlike()
    narrow = perturb.limit_band(samples, low_hz=300, high_hz=3400)
    assert power(narrow, 4000, 8000) < 1e-4 * power(samples, 4000, 8000)
    assert power(narrow, 0, 200) < 1e-4 * power(samples, 0, 200)
    assert power(narrow, 400, 3300) == pytest.approx(power(samples, 400, 3300), rel=1e-3)


def test_mu_law_is_narrow_and_coarse() -> None:
    samples = speechlike()
    coded = perturb.code_mu_law(samples)
    assert power(coded, 4000, 8000) < 1e-3 * power(samples, 4000, 8000)
    clean = perturb.limit_band(samples, low_hz=300, high_hz=3400)
    assert 15 < rms_db(clean) - rms_db(coded - clean) < 60


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 30.0])
def test_noise_is_added_at_the_stated_ratio(snr_db: float) -> None:
    samples = speechlike()
    noisy = perturb.add_noise(samples, snr_db=snr_db, rng=np.random.default_rng(1))
    assert rms_db(samples) - rms_db(noisy - samples) == pytest.approx(snr_db, abs=0.1)


def test_speed_changes_length_and_pitch_together() -> None:
    time = np.arange(2 * RATE) / RATE
    tone = np.sin(2 * np.pi * 400 * time).astype(np.float32)
    faster = perturb.change_speed(tone, factor=1.25)
    assert len(faster) == pytest.approx(len(tone) / 1.25, abs=2)
    hertz = np.fft.rfftfreq(len(faster), 1 / RATE)[np.argmax(np.abs(np.fft.rfft(faster)))]
    assert hertz == pytest.approx(500, abs=2)


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_tempo_changes_length_but_not_pitch(factor: float) -> None:
    samples = speechlike(seconds=2.0)
    tone = np.sin(2 * np.pi * 400 * np.arange(2 * RATE) / RATE).astype(np.float32)
    changed = perturb.change_tempo(tone, factor=factor)
    assert len(changed) == round(len(tone) / factor)
    hertz = np.fft.rfftfreq(len(changed), 1 / RATE)[np.argmax(np.abs(np.fft.rfft(changed)))]
    assert hertz == pytest.approx(400, abs=3)
    spoken = perturb.change_tempo(samples, factor=factor)
    assert rms_db(spoken) == pytest.approx(rms_db(samples), abs=1)


def test_pitch_changes_but_not_length() -> None:
    tone = np.sin(2 * np.pi * 400 * np.arange(2 * RATE) / RATE).astype(np.float32)
    higher = perturb.change_pitch(tone, factor=1.25)
    assert len(higher) == len(tone)
    hertz = np.fft.rfftfreq(len(higher), 1 / RATE)[np.argmax(np.abs(np.fft.rfft(higher)))]
    assert hertz == pytest.approx(500, abs=4)


def test_music_is_tonal_and_repeatable() -> None:
    music = perturb.make_music(3 * RATE, rng=np.random.default_rng(5))
    assert music.shape == (3 * RATE,)
    assert np.isfinite(music).all()
    spectrum = np.sort(np.abs(np.fft.rfft(music)) ** 2)
    assert spectrum[-len(spectrum) // 50 :].sum() > 0.5 * spectrum.sum()
    again = perturb.make_music(3 * RATE, rng=np.random.default_rng(5))
    np.testing.assert_array_equal(music, again)


def test_a_call_is_narrow_and_a_voice_message_is_not() -> None:
    samples = speechlike()
    for seed in range(6):
        called = perturb.send_by_telephone(samples, rng=np.random.default_rng(seed))
        assert called.shape == samples.shape
        assert power(called, 4300, 8000) < 1e-2 * power(samples, 4300, 8000)
        sent = perturb.send_by_messenger(samples, rng=np.random.default_rng(seed))
        assert sent.shape == samples.shape
        assert power(sent, 4300, 7000) > 1e-2 * power(samples, 4300, 7000)


def test_room_adds_a_tail_after_the_sound() -> None:
    samples = speechlike(seconds=1.0)
    samples[RATE // 2 :] = 0
    wet = perturb.add_room(samples, decay_seconds=0.5, direct_db=0, rng=np.random.default_rng(2))
    tail = wet[RATE // 2 : RATE // 2 + RATE // 5]
    assert rms_db(samples[: RATE // 2]) - 40 < rms_db(tail) < rms_db(samples[: RATE // 2])
    assert rms_db(wet[-RATE // 20 :]) < rms_db(tail) - 10


def test_a_call_has_the_steps_of_the_mu_law() -> None:
    samples = speechlike(seconds=0.5)
    narrow = perturb.limit_band(samples, low_hz=300, high_hz=3400)
    peak = float(np.abs(narrow).max())
    squeezed = np.sign(narrow) * np.log1p(255 * np.abs(narrow) / peak) / np.log(256)
    steps = np.round(squeezed * 127) / 127
    widened = np.sign(steps) * (np.power(256, np.abs(steps)) - 1) / 255 * peak
    expected = perturb.limit_band(widened.astype(np.float32), low_hz=0, high_hz=3900)
    np.testing.assert_allclose(perturb.code_mu_law(samples), expected, atol=1e-6)


def test_room_is_the_convolution_with_its_tail() -> None:
    impulse = np.zeros(4000, np.float32)
    impulse[0] = 1
    tail, samples = (
        perturb.add_room(one, decay_seconds=0.2, direct_db=3, rng=np.random.default_rng(5))
        for one in (impulse, speechlike(seconds=0.25))
    )
    direct = np.convolve(speechlike(seconds=0.25).astype(np.float64), tail)[: len(samples)]
    np.testing.assert_allclose(samples, direct, atol=1e-6)


def test_gate_quietens_only_pauses() -> None:
    samples = speechlike()
    samples[: RATE // 2] *= 0.003
    gated = perturb.gate_quiet(samples, below_db=30, keep=0.05)
    assert rms_db(gated[: RATE // 3]) < rms_db(samples[: RATE // 3]) - 20
    loud = slice(RATE // 2 + 800, RATE // 2 + 4000)
    assert rms_db(gated[loud]) == pytest.approx(rms_db(samples[loud]), abs=1)


def test_lost_packets_are_silent_or_repeated() -> None:
    samples = speechlike()
    lost = perturb.drop_packets(samples, share=0.3, rng=np.random.default_rng(3), repeat=False)
    packets = lost[: len(lost) // 320 * 320].reshape(-1, 320)
    silent = float(np.mean(~packets.any(axis=1)))
    assert 0.1 < silent < 0.5
    kept = perturb.drop_packets(samples, share=0.3, rng=np.random.default_rng(3), repeat=True)
    alive = kept[: len(kept) // 320 * 320].reshape(-1, 320).any(axis=1)
    assert alive[int(np.argmax(alive)) :].all()


def test_clipping_limits_the_stated_share() -> None:
    samples = speechlike()
    clipped = perturb.clip_peaks(samples, share=0.05)
    at_limit = np.isclose(np.abs(clipped), np.abs(clipped).max(), rtol=1e-4)
    assert float(at_limit.mean()) == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("family", ["convolutive", "impulsive", "stationary"])
def test_rawboost_families_change_the_sound_but_not_its_level(family: str) -> None:
    samples = speechlike()
    boosted = getattr(perturb, f"boost_{family}")(samples, rng=np.random.default_rng(4))
    assert boosted.shape == samples.shape
    assert not np.allclose(boosted, samples, atol=1e-4)
    assert rms_db(boosted) == pytest.approx(rms_db(samples), abs=0.6)
    assert np.corrcoef(boosted, samples)[0, 1] > 0.8


def test_silence_stays_finite() -> None:
    silence = np.zeros(RATE, np.float32)
    for view in perturb.AUDIO_VIEWS.values():
        assert np.isfinite(view(silence)).all()
