"""A file that may be learnt from, and what is read of it to judge that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deepfake.known.fingerprints import Fingerprint
from deepfake.types import MediaInfo

Array = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a file says of itself, and what of it can be compared with others.

    ``traits`` are words or numbers that have nothing to do with synthesis. ``generators`` are
    sentences about traces of a generative model in its metadata; ``camera`` is the maker and model
    that they claim; ``rights`` the terms that they state. ``pattern`` (values,) is what is fine in
    it, at one size, empty for what has none; ``thumbnail`` a JPEG.
    """

    fingerprint: Fingerprint | None = None
    traits: dict[str, float | str] = field(default_factory=dict)
    generators: tuple[str, ...] = ()
    camera: str | None = None
    rights: str = ""
    pattern: Vectors = field(default_factory=lambda: np.empty(0, np.float32))
    thumbnail: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """``label`` is 1 for synthetic. What comes of one ``group`` has an origin in common: it is the
    source, unless a manifest names a repository. ``split``, ``licence`` and ``origin`` are as a
    manifest states them, empty where it does not; ``recorded`` is the sha256 that it records.
    """

    path: Path
    name: str
    label: int
    source: str
    info: MediaInfo
    facts: Facts
    group: str = ""
    split: str = ""
    licence: str = ""
    origin: str = ""
    recorded: str = ""


def weigh_alike(candidates: Sequence[Candidate], chosen: Sequence[int]) -> Array:
    """Weights (chosen,) that sum to one: both classes alike, the sources of a class, the files of
    a source.
    """
    files = Counter((candidates[n].label, candidates[n].source) for n in chosen)
    sources = Counter(label for label, _ in files)
    return np.array(
        [
            1 / (len(sources) * sources[one.label] * files[one.label, one.source])
            for one in (candidates[n] for n in chosen)
        ]
    )
