"""What else tells the classes apart: a format, a size or a silence that only one of them has.

A shortcut that holds for sources that were left out will be learnt by any detector that can see it;
one that holds for files alone tells sources apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from deepfake.types import MediaInfo

from ..manifests import CLASSES
from ..metrics import auc, separation
from .candidates import Array, Candidate, weigh_alike

CLEAR = 0.9
"""Share of the files that one fact about them puts into the right class, or its AUC."""
DOUBTFUL = 0.75
"""AUC over left-out sources from which a trait alone is a finding."""
PARTS = 5
_MOST_WORDS = 20
_DEPTH, _LEAST_LEAF = 4, 5

_WORDS: dict[str, Callable[[MediaInfo], object]] = {
    "format": lambda info: info.format,
    "size": lambda info: None if info.width is None else f"{info.width}×{info.height}",
    "sample rate": lambda info: None if info.sample_rate is None else f"{info.sample_rate} Hz",
    "frame rate": lambda info: info.frame_rate and f"{info.frame_rate:.4g} a second",
    "having sound": lambda info: "sound" if info.has_audio else "no sound",
}
_NUMBERS: dict[str, Callable[[MediaInfo], float | None]] = {
    "short side in pixels": lambda info: (
        info.width and info.height and min(info.width, info.height)
    ),
    "length in seconds": lambda info: info.seconds,
    "bytes of the file": lambda info: info.bytes,
}
_RATIOS: dict[str, Callable[[MediaInfo], float | None]] = {
    "shape (width / height)": lambda info: (
        info.width / info.height if info.width and info.height else None
    ),
    "bytes a pixel": lambda info: (
        info.bytes / (info.width * info.height)
        if info.width and info.height and not info.seconds
        else None
    ),
    "bytes a second": lambda info: info.bytes / info.seconds if info.seconds else None,
}
_REMEDY = "the numbers may owe something to it; store both classes alike, or choose files that are"


class Labelled(Protocol):
    """A file with its class and what its container says."""

    @property
    def label(self) -> int: ...

    @property
    def info(self) -> MediaInfo: ...


@dataclass(frozen=True)
class Shortcut:
    """How well one trait alone ranks the classes: AUC on ``files`` left out at random, and on whole
    ``sources`` left out (NaN where that cannot be asked). ``usual`` is what each class mostly has.
    """

    trait: str
    files: float
    sources: float
    usual: tuple[str, str]


def find_leaks(files: Sequence[Labelled]) -> list[str]:
    """A sentence for each fact about the files themselves that nearly gives their class away."""
    found = []
    for name, read in _WORDS.items():
        values = [(one.label, read(one.info)) for one in files]
        share, usual = _tell_apart(values)
        if share >= CLEAR:
            kinds = ", ".join(f"{CLASSES[label]} mostly {usual[label]}" for label in (0, 1))
            found.append(
                f"the {name} alone tells {share:.0%} of the files apart ({kinds}): {_REMEDY}"
            )
    for name, number in _NUMBERS.items():
        classes: list[list[float]] = [[], []]
        for one in files:
            if (value := number(one.info)) is not None:
                classes[one.label].append(value)
        area = separation(classes[1], classes[0])
        if max(area, 1 - area) >= CLEAR:
            middles = ", ".join(
                f"{CLASSES[label]} about {sorted(some)[len(some) // 2]:.4g}"
                for label, some in enumerate(classes)
            )
            found.append(f"the {name} ranks the classes with AUC {area:.2f} ({middles}): {_REMEDY}")
    return found


def measure_shortcuts(
    candidates: Sequence[Candidate], folds: Sequence[frozenset[int]], *, seed: int
) -> list[Shortcut]:
    """Each trait alone, and all of them together, the most telling first. ``folds`` are the files
    (numbers) whose whole sources are left out together. One trait that all files share is not told.
    """
    labels = np.array([one.label for one in candidates])
    if len(set(labels.tolist())) < 2:
        return []
    traits = read_traits(candidates)
    traits = {name: values for name, values in traits.items() if len(set(values)) > 1}
    order = np.random.default_rng(seed).permutation(len(candidates))
    random = [frozenset(order[start::PARTS].tolist()) for start in range(PARTS)]
    columns = {name: _encode(values) for name, values in traits.items()}
    if len(columns) > 1:
        columns["all of these together"] = np.hstack([*columns.values()])
    found = [
        Shortcut(
            name,
            files=_ask(candidates, columns[name], labels, random),
            sources=_ask(candidates, columns[name], labels, folds),
            usual=_describe(traits[name], labels) if name in traits else ("", ""),
        )
        for name in columns
    ]
    found.append(_ask_groups(candidates, labels))
    return sorted(found, key=lambda one: (-np.nan_to_num(one.sources), -one.files))


def read_traits(candidates: Sequence[Candidate]) -> Mapping[str, list[object]]:
    """Of every trait the value of each file, None where it has none."""
    read: dict[str, Callable[[MediaInfo], object]] = {**_WORDS, **_NUMBERS, **_RATIOS}
    found = {name: [of(one.info) for one in candidates] for name, of in read.items()}
    for name in sorted({name for one in candidates for name in one.facts.traits}):
        found[name] = [one.facts.traits.get(name) for one in candidates]
    return found


def _encode(values: Sequence[object]) -> Array:
    """(files, 1) for numbers; (files, words) with a one for words, the rare ones together."""
    if all(value is None or isinstance(value, (int, float)) for value in values):
        numbers = [np.nan if value is None else float(value) for value in values]  # type: ignore[arg-type]
        return np.array(numbers)[:, None]
    usual = [word for word, _ in Counter(values).most_common(_MOST_WORDS)]
    return np.array([[float(value == word) for word in usual] for value in values])


def _ask(
    candidates: Sequence[Candidate],
    columns: Array,
    labels: np.ndarray,
    folds: Sequence[frozenset[int]],
) -> float:
    """The mean AUC over folds, each by a model that saw the others alone."""
    areas = []
    for fold in folds:
        out = np.isin(np.arange(len(labels)), list(fold))
        if len(set(labels[out])) < 2 or len(set(labels[~out])) < 2:
            continue
        model = DecisionTreeClassifier(
            max_depth=_DEPTH, min_samples_leaf=_LEAST_LEAF, random_state=0
        )
        known = np.flatnonzero(~out).tolist()
        weights = weigh_alike(candidates, known) * len(known)
        model.fit(columns[~out], labels[~out], sample_weight=weights)
        areas.append(auc(labels[out].astype(float), model.predict_proba(columns[out])[:, 1]))
    return float(np.mean(areas)) if areas else float("nan")


def _ask_groups(candidates: Sequence[Candidate], labels: np.ndarray) -> Shortcut:
    """What where a file comes from tells, by the other files of its origin."""
    groups: dict[str, list[int]] = {}
    for one in candidates:
        groups.setdefault(one.group or one.source, []).append(one.label)
    scores = [
        (sum(own := groups[one.group or one.source]) - one.label) / max(1, len(own) - 1)
        for one in candidates
    ]
    mixed = sum(len(set(own)) > 1 for own in groups.values())
    said = f"{mixed} of {len(groups)} origins have both classes"
    return Shortcut(
        "source", auc(labels.astype(float), np.array(scores)), float("nan"), (said, said)
    )


def _describe(values: Sequence[object], labels: np.ndarray) -> tuple[str, str]:
    told = []
    for label in (0, 1):
        own = [value for value, of in zip(values, labels, strict=True) if of == label]
        known = [value for value in own if value is not None]
        if not known:
            told.append("none")
        elif all(isinstance(value, (int, float)) for value in known):
            told.append(f"about {sorted(known)[len(known) // 2]:.4g}")  # type: ignore[type-var]
        else:
            word, count = Counter(map(str, known)).most_common(1)[0]
            told.append(f"{word} ({count / len(own):.0%})")
    return told[0], told[1]


def _tell_apart(values: Sequence[tuple[int, object]]) -> tuple[float, list[object]]:
    """The share of files, both classes counting alike, that are right when each value stands for
    the class that has it more often; and the commonest value of each class.
    """
    counts = [Counter(value for label, value in values if label == one) for one in (0, 1)]
    totals = [max(1, count.total()) for count in counts]
    seen = counts[0].keys() | counts[1].keys()
    if len(seen) > max(2, len(values) // 4):  # as good as every file has a value of its own
        return 0.0, []
    share = sum(max(counts[0][v] / totals[0], counts[1][v] / totals[1]) for v in seen) / 2
    return share, [count.most_common(1)[0][0] for count in counts]
