"""Music made on the spot: chords and melodies of additive instruments, with or without drums."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

RATE = 16000
INSTRUMENTS = {  # attack and decay in seconds, depth of the vibrato, fall of the partials
    "pluck": (0.004, 0.6, 0.0, 1.5),
    "organ": (0.02, 50.0, 0.0, 0.8),
    "strings": (0.08, 20.0, 0.006, 1.0),
    "flute": (0.05, 20.0, 0.004, 2.5),
    "brass": (0.04, 10.0, 0.001, 0.6),
}
_MAJOR = (0, 2, 4, 5, 7, 9, 11)


def music(
    seconds: float = 8.0, *, seed: int = 0, instrument: str = "organ", drums: bool = False
) -> npt.NDArray[np.float32]:
    """Chords on every fourth beat under a melody (samples,) at 16 kHz."""
    rng = np.random.default_rng(seed)
    beat, root = 60 / rng.uniform(70, 140), rng.uniform(100, 220)
    sound = np.zeros(round((seconds + 6) * RATE))

    def add(part: npt.NDArray[np.float64], second: float, gain: float) -> None:
        start = round(second * RATE)
        sound[start : start + len(part)] += gain * part

    def pitch(degree: int) -> float:
        return float(root * 2 ** ((_MAJOR[degree % 7] + 12 * (degree // 7)) / 12))

    for index in range(int(seconds / beat) + 1):
        if index % 4 == 0:
            degree = int(rng.choice((0, 3, 4, 5)))
            for third in (0, 2, 4):
                add(_note(pitch(degree + third), 4 * beat, instrument, rng), index * beat, 0.6)
        parts = int(rng.choice((1, 2)))
        for part in range(parts):
            note = _note(pitch(7 + int(rng.integers(8))), beat / parts, instrument, rng)
            add(note, (index + part / parts) * beat, 0.8)
        if drums:
            add(_drum(rng, low=index % 2 == 0), index * beat, 0.5)
    sound = sound[: round(seconds * RATE)]
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def _note(hertz: float, seconds: float, instrument: str, rng: Any) -> npt.NDArray[np.float64]:
    attack, decay, vibrato, fall = INSTRUMENTS[instrument]
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(hertz * (1 + vibrato * np.sin(2 * np.pi * 5.5 * time))) / RATE
    partials = range(1, min(16, int(7500 / hertz) + 1))
    tone = sum(np.sin(n * phase + rng.uniform(0, 6)) / n**fall for n in partials)
    shape = np.minimum(time / attack, 1) * np.exp(-time / decay)
    return np.asarray(tone * shape * np.minimum((seconds - time) / 0.02, 1) / 3)


def _drum(rng: Any, *, low: bool) -> npt.NDArray[np.float64]:
    time = np.arange(RATE // 4) / RATE
    if low:
        return np.asarray(np.sin(2 * np.pi * (50 * time - np.exp(-time * 30))) * np.exp(-time * 15))
    return np.asarray(rng.normal(0, 0.4, len(time)) * np.exp(-time * 20))
