"""What studies of exposure read: features of files by the shipped network, split by source."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deepfake.bundle import Bundle
from deepfake.errors import ModelError
from deepfake.trust.registry import read_bundles

from ..own.auditing import Gate
from ..own.features import Gathered, Known
from ..own.folds import Fold, make_folds
from ..own.head import Lessons, fit_head, read_samples
from ..own.material import find_sources
from ..own.network import Linear, Vector, measure_golden, open_network
from ..own.train import read_material
from ..own.views import CLEAN, list_views
from ..own.wish import Wish
from ..privacy.design import Samples

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """Files with their features: ``lessons`` of the views that heads learn from, ``clean`` (files,
    features + 1) as they are. ``original`` is the head that the network came with, ``shipped`` the
    same where heads start from it; ``reference`` is what the network sees in its golden input.
    """

    base: Bundle
    files: tuple[Known, ...]
    lessons: Lessons
    clean: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    folds: tuple[Fold, ...]
    original: Linear
    shipped: Linear | None
    reference: Vector

    @property
    def sources(self) -> npt.NDArray[np.str_]:
        """The source (files,) of every file."""
        return np.array([one.source for one in self.files])

    def outside(self, fold: Fold) -> Mask:
        """Which files (files,) a head may see that is tried on this fold."""
        return np.array([number not in fold.files for number in range(len(self.files))])

    def fit(self, chosen: Mask) -> Linear:
        """The head that ``deepfake train`` fits to these files."""
        return fit_head(self.lessons, self.files, chosen, shipped=self.shipped)

    def samples(self, chosen: Mask) -> Samples:
        """These files as iterative fits read them."""
        return read_samples(self.lessons, self.files, chosen)

    def counts(self) -> Counter[tuple[int, str]]:
        """Files by label and source."""
        return Counter((one.label, one.source) for one in self.files)


def read_shelf(
    genuine: Sequence[Path],
    synthetic: Sequence[Path],
    *,
    slot: str,
    models: Path,
    work: Path,
    limit: int | None = None,
    seed: int = 1,
    threads: int = 0,
    as_is: bool = False,
    start: str = "shipped",
) -> Shelf:
    """Read all files, or what ``work`` holds of them: the folder ``OUTPUT.work`` of a
    ``deepfake train`` with the same files and seed will do. With ``as_is`` they are read without
    any change, which no head can learn from, and a class may be one source.
    """
    split = "random" if as_is else "source"
    active = read_bundles(models)
    if slot not in active:
        raise ModelError(f"slot {slot}: no bundle in {models}", hint="leave --models out")
    wish = Wish(
        slot=slot,
        genuine=genuine,
        synthetic=synthetic,
        split=split,
        output=work,
        command="deepfake study",
        models=models,
        limit=limit,
        seed=seed,
        threads=threads,
    )
    work.mkdir(parents=True, exist_ok=True)
    sources = find_sources(genuine, synthetic, split=split, limit=limit, seed=seed)
    views = [view for view in list_views(slot, seed=seed) if not as_is or view.name == CLEAN]
    gathered = read_material(
        wish,
        sources,
        active[slot],
        active,
        views,
        work=work,
        threads=threads or len(os.sched_getaffinity(0)),
        gate=Gate("off"),
    )
    lessons = None if as_is else Lessons.read(gathered.files, views)
    return make_shelf(active[slot], gathered, lessons, split=split, seed=seed, start=start)


def make_shelf(
    base: Bundle,
    gathered: Gathered,
    lessons: Lessons | None,
    *,
    split: str,
    seed: int,
    start: str = "shipped",
) -> Shelf:
    """Files that were read, in folds."""
    clean = [
        next(rows.rows.mean(axis=0) for rows in one.read() if rows.view == CLEAN)
        for one in gathered.files
    ]
    original = open_network(base).head()
    if lessons is None:
        lessons = Lessons(np.zeros((0, len(clean[0])), np.float32), np.zeros(0, np.int64))
    return Shelf(
        base=base,
        files=gathered.files,
        lessons=lessons,
        clean=np.stack(clean).astype(np.float32),
        labels=np.array([one.label for one in gathered.files]),
        folds=tuple(make_folds(gathered.files, split=split, seed=seed)),
        original=original,
        shipped=original if start == "shipped" else None,
        reference=measure_golden(base),
    )
