"""Random channels for training: what may happen to a voice between its making and its judging.

One distribution for every class, corpus and system; a bona fide clip and its copy meet the very
same draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from deepfake.preprocess import Samples

from .. import perturb

MUSIC_PIECES = 24
LIGHT_SHARE = 0.6


def change_channel(
    samples: Samples,
    *,
    rng: np.random.Generator,
    babble: Sequence[Samples],
) -> Samples:
    """A random microphone, room, band, codec and line, drawn without a look at the class.

    Three fifths of the windows meet only what leaves fine traces in place: a hiss that hides
    noise floors, an equaliser, a wide band limit and a good codec. ``babble`` are other voices.
    """
    samples = _change_voice(samples, rng=rng)
    if rng.random() < 0.25:
        samples = perturb.gate_quiet(
            samples, below_db=rng.uniform(18, 40), keep=rng.choice([0.0, 0.05, 0.2])
        )
    if rng.random() < LIGHT_SHARE:
        return _change_lightly(samples, rng=rng)
    if rng.random() < 0.2:
        samples = perturb.boost_convolutive(samples, rng=rng)
    if rng.random() < 0.3:
        samples = perturb.add_room(
            samples,
            decay_seconds=rng.uniform(0.1, 0.7),
            direct_db=rng.uniform(-3, 12),
            rng=rng,
        )
    samples = _add_some_noise(samples, rng=rng, babble=babble)
    if rng.random() < 0.1:
        samples = perturb.boost_impulsive(samples, rng=rng)
    if rng.random() < 0.08:
        samples = perturb.clip_peaks(samples, share=rng.uniform(0.001, 0.03))
    if rng.random() < 0.4:
        samples = perturb.filter_audio(samples, perturb.notches(rng, count=3))
    if rng.random() < 0.3:
        samples = perturb.limit_band(
            samples,
            low_hz=rng.uniform(20, 300),
            high_hz=rng.choice([rng.uniform(3000, 7900), rng.uniform(5000, 7900)]),
            slope_octaves=rng.uniform(0.02, 0.3),
        )
    if rng.random() < 0.08:
        samples = perturb.resample_and_back(samples, sample_rate=int(rng.integers(7000, 15000)))
    return _code_somehow(samples, rng=rng)


def _change_voice(samples: Samples, *, rng: np.random.Generator) -> Samples:
    manner = rng.random()
    if manner < 0.25:
        return perturb.change_speed(samples, factor=rng.uniform(0.9, 1.1))
    if manner < 0.3:
        return perturb.change_tempo(samples, factor=rng.uniform(0.9, 1.1))
    if manner < 0.35:
        return perturb.change_pitch(samples, factor=rng.uniform(0.93, 1.07))
    return samples


def _change_lightly(samples: Samples, *, rng: np.random.Generator) -> Samples:
    if rng.random() < 0.25:
        samples = perturb.add_room(
            samples, decay_seconds=rng.uniform(0.1, 0.5), direct_db=rng.uniform(3, 15), rng=rng
        )
    samples = perturb.add_noise(
        samples, snr_db=rng.uniform(25, 55), tilt=rng.uniform(0, 1.2), rng=rng
    )
    if rng.random() < 0.5:
        samples = perturb.filter_audio(samples, perturb.notches(rng, count=3))
    if rng.random() < 0.4:
        samples = perturb.limit_band(
            samples, low_hz=rng.uniform(20, 150), high_hz=rng.uniform(5000, 7900)
        )
    if rng.random() < 0.25:
        codec, bit_rate = [("mp3", 64000), ("aac", 64000), ("opus", 32000), ("g722", 64000)][
            int(rng.integers(4))
        ]
        samples = perturb.code_audio(samples, codec=codec, bit_rate=bit_rate)
    return samples


def _add_some_noise(
    samples: Samples, *, rng: np.random.Generator, babble: Sequence[Samples]
) -> Samples:
    manner = rng.random()
    if manner < 0.35:
        return perturb.add_noise(
            samples, snr_db=rng.uniform(8, 45), tilt=rng.uniform(0, 1.2), rng=rng
        )
    if manner < 0.45:
        return perturb.boost_stationary(samples, rng=rng)
    if manner < 0.55 and len(babble):
        crowd = np.sum([np.resize(voice, len(samples)) for voice in babble], axis=0)
        return perturb.mix(samples, crowd.astype(np.float32), snr_db=rng.uniform(10, 30))
    if manner < 0.62:
        music = _music(int(rng.integers(MUSIC_PIECES)))
        start = int(rng.integers(len(music) // 2))
        return perturb.mix(samples, music[start:], snr_db=rng.uniform(8, 30))
    return samples


def _code_somehow(samples: Samples, *, rng: np.random.Generator) -> Samples:
    peak = float(np.abs(samples).max())
    samples = samples * np.float32(rng.uniform(0.1, 0.95) / max(peak, 1e-6))
    manner = rng.random()
    if manner < 0.32:
        name = str(rng.choice(["mp3", "mp3", "aac", "opus", "opus", "g722"]))
        bit_rate = int(rng.choice(perturb.AUDIO_CODECS[name].bit_rates))
        samples = perturb.code_audio(samples, codec=name, bit_rate=bit_rate)
    elif manner < 0.42:
        samples = perturb.send_by_telephone(samples, rng=rng)
    elif manner < 0.47:
        samples = perturb.send_by_messenger(samples, rng=rng)
    if rng.random() < 0.06:
        samples = perturb.drop_packets(
            samples, share=rng.uniform(0.01, 0.1), rng=rng, repeat=bool(rng.integers(2))
        )
    return samples


@cache
def _music(number: int) -> Samples:
    return perturb.make_music(6 * perturb.SAMPLE_RATE, rng=np.random.default_rng(number))
