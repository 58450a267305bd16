"""What is held out together, and the logits of every file by a head that never saw its source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ..records import FileLogits, round_logits
from .features import Known
from .network import Linear
from .views import View

MOST_FOLDS = 8
RANDOM_FOLDS = 5


class Fold(NamedTuple):
    """Which files (numbers) one head never sees; ``group`` names what they are."""

    group: str
    files: frozenset[int]


class Judged(NamedTuple):
    """A record, and for a clip the log-odds of its single frames."""

    record: FileLogits
    frames: float


def make_folds(files: Sequence[Known], *, split: str, seed: int) -> list[Fold]:
    """Every file in one fold.

    By source: as many folds as the class with fewer sources has, eight at most, each with whole
    sources of both classes, so that nothing of them is known to its head. At random: five folds of
    the files of every source.
    """
    if split == "random":
        order = np.random.default_rng(seed).permutation(len(files))
        ranked = sorted(
            order.tolist(), key=lambda number: (files[number].label, files[number].source)
        )
        return [
            Fold(f"part {start + 1} of {RANDOM_FOLDS}", frozenset(ranked[start::RANDOM_FOLDS]))
            for start in range(RANDOM_FOLDS)
        ]
    homes = assign_sources(Counter((one.label, one.source) for one in files))
    groups: dict[int, list[str]] = {}
    for (_, name), fold in homes.items():
        groups.setdefault(fold, []).append(name)
    return [
        Fold(
            "+".join(groups[fold]),
            frozenset(n for n, one in enumerate(files) if homes[one.label, one.source] == fold),
        )
        for fold in sorted(groups)
    ]


def assign_sources(counts: Counter[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """The fold of every source; the largest first, each into the fold with fewest of its class."""
    classes = Counter(label for label, _ in counts)
    folds = min(MOST_FOLDS, *(classes[label] for label in (0, 1)))
    homes: dict[tuple[int, str], int] = {}
    for label in (0, 1):
        sources, held = [0] * folds, [0] * folds
        for place in sorted((p for p in counts if p[0] == label), key=lambda p: (-counts[p], p)):
            fold = min(range(folds), key=lambda f: (sources[f], held[f], f))
            homes[place] = fold
            sources[fold] += 1
            held[fold] += counts[place]
    return homes


def judge_held_out(
    files: Sequence[Known],
    fit: Callable[[npt.NDArray[np.bool_]], Linear],
    folds: Sequence[Fold],
    views: Sequence[View],
) -> list[Judged]:
    """Every file in every judged view, by the head of the fold that holds it out; ``fit`` makes one
    from which files (files,) it may see.
    """
    judged: list[Judged] = []
    for number, fold in enumerate(tqdm(folds, desc="folds", disable=None)):
        chosen = np.array([index not in fold.files for index in range(len(files))])
        judged += judge(files, fold, number, fit(chosen), views)
    return judged


def judge(
    files: Sequence[Known], fold: Fold, number: int, head: Linear, views: Sequence[View]
) -> Iterator[Judged]:
    """The files of a fold in every judged view by a head that never saw them."""
    names = {view.name for view in views if view.judged}
    for index in sorted(fold.files):
        one = files[index]
        for rows in one.read():
            if rows.view not in names:
                continue
            record = FileLogits(
                path=str(one.path),
                label=one.label,
                source=one.source,
                group=fold.group,
                fold=number,
                view=rows.view,
                logits=round_logits(head(rows.rows[:, :-1])),
            )
            yield Judged(record, rows.frames)
