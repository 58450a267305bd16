"""Files with the same content, and files that look or sound alike, across classes and splits.

Near-duplicates are found by the fingerprints of :mod:`deepfake.known`: PDQ of pictures and of the
frames of clips, spectral words of sounds. Crops of more than about 2 % are not found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from deepfake.known.shelf import Shelf

from .candidates import Candidate
from .findings import Code, Finding

PAIRED_SHARE = 0.2
"""Of the files of a source that have a near-duplicate in the other class, from which they are meant
to: a source of reconstructions beside what was reconstructed.
"""


class Twins(NamedTuple):
    """Two files (numbers); ``difference`` is the share of bits of their fingerprints that differ,
    None for the same content.
    """

    first: int
    second: int
    difference: float | None


def find_twins(candidates: Sequence[Candidate]) -> list[Twins]:
    """Every pair with one content, the first file with each other; and every near one."""
    first: dict[str, int] = {}
    found: list[Twins] = []
    for number, one in enumerate(candidates):
        before = first.setdefault(one.info.sha256, number)
        if before != number:
            found.append(Twins(before, number, None))
    single = sorted(first.values())
    marked = [n for n in single if candidates[n].facts.fingerprint is not None]
    prints = [candidates[n].facts.fingerprint for n in marked]
    shelf = Shelf([mark for mark in prints if mark is not None])
    for place, mark in enumerate(prints):
        assert mark is not None
        for near in shelf.near(mark, parts=False):
            if near.place > place:
                found.append(Twins(marked[place], marked[near.place], near.difference))
    return found


def judge_twins(candidates: Sequence[Candidate], twins: Sequence[Twins]) -> Iterator[Finding]:
    """What is wrong with files being alike; nothing where they are of one source and split."""
    paired = _find_paired(candidates, twins)
    for pair in twins:
        one, other = candidates[pair.first], candidates[pair.second]
        files = (pair.first, pair.second)
        how = "has the same content as" if pair.difference is None else "is nearly the same as"
        near = 1.0 if pair.difference is None else 1 - pair.difference
        if one.label != other.label:
            code = Code.TWIN_CLASSES
            meant = {(one.label, one.source), (other.label, other.source)} & paired
            if pair.difference is not None and meant:
                code = Code.PAIRED
            yield Finding(code, files, near, f"{how} a file of the other class")
        elif one.split and other.split and one.split != other.split:
            yield Finding(Code.TWIN_SPLITS, files, near, f"{how} a file of the split {other.split}")
        elif (one.group or one.source) != (other.group or other.source):
            yield Finding(Code.TWIN_SOURCES, files, near, f"{how} a file of another source")
        else:
            yield Finding(Code.TWIN, files, near, f"{how} another file of its source")


def _find_paired(
    candidates: Sequence[Candidate], twins: Sequence[Twins]
) -> frozenset[tuple[int, str]]:
    """Sources of which many files have a near-duplicate in the other class."""
    files = Counter((one.label, one.source) for one in candidates)
    across = {
        number
        for pair in twins
        if pair.difference is not None
        and candidates[pair.first].label != candidates[pair.second].label
        for number in pair[:2]
    }
    counts = Counter((candidates[n].label, candidates[n].source) for n in across)
    return frozenset(
        place
        for place, count in counts.items()
        if count >= 3 and count >= PAIRED_SHARE * files[place]
    )
