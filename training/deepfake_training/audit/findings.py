"""What an audit finds: about which files, why, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from .candidates import Array


class Code(StrEnum):
    """Kinds of findings, the gravest first."""

    TWIN_CLASSES = "twin_classes"
    CLAIM = "claim"
    CHANGED = "changed"
    LABEL = "label"
    PATTERN = "pattern"
    TWIN_SPLITS = "twin_splits"
    SPECTRAL = "spectral"
    CLUSTER = "cluster"
    OUTLIER = "outlier"
    TWIN_SOURCES = "twin_sources"
    PAIRED = "paired"
    TWIN = "twin"
    SHORTCUT = "shortcut"
    LICENCE = "licence"
    ORIGIN = "origin"


class Kind(NamedTuple):
    """``title`` and what to ``do`` are for a person. ``trust`` is what a file counts in training
    when suspicious files are weighed down; ``grave`` findings are what ``refuse`` refuses.
    """

    title: str
    do: str
    trust: float
    grave: bool


KINDS: dict[Code, Kind] = {
    Code.TWIN_CLASSES: Kind(
        "the same in both classes",
        "one of the two has a wrong label: look at both, and take out the wrong one",
        0.0,
        True,
    ),
    Code.CLAIM: Kind(
        "metadata that contradict the label",
        "a genuine file that names a generator, or a synthetic one that claims a camera: find out",
        0.0,
        True,
    ),
    Code.CHANGED: Kind(
        "not the file that the manifest records",
        "bring the file again, or correct the manifest",
        0.0,
        True,
    ),
    Code.LABEL: Kind(
        "perhaps a wrong label",
        "look at the file: detectors that never saw its source take it for the other class, which "
        "its neighbours of the source are not taken for",
        0.0,
        True,
    ),
    Code.PATTERN: Kind(
        "a pattern in common with few others",
        "look for a watermark, a logo or a frame; what is none of these may be a trigger",
        0.0,
        True,
    ),
    Code.TWIN_SPLITS: Kind(
        "the same in two splits",
        "keep it in one split, or the test knows what was learnt",
        1.0,
        True,
    ),
    Code.SPECTRAL: Kind(
        "a spectral signature",
        "features far out in one direction: compare the files side by side for what they share",
        1.0,
        False,
    ),
    Code.CLUSTER: Kind(
        "a small cluster of its own",
        "features that form a second, smaller group: compare the files for what they share",
        1.0,
        False,
    ),
    Code.OUTLIER: Kind(
        "unlike everything else of its class",
        "look whether it belongs here; a rare but right file is worth keeping",
        1.0,
        False,
    ),
    Code.TWIN_SOURCES: Kind(
        "the same in two sources",
        "give both sources one name, or one of them knows what is left out with the other",
        1.0,
        False,
    ),
    Code.PAIRED: Kind(
        "aligned with a file of the other class",
        "its source seems to be made of the other class: leave both out together",
        1.0,
        False,
    ),
    Code.TWIN: Kind("nearly twice in its source", "one of them is enough", 1.0, False),
    Code.SHORTCUT: Kind(
        "a trait that tells the classes apart",
        "store both classes alike, or choose files that are",
        1.0,
        False,
    ),
    Code.LICENCE: Kind(
        "terms that are unknown or forbid use", "ask for the terms, or do without", 1.0, False
    ),
    Code.ORIGIN: Kind(
        "an unknown origin", "note where the files come from, by address and commit", 1.0, False
    ),
}


class Finding(NamedTuple):
    """``files`` are numbers of candidates, two for a pair; none where it is about the collection or
    a source. ``strength`` ranks findings of one code, the highest first.
    """

    code: Code
    files: tuple[int, ...]
    strength: float
    text: str


def trust_files(findings: Sequence[Finding], *, count: int) -> Array:
    """What each of ``count`` files counts in training, from 0 to 1."""
    trust = np.ones(count)
    for one in findings:
        for number in one.files:
            trust[number] = min(trust[number], KINDS[one.code].trust)
    return trust
