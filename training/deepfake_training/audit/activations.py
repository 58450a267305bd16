"""What lies apart in the features of a network: poisoned files, and files that do not belong.

Sources differ more from each other than a trigger does from its absence. So the features of every
source are first centred on their median, and what is usual of all sources together is evened out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_samples
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from .candidates import Array, Candidate
from .findings import Code, Finding

DIRECTIONS = 64
"""Of the features that are kept: those along which files vary most."""
LEAST_FILES = 8
"""Of a source or class, below which nothing is said about it."""
FAR = 6.0
"""Robust deviations (1.4826 × the median absolute one) from which a value is far out."""
NEIGHBOURS = 5
CLUSTER_DIRECTIONS = 10
SMALL, APART = 0.15, 0.25
"""Share of a class, and mean silhouette, at which a cluster is small and apart."""
_SHRINK = 0.1


class Spread:
    """Features of all files in two forms: centred on their source, and whitened.

    ``rows`` (files, directions) has one row for each file; ``numbers`` are those candidates.
    """

    def __init__(
        self, candidates: Sequence[Candidate], features: Array, numbers: Sequence[int]
    ) -> None:
        self.numbers = list(numbers)
        self.labels = np.array([candidates[n].label for n in numbers])
        places = [(candidates[n].label, candidates[n].source) for n in numbers]
        names = {place: number for number, place in enumerate(dict.fromkeys(places))}
        self.sources = np.array([names[place] for place in places])
        centred = features - features.mean(axis=0)
        centred /= features.std(axis=0).clip(1e-6)
        for source in range(len(names)):
            own = self.sources == source
            centred[own] -= np.median(centred[own], axis=0)
        _, values, axes = np.linalg.svd(centred, full_matrices=False)
        kept = min(DIRECTIONS, len(axes))
        projected = centred @ axes[:kept].T
        scale = values[:kept] / np.sqrt(len(centred))
        self.centred = projected
        self.rows = projected / np.sqrt(scale**2 + _SHRINK * np.mean(scale**2))


def find_signatures(spread: Spread) -> Iterator[Finding]:
    """Files far out in the direction of the whitened features along which a class varies most.

    After "Spectral Signatures in Backdoor Attacks" (Tran, Li, Madry 2018); in place of a fixed
    share those files are told that lie far from all others. Features are whitened as in SPECTRE
    (Hayase et al. 2021), because what is natural varies more than what a trigger adds.
    """
    for label in (0, 1):
        own = np.flatnonzero(spread.labels == label)
        if len(own) < LEAST_FILES:
            continue
        far = measure_far(score_signature(spread.rows[own]))
        for place in np.flatnonzero(far >= FAR):
            yield Finding(
                Code.SPECTRAL,
                (spread.numbers[own[place]],),
                float(far[place]),
                f"{far[place]:.1f} deviations out along the direction in which its class varies "
                "most",
            )


def find_clusters(spread: Spread, *, seed: int) -> Iterator[Finding]:
    """Files of the smaller of two clusters of a class, where it is small and stands apart.

    After "Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering" (Chen et al.
    2018): two means on few directions, judged by relative size and silhouette.
    """
    for label in (0, 1):
        own = np.flatnonzero(spread.labels == label)
        if len(own) < LEAST_FILES:
            continue
        rows = spread.centred[own][:, :CLUSTER_DIRECTIONS]
        with threadpool_limits(1):  # threads that wait for each other cost more than they bring
            groups = KMeans(2, n_init=5, random_state=seed).fit_predict(rows)
        small = int(np.bincount(groups, minlength=2).argmin())
        inside = groups == small
        if not 1 < inside.sum() <= SMALL * len(own):
            continue
        apart = silhouette_samples(rows, groups)
        if apart[inside].mean() < APART:
            continue
        for place in np.flatnonzero(inside):
            yield Finding(
                Code.CLUSTER,
                (spread.numbers[own[place]],),
                float(apart[place]),
                f"one of {inside.sum()} files that form a cluster apart from {len(own)} of its "
                f"class (silhouette {apart[inside].mean():.2f})",
            )


def find_outliers(spread: Spread) -> Iterator[Finding]:
    """Files whose nearest neighbours of the class are farther than is usual."""
    for label in (0, 1):
        own = np.flatnonzero(spread.labels == label)
        if len(own) <= LEAST_FILES:
            continue
        model = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(spread.rows[own])
        distance = np.log(model.kneighbors()[0].mean(axis=1).clip(1e-9))
        far = measure_far(distance)
        for place in np.flatnonzero((far >= FAR) & (distance > np.median(distance))):
            yield Finding(
                Code.OUTLIER,
                (spread.numbers[own[place]],),
                float(far[place]),
                f"its {NEIGHBOURS} nearest neighbours are {far[place]:.1f} deviations farther away "
                "than is usual",
            )


def score_signature(rows: Array) -> Array:
    """Of rows (files, directions) the coordinate along their first singular direction."""
    centred = rows - np.median(rows, axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    return np.asarray(centred @ axes[0], np.float64)


def measure_far(values: Array) -> Array:
    """How far each value lies from the median, in robust deviations."""
    away = np.abs(values - np.median(values))
    return np.asarray(away / max(1.4826 * float(np.median(away)), 1e-9), np.float64)
