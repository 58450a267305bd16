"""Pictures of several manifests, grouped by the repositories that are held out together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..image.data import FACE_SOURCES
from ..known import Known, assign_folds
from ..manifests import Item, read_manifest

TWINS = "taef2_recon"
TOGETHER = {
    TWINS: "bsds500",  # autoencoder twins of its photos and of the next one's
    "imagenet_sample": "bsds500",
    "lfw_faces": "deepface_faces",  # celebrities of the same years, partly the same persons
}
"""Sources that count as one group with another, though they came from several repositories."""


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
