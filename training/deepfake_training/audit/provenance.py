"""What files and their manifest say of where they come from and on what terms, and what is missing.

Words of a manifest and of metadata are claims: nothing here proves an origin or grants a right.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from deepfake.text import printable

from ..manifests import CLASSES
from .candidates import Candidate
from .findings import Code, Finding

TERMS = ("licen[sc]e*", "copying*", "terms*", "unlicense*")
"""Names of files beside the media of a source that state its terms, whatever their case."""
_UNKNOWN = re.compile(
    r"none|unknown|unclear|not (?:stated|verified|given)|n/?a\b|\?+|-", re.IGNORECASE
)
_FORBIDS = re.compile(
    r"non.?commercial|\bnc\b|research (?:use )?only|academic|all rights reserved|\bnd\b|"
    r"no derivatives",
    re.IGNORECASE,
)
_SHOWN = 80


def judge_claims(candidates: Sequence[Candidate]) -> Iterator[Finding]:
    """Files whose metadata or manifest contradict what is said of them."""
    for number, one in enumerate(candidates):
        if one.label == 0 and one.facts.generators:
            yield Finding(Code.CLAIM, (number,), 1.0, f"genuine, but: {one.facts.generators[0]}")
        if one.label == 1 and one.facts.camera and not one.facts.generators:
            yield Finding(
                Code.CLAIM,
                (number,),
                0.5,
                f"synthetic, but its metadata are those of a camera: {one.facts.camera}",
            )
        if one.recorded and one.recorded != one.info.sha256:
            yield Finding(
                Code.CHANGED, (number,), 1.0, "its sha256 is not the one that the manifest records"
            )


def judge_terms(candidates: Sequence[Candidate], *, stated: bool) -> Iterator[Finding]:
    """A finding for each source without known terms or origin. ``stated``: there is a manifest,
    which could have told; without one, files that state terms beside the media count.
    """
    sources: dict[tuple[int, str], list[Candidate]] = defaultdict(list)
    for one in candidates:
        sources[one.label, one.source].append(one)
    for (label, name), own in sources.items():
        said = f"{CLASSES[label]} source {printable(name, most=_SHOWN)}"
        missing = [one for one in own if is_unknown(one.licence or one.facts.rights)]
        if missing:
            yield Finding(
                Code.LICENCE,
                (),
                len(missing) / len(own),
                f"{said}: no terms are known of {len(missing)} of {len(own)} files",
            )
        forbidding = sorted({one.licence for one in own if _FORBIDS.search(one.licence)})
        if forbidding:
            words = printable("; ".join(forbidding), most=_SHOWN)
            yield Finding(Code.LICENCE, (), 1.0, f"{said}: the terms may forbid the use ({words})")
        lost = sum(not one.origin for one in own)
        if stated and lost:
            text = f"{said}: the manifest names no origin of {lost} of {len(own)} files"
            yield Finding(Code.ORIGIN, (), lost / len(own), text)
    if not stated and candidates:
        text = "there is no manifest: nothing records where the files come from, nor their sha256"
        yield Finding(Code.ORIGIN, (), 1.0, text)


def find_terms(folder: Path) -> str:
    """What beside media, or in the folder above, states their terms; empty for nothing."""
    for place in (folder, folder.parent):
        for path in sorted(place.iterdir()):
            if states_terms(path) and path.is_file():
                return f"see {path.name}"
    return ""


def states_terms(path: Path) -> bool:
    """Whether it is called as files are that state terms."""
    return any(fnmatchcase(path.name.lower(), glob) for glob in TERMS)


def is_unknown(terms: str) -> bool:
    """Whether a licence says nothing, as "none stated" does."""
    return not terms.strip() or _UNKNOWN.match(terms.strip()) is not None
