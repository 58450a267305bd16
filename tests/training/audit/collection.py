"""Candidates made up for the checks of an audit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from deepfake_training.audit.candidates import Candidate, Facts

from deepfake.known.fingerprints import Fingerprint
from deepfake.types import Kind, MediaInfo


def candidate(name: str, label: int, source: str, **more: Any) -> Candidate:
    """``more`` are fields of a candidate, of its facts or of its media info."""
    known = {key: more.pop(key) for key in ("group", "split", "licence", "origin") if key in more}
    recorded = more.pop("recorded", "")
    facts = {key: more.pop(key) for key in Facts.__dataclass_fields__ if key in more}
    info = {"kind": Kind.IMAGE, "format": "jpeg", "sha256": name, "bytes": 1000} | more
    return Candidate(
        path=Path(name),
        name=name,
        label=label,
        source=source,
        info=MediaInfo(**info),
        facts=Facts(**facts),
        recorded=recorded,
        **known,
    )


def collection(files: int = 20, sources: Sequence[str] = "abcd") -> list[Candidate]:
    """``files`` of each source; of the first half of the sources genuine ones."""
    return [
        candidate(f"{source}{number}", int(place >= len(sources) / 2), source)
        for place, source in enumerate(sources)
        for number in range(files)
    ]


def folds_of(candidates: Sequence[Candidate]) -> list[frozenset[int]]:
    """Two folds, each with a source of either class: the first of both, and the others."""
    first = {label: next(o.source for o in candidates if o.label == label) for label in (0, 1)}
    out = frozenset(n for n, o in enumerate(candidates) if o.source == first[o.label])
    return [out, frozenset(range(len(candidates))) - out]


def mark(seed: int, *, flipped: int = 0) -> Fingerprint:
    """The fingerprint of a picture, with so many bits turned."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, 256)
    bits[:flipped] ^= 1
    return Fingerprint(kind=Kind.IMAGE, wholes=np.packbits(bits).tobytes())
