"""Pictures of several manifests, grouped by the repositories that are held out together."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..image.data import FACE_SOURCES
from ..manifests import Item, OfItem, read_manifest

TOGETHER = {
    "taef2_recon": "bsds500",  # autoencoder twins of its photos and of the next one's
    "imagenet_sample": "bsds500",
    "lfw_faces": "deepface_faces",  # celebrities of the same years, partly the same persons
}
"""Sources that count as one group with another, though they came from several repositories."""


@dataclass(frozen=True)
class Known(OfItem):
    """A file, not yet decoded; ``group`` is what is held out with it, ``fold`` by which fold."""

    group: str
    fold: int


def read_known(folders: Sequence[Path], *, folds: int) -> list[Known]:
    """The files of ``folder/manifest.tsv`` for every folder, without face manipulations and without
    a second file of the same bytes; every group in one of ``folds`` folds.
    """
    items: dict[str, Item] = {}
    for folder in folders:
        for item in read_manifest(folder, source_column="source"):
            if item.source not in FACE_SOURCES:
                items.setdefault(item.facts["sha256"], item)
    groups = {key: group_of(item) for key, item in items.items()}
    homes = assign_folds([(groups[key], item.label) for key, item in items.items()], folds=folds)
    return [Known(item, groups[key], homes[groups[key]]) for key, item in items.items()]


def group_of(item: Item) -> str:
    """The repository of a file, or that of the source which it is held out with."""
    source = TOGETHER.get(item.source, item.source)
    if source in ("bsds500", "deepface_faces"):
        return source
    repository = item.facts.get("repo", "")
    return repository if "/" in repository else source


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
