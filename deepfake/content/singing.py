"""Is it sung? Notes hold their pitch; the pitch of speech never stands still for long."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..preprocess import Samples
from .speech import CHUNK_SAMPLES, SAMPLE_RATE

_FRAME_SAMPLES = 1024
_LAGS = np.arange(16, 229)
"""Of 1000 to 70 Hz."""
_NEAR_BEST = 0.9
_CLEAR = 0.6
_HELD_CHUNKS = 8
_HELD_SEMITONES = 0.7
_LOUD_DB = 25.0
_PIECE_CHUNKS = 1875


class Pitch(NamedTuple):
    """Per chunk (chunks,): semitones over 55 Hz, how periodic it is (0…1) and its power."""

    semitones: npt.NDArray[np.float64]
    clarity: npt.NDArray[np.float64]
    power: npt.NDArray[np.float64]


def held_share(samples: Samples) -> float:
    """Of the loud chunks of mono ``samples`` at 16 kHz, the share amid a quarter of a second of one
    pitch, give or take a third of a semitone.
    """
    size = _PIECE_CHUNKS * CHUNK_SAMPLES
    pieces = [track_pitch(samples[start : start + size]) for start in range(0, len(samples), size)]
    if not pieces:
        return 0.0
    semitones, clarity, power = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    if len(power) < _HELD_CHUNKS or not power.any():
        return 0.0
    loud = power > np.percentile(power, 95) * 10 ** (-_LOUD_DB / 10)
    voiced = loud & (clarity > _CLEAR)
    spans = np.lib.stride_tricks.sliding_window_view(semitones, _HELD_CHUNKS)
    ordered = np.sort(spans, axis=1)
    steady = ordered[:, -2] - ordered[:, 1] < _HELD_SEMITONES
    whole = np.lib.stride_tricks.sliding_window_view(voiced, _HELD_CHUNKS).all(axis=1)
    return float((steady & whole).sum() / max(1, loud.sum()))


def track_pitch(samples: Samples) -> Pitch:
    """The pitch of every chunk of 32 ms by the autocorrelation of a frame of 64 ms, freed from that
    of its taper (Boersma 1993): the shortest period that is nearly as good as the best one.
    """
    count = len(samples) // CHUNK_SAMPLES
    if not count:
        return Pitch(*(np.zeros(0) for _ in Pitch._fields))
    padded = np.pad(samples[: count * CHUNK_SAMPLES], (_FRAME_SAMPLES - CHUNK_SAMPLES) // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME_SAMPLES)[::CHUNK_SAMPLES]
    taper = np.hanning(_FRAME_SAMPLES)
    centred = (frames - frames.mean(axis=1, keepdims=True)) * taper
    alike, own = _correlate(centred), _correlate(taper[None])[0]
    power = alike[:, 0]
    ratio = alike[:, _LAGS] / np.maximum(power, 1e-12)[:, None] / (own[_LAGS] / own[0])
    inner = ratio[:, 1:-1]
    peaks = (inner >= ratio[:, :-2]) & (inner > ratio[:, 2:])
    peaks &= inner >= _NEAR_BEST * ratio.max(axis=1, keepdims=True)
    place = np.where(peaks.any(axis=1), peaks.argmax(axis=1), inner.argmax(axis=1)) + 1
    rows = np.arange(count)
    before, at, after = (ratio[rows, place + step] for step in (-1, 0, 1))
    bend = np.minimum(before - 2 * at + after, -1e-9)
    lag = _LAGS[place] + np.clip(0.5 * (before - after) / bend, -1, 1)
    return Pitch(12 * np.log2(SAMPLE_RATE / lag / 55), np.clip(at, 0, 1), power)


def _correlate(frames: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Autocorrelation (rows, lags) of rows of ``frames``, up to the longest lag."""
    spectrum = np.fft.rfft(frames, 2 * _FRAME_SAMPLES, axis=1)
    return np.asarray(np.fft.irfft(np.square(np.abs(spectrum)), axis=1)[:, : _LAGS[-1] + 1])
