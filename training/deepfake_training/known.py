"""Files of several manifests, in groups that are held out together, and how often each is drawn."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .manifests import OfItem


@dataclass(frozen=True)
class Known(OfItem):
    """A file, not yet decoded; ``group`` is what is held out with it, ``fold`` by which fold."""

    group: str
    fold: int


def assign_folds(members: Sequence[tuple[str, int]], *, folds: int) -> dict[str, int]:
    """A fold for every group, so that both classes are spread evenly: the largest groups first,
    each to the fold that has least of what it brings, by the root of its files.
    """
    sizes: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for group, label in members:
        sizes[group][label] += 1
    filled = np.zeros((folds, 2))
    homes = {}

    def order(group: str) -> tuple[int, str]:
        return -sum(sizes[group]), hashlib.sha256(group.encode()).hexdigest()

    for group in sorted(sizes, key=order):
        brings = np.sqrt(sizes[group])
        home = int((filled @ brings).argmin())
        filled[home] += brings
        homes[group] = home
    return homes


def draw_probabilities(files: Sequence[Known]) -> npt.NDArray[np.float64]:
    """Probability (files,) of each file: groups by the root of their files, the sources of a group
    by the root of theirs, the files of a source alike, both classes half.
    """
    groups = Counter((file.label, file.group) for file in files)
    sources = Counter((file.label, file.group, file.source) for file in files)
    inside: Counter[tuple[int, str]] = Counter()
    for (label, group, _), count in sources.items():
        inside[label, group] += float(np.sqrt(count))  # type: ignore[assignment]
    weights = np.array(
        [
            np.sqrt(groups[one.label, one.group])
            * np.sqrt(sources[one.label, one.group, one.source])
            / (inside[one.label, one.group] * sources[one.label, one.group, one.source])
            for one in files
        ]
    )
    labels = np.array([file.label for file in files])
    for label in (0, 1):
        weights[labels == label] /= 2 * max(weights[labels == label].sum(), 1e-12)
    return np.asarray(weights, np.float64)


def choose_files(files: Sequence[Known], *, most: tuple[int, int], seed: int) -> list[int]:
    """At most ``most`` files of every genuine and of every synthetic source, the same for the same
    seed.
    """
    rng = np.random.default_rng(seed)
    by_source: dict[tuple[int, str], list[int]] = {}
    for number in rng.permutation(len(files)):
        label = files[number].label
        own = by_source.setdefault((label, files[number].source), [])
        if len(own) < most[label]:
            own.append(int(number))
    return sorted(number for own in by_source.values() for number in own)
