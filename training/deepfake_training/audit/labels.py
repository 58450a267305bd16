"""Wrong labels by confident learning (Northcutt, Jiang, Chuang 2021, "Confident Learning:
Estimating Uncertainty in Dataset Labels", JAIR 70), on scores of files whose whole source the model
never saw.

A file is off the diagonal of the confident joint when its score for the other class reaches the
mean score that files of that class have for it. Sources that were left out are often misjudged as a
whole, which is no error of labels. So a file must also stand out within its source: by robust
deviations from the median of the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import expit

from ..manifests import CLASSES
from .candidates import Array, Candidate
from .findings import Code, Finding

OUTSTANDING = 2.0
"""Robust deviations from the median of its source, from which a file stands out."""
_LEAST_DEVIATION = 0.3
_LEAST_FILES = 5


def find_wrong_labels(candidates: Sequence[Candidate], odds: Array) -> Iterator[Finding]:
    """``odds`` (files,) are log-odds of being synthetic by models that never saw the file's source,
    NaN where there are none.
    """
    labels = np.array([one.label for one in candidates])
    guesses = guess_labels(labels, odds)
    apart = stand_out(candidates, odds)
    for number in np.flatnonzero((guesses >= 0) & (guesses != labels) & (apart >= OUTSTANDING)):
        label = int(labels[number])
        score = float(expit(odds[number] * (1 if label == 0 else -1)))
        yield Finding(
            Code.LABEL,
            (int(number),),
            float(apart[number]),
            f"labelled {CLASSES[label]}; taken for {CLASSES[1 - label]} with {score:.2f} by models "
            f"that never saw its source, {apart[number]:.1f} deviations from its other files",
        )


def guess_labels(labels: np.ndarray, odds: Array) -> np.ndarray:
    """The label that each file has with confidence, -1 for none: the likelier one of those whose
    threshold, the mean score of the files of that label, it reaches.
    """
    known = ~np.isnan(odds)
    scores = np.stack([expit(-odds), expit(odds)], axis=1)
    if len(set(labels[known].tolist())) < 2:
        return np.full(len(labels), -1)
    limits = [scores[known & (labels == label), label].mean() for label in (0, 1)]
    reached = (scores >= limits) & known[:, None]
    return np.where(reached.any(axis=1), np.where(reached, scores, -1.0).argmax(axis=1), -1)


def stand_out(candidates: Sequence[Candidate], odds: Array) -> Array:
    """By how many robust deviations each file is taken for the other class more than the median of
    its source; 0 in a source of too few files.
    """
    towards = np.array([-value if one.label else value for one, value in _pair(candidates, odds)])
    places = np.array([f"{one.label} {one.source}" for one in candidates])
    apart = np.zeros(len(odds))
    for place in np.unique(places):
        own = (places == place) & ~np.isnan(odds)
        if own.sum() < _LEAST_FILES:
            continue
        middle = np.median(towards[own])
        spread = 1.4826 * np.median(np.abs(towards[own] - middle)) + _LEAST_DEVIATION
        apart[own] = (towards[own] - middle) / spread
    return apart


def _pair(candidates: Sequence[Candidate], odds: Array) -> Iterator[tuple[Candidate, float]]:
    yield from zip(candidates, odds.tolist(), strict=True)
