"""What else is in a recording beside clean speech: noise, music, singing, clipping.

Everything is measured on the 32 ms chunks of :mod:`.speech`, in pieces of a minute, so that a
recording of hours needs no more memory than its own samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..preprocess import Samples
from ..reasons import Code
from .singing import held_share
from .speech import CHUNK_SAMPLES

MUSIC_SHARE = 0.26
"""Measured: 0.9 % of 568 genuine and none of 591 synthetic speech files reach it; 94 % of 147 clips
of music from games, the rest almost drums alone, and all pieces that were made for the tests; of
speech over music from games 74, 71 and 13 % where the music is 0, 10 and 20 dB quieter."""
NOISY_DB = 6.0
"""Measured: 0.2 % of the same genuine files lie below; with noise added at 10, 5, 3 and 0 dB,
9, 56, 76 and 97 % do."""
CLIPPED_SHARE = 0.02
SINGING_SHARE = 0.15
"""Measured: 1.3 % of 594 clips of speech, one of each source, reach it; 85 % of 208 of singing,
both genuine and synthetic."""

Floats = npt.NDArray[np.float32]
Marks = npt.NDArray[np.bool_]

_PIECE_CHUNKS = 1875
_BAND_FRAME_SAMPLES = 1024
_BAND_EDGES = np.array([3, 9, 16, 24, 36, 54, 84, 124, 184, 264, 404, 480])
_FAINT_BAND = 1e-5
_NEAR_CHUNKS = 8
_NOISE_PERCENTILE = 20
_LOWEST_SNR_DB, _HIGHEST_SNR_DB = -5.0, 40.0
_TONE_FRAME_SAMPLES = 2048
_TONE_BINS = slice(40, 640)
_TONE_CHUNKS = 16
_TONE_NEIGHBOURS = 31
_TONE_DB = 7.0
_RANGE_DB = 70.0
_TONAL_SHARE = 0.1
_LOUD_DB = 30.0
_AT_PEAK = 0.995


@dataclass(frozen=True, kw_only=True)
class Soundscape:
    """``snr_db`` is speech against noise, -5…40; ``music_share`` the share of the loud time in
    which sustained partials stand out; ``clipped_share`` that of the samples at the peak;
    ``held_share`` that of the loud time amid a held note (see :mod:`.singing`).
    """

    snr_db: float
    music_share: float
    clipped_share: float
    held_share: float

    @property
    def musical(self) -> bool:
        return self.music_share >= MUSIC_SHARE

    @property
    def cautions(self) -> tuple[Code, ...]:
        """Reason codes of what keeps a score from being trusted, the gravest first."""
        found = {
            Code.CLIPPED: self.clipped_share > CLIPPED_SHARE,
            Code.MUSIC: self.musical,
            Code.SINGING: self.held_share >= SINGING_SHARE,
            Code.TOO_NOISY: self.snr_db < NOISY_DB,
        }
        return tuple(code for code, holds in found.items() if holds)


class _Chunks(NamedTuple):
    """Per chunk: power in each band (chunks, bands), and, from 312 Hz to 5 kHz, all power and that
    of sustained partials (chunks,).
    """

    bands: Floats
    power: Floats
    sustained: Floats


def survey(samples: Samples, speech: Marks) -> Soundscape:
    """Measure mono ``samples`` at 16 kHz, in whose chunks ``speech`` (chunks,) says who speaks.

    Less than one chunk, and silence, hold no noise, no music and no clipping.
    """
    peak = max(float(samples.max(initial=0.0)), -float(samples.min(initial=0.0)))
    size = _PIECE_CHUNKS * CHUNK_SAMPLES
    pieces, at_peak = [], 0
    for start in range(0, len(samples), size):
        piece = samples[start : start + size]
        at_peak += int(np.count_nonzero(np.abs(piece) >= _AT_PEAK * peak))
        pieces.append(_measure(piece))
    if len(samples) < CHUNK_SAMPLES or peak == 0.0:
        return Soundscape(
            snr_db=_HIGHEST_SNR_DB, music_share=0.0, clipped_share=0.0, held_share=0.0
        )
    chunks = _Chunks(*(np.concatenate(parts) for parts in zip(*pieces, strict=True)))
    return Soundscape(
        snr_db=_estimate_snr(chunks.bands, speech),
        music_share=_music_share(chunks),
        clipped_share=at_peak / len(samples),
        held_share=held_share(samples),
    )


def _measure(samples: Samples) -> _Chunks:
    count = len(samples) // CHUNK_SAMPLES
    if not count:
        empty = np.zeros(0, np.float32)
        return _Chunks(np.zeros((0, len(_BAND_EDGES) - 1), np.float32), empty, empty)
    bands = np.add.reduceat(
        _spectra(samples, _BAND_FRAME_SAMPLES)[:, : _BAND_EDGES[-1]], _BAND_EDGES[:-1], axis=1
    )
    tones = _spectra(samples, _TONE_FRAME_SAMPLES)[:, _TONE_BINS]
    return _Chunks(bands, tones.sum(axis=1), _sustained(tones).sum(axis=1))


def _spectra(samples: Samples, frame_samples: int) -> Floats:
    """Power (chunks, bins) in frames whose middles are those of the chunks."""
    count = len(samples) // CHUNK_SAMPLES
    padded = np.pad(samples[: count * CHUNK_SAMPLES], (frame_samples - CHUNK_SAMPLES) // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, frame_samples)[::CHUNK_SAMPLES]
    window = np.hanning(frame_samples).astype(np.float32)
    return np.square(np.abs(np.fft.rfft(frames * window, axis=1))).astype(np.float32)


def _sustained(power: Floats) -> Floats:
    """The part of ``power`` (chunks, bins) in partials that hold one frequency for 0.5 s.

    A morphological opening along time keeps what lasts (compare the horizontal median of Fitzgerald
    2010), and of that only peaks over their neighbours in frequency: steady noise has none, and the
    partials of speech glide.
    """
    decibels = 10 * np.log10(power + np.float32(1e-10))
    decibels = np.maximum(decibels, decibels.max() - _RANGE_DB)
    held = _slide(decibels, _TONE_CHUNKS, axis=0, combine=np.minimum)
    held = _slide(held[::-1], _TONE_CHUNKS, axis=0, combine=np.maximum)[::-1]
    half = _TONE_NEIGHBOURS // 2
    sums = np.cumsum(np.pad(held, ((0, 0), (half + 1, half)), mode="edge"), axis=1, dtype=float)
    around = (sums[:, _TONE_NEIGHBOURS:] - sums[:, :-_TONE_NEIGHBOURS]) / _TONE_NEIGHBOURS
    peaks = held - around > _TONE_DB
    return np.where(peaks, np.minimum(power, 10 ** (held / 10)), np.float32(0)).astype(np.float32)


def _slide(
    values: Floats, count: int, *, axis: int, combine: Callable[[Floats, Floats], Floats]
) -> Floats:
    """``combine`` over ``count`` neighbours along ``axis``, by doubling; edges are repeated."""
    pads = [(0, 0), (0, 0)]
    pads[axis] = (count // 2, count - 1 - count // 2)
    result, done = np.pad(values, pads, mode="edge"), 1
    while done < count:
        step = min(done, count - done)
        size = result.shape[axis] - step
        ahead = np.take(result, range(step, step + size), axis=axis)
        result = combine(np.take(result, range(size), axis=axis), ahead)
        done += step
    return result


def _music_share(chunks: _Chunks) -> float:
    """Of the chunks within 30 dB of the mean over the energy, which pauses do not change, those
    with a tenth of sustained partials.
    """
    power = chunks.power.astype(np.float64)
    if not power.any():
        return 0.0
    loud = power > np.square(power).sum() / power.sum() * 10 ** (-_LOUD_DB / 10)
    return float(np.mean(chunks.sustained[loud] > _TONAL_SHARE * chunks.power[loud]))


def _estimate_snr(bands: Floats, speech: Marks) -> float:
    """Mean over bands of the power of speech against that of the noise, in decibels.

    Noise is a low percentile of the chunks within 0.25 s of speech, so that it is found in
    recordings without a pause, and long or digitally silent pauses change nothing (compare minimum
    statistics, Martin 2001). Bands that hold next to nothing, such as those over 4 kHz of a
    telephone, are left out.
    """
    count = min(len(bands), len(speech))
    bands, spoken = bands[:count] + np.float32(1e-12), speech[:count]
    if not spoken.any():
        spoken = np.ones(count, np.bool_)
    reach = np.ones(2 * _NEAR_CHUNKS + 1)
    near = np.convolve(spoken, reach)[_NEAR_CHUNKS : _NEAR_CHUNKS + count] > 0.5
    noise = np.percentile(bands[near], _NOISE_PERCENTILE, axis=0)
    voice = bands[spoken].mean(axis=0, dtype=float)
    decibels = 10 * np.log10(np.maximum(voice - noise, 0.01 * noise) / noise)
    kept = voice > _FAINT_BAND * voice.max()
    return float(np.clip(decibels[kept], _LOWEST_SNR_DB, _HIGHEST_SNR_DB).mean())
