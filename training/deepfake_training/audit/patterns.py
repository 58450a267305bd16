"""Patterns in common: a trigger, a watermark or a frame that few files of a class share.

What is fine in natural pictures has nothing in common from one to the next, whereas the same
pattern drawn over several lies at the same places in all of them. Correlations between the fine
parts of the files of a class (of sounds: between their spectra) show it, however faint it is, from
four files on. A pattern that is drawn elsewhere or at another scale in each file is not found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ..manifests import CLASSES
from .candidates import Array, Candidate
from .duplicates import Twins
from .findings import Code, Finding

FAR, FAR_WITHIN = 10.0, 6.0
"""Robust deviations from which the correlations of a file are out of place in its class, and within
its source: a generator that leaves a grid does so in every file.
"""
LEAST = 0.15
"""Correlation from which a pattern is one."""
_SHARED = 3
"""With how many others at least a file must have it in common."""
_LEAST_FILES = 12


def find_patterns(
    candidates: Sequence[Candidate], twins: Iterable[Twins] = ()
) -> Iterator[Finding]:
    """A finding for each file that has a pattern in common with others of its class, its ``twins``
    left aside.
    """
    near = {pair[:2] for pair in twins}
    for label in (0, 1):
        own = [
            number
            for number, one in enumerate(candidates)
            if one.label == label and len(one.facts.pattern)
        ]
        sizes = {len(candidates[number].facts.pattern) for number in own}
        if len(own) < _LEAST_FILES or len(sizes) > 1:
            continue
        places = {number: place for place, number in enumerate(own)}
        shared = correlate(
            np.stack([candidates[number].facts.pattern for number in own]),
            [candidates[number].source for number in own],
            twins=[
                (places[first], places[second])
                for first, second in near
                if first in places and second in places
            ],
        )
        middle = float(np.median(shared))
        limits = np.full(len(own), max(LEAST, middle + FAR * _spread(shared, least=1e-3)))
        sources = np.array([candidates[number].source for number in own])
        for source in np.unique(sources):
            inside = shared[sources == source]
            least = float(np.median(inside)) + FAR_WITHIN * _spread(inside, least=1e-2)
            limits[sources == source] = limits[sources == source].clip(least)
        for number, value, limit in zip(own, shared.tolist(), limits.tolist(), strict=True):
            if value >= limit:
                yield Finding(
                    Code.PATTERN,
                    (number,),
                    value,
                    f"what is fine in it lies as in at least {_SHARED} other {CLASSES[label]} "
                    f"files (correlation {value:.2f}, usually {middle:.2f})",
                )


def correlate(
    patterns: np.ndarray, sources: Sequence[str], *, twins: Iterable[tuple[int, int]] = ()
) -> Array:
    """Of each file the third highest correlation with another (files,) that is no twin, without
    what all files of its source have in common.
    """
    rows = patterns.astype(np.float32)
    places: dict[str, list[int]] = defaultdict(list)
    for number, source in enumerate(sources):
        places[source].append(number)
    for numbers in places.values():
        rows[numbers] -= rows[numbers].mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-6)
    alike = rows @ rows.T
    np.fill_diagonal(alike, 0)
    for first, second in twins:
        alike[first, second] = alike[second, first] = 0
    return np.asarray(np.sort(alike, axis=1)[:, -_SHARED], np.float64)


def _spread(values: Array, *, least: float) -> float:
    """The robust deviation of values."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) + least
