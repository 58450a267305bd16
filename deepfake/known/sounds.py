"""Fingerprints of sound, which compression, resampling and changes of level leave alike.

After Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR 2002): of each frame
of 0.37 s the energies of 33 bands from 300 to 2000 Hz; a bit says whether the difference of two
neighbouring bands grows or shrinks. 32 of them are a word, and there are 43 words a second.
Two sounds are near when, at some shift, few bits of the words that they both have differ.

Written by hand because Chromaprint is a program of its own; what is found with it cannot be
compared with these words, nor has ThreatExchange a form for either.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..preprocess import Samples

Words = npt.NDArray[np.uint32]
"""(count,): 43 a second; 0 where there is no sound."""

SAMPLE_RATE = 5512
MOST_SECONDS = 60.0
LEAST_WORDS = 43
"""That two sounds must have in common: 1 s."""
WORDS_A_SECOND = SAMPLE_RATE / 128
_FRAME, _HOP, _LAG = 2048, 128, 4
_BANDS = 33
_SILENCE_DB = -50.0
"""Below the loudest frame, where bits are noise."""
_FLIPS = np.concatenate([[0], 1 << np.arange(32, dtype=np.uint64)]).astype(np.uint32)
MOST_SHIFTS = 50
"""That are tried, those first of which most words tell."""


def hash_sound(samples: Samples) -> Words:
    """The words of mono ``samples`` at 5512 Hz; none of less than half a second."""
    count = (len(samples) - _FRAME) // _HOP + 1
    if count <= _LAG:
        return np.empty(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[::_HOP]
    window = np.hanning(_FRAME).astype(np.float32)
    edges = np.geomspace(300, 2000, _BANDS + 1) * _FRAME / SAMPLE_RATE
    places = np.round(edges).astype(np.int64)
    energies = np.empty((count, _BANDS), np.float32)
    for start in range(0, count, 256):  # so that an hour takes no more memory than a minute
        power = np.abs(np.fft.rfft(frames[start : start + 256] * window)) ** 2
        energies[start : start + 256] = np.add.reduceat(power[:, : places[-1]], places[:-1], axis=1)
    slopes = np.diff(energies, axis=1)
    bits = slopes[_LAG:] > slopes[:-_LAG]
    words = np.packbits(bits, axis=1).view(">u4").ravel().astype(np.uint32)
    level = energies[_LAG:].sum(axis=1)
    words[level <= level.max() * 10 ** (_SILENCE_DB / 10)] = 0
    return words


def find_shifts(ours: Words, theirs: Words) -> list[int]:
    """Where words are the same but for one bit: how many places later they are in ``theirs``, the
    most frequent shifts first.
    """
    order = np.argsort(theirs, kind="stable")
    return rank_shifts(ours, theirs[order], order)


def rank_shifts(ours: Words, ordered: Words, places: npt.NDArray[np.int64]) -> list[int]:
    """As :func:`find_shifts`, for words in their order, and the place of each."""
    spoken = np.flatnonzero(ours)
    wanted = ours[spoken, None] ^ _FLIPS
    start, end = (np.searchsorted(ordered, wanted, side) for side in ("left", "right"))
    hits = end - start
    if not hits.any():
        return []
    firsts = np.repeat(start.ravel(), hits.ravel())
    within = np.arange(len(firsts)) - np.repeat(np.cumsum(hits) - hits.ravel(), hits.ravel())
    whose = np.repeat(np.repeat(spoken, len(_FLIPS)), hits.ravel())
    shifts, votes = np.unique(places[firsts + within] - whose, return_counts=True)
    best = np.argsort(-votes, kind="stable")[:MOST_SHIFTS]
    return [int(shift) for shift in shifts[best]]


def error_share(ours: Words, theirs: Words, shift: int) -> tuple[float, int]:
    """The share of bits that differ when ``theirs`` is ``shift`` words later, and of how many
    words; 1 where those are too few.
    """
    first = max(0, -shift)
    size = min(len(ours) - first, len(theirs) - first - shift)
    if size < LEAST_WORDS:
        return 1.0, max(0, size)
    a, b = ours[first : first + size], theirs[first + shift : first + shift + size]
    both = (a != 0) & (b != 0)
    if both.sum() < LEAST_WORDS:
        return 1.0, int(both.sum())
    return float(np.bitwise_count(a[both] ^ b[both]).mean() / 32), int(both.sum())
