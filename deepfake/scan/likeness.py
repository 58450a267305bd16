"""Which files of a scan look or sound alike, by the fingerprints in their reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..known.fingerprints import Fingerprint
from ..known.shelf import Shelf
from .executors import Line

MOST_GROUPED = 20_000
"""Files; those that come later in the results are in no group."""


def group_alike(lines: Iterable[Line]) -> Mapping[str, tuple[str, int]]:
    """Of each file that has near-duplicates: the path of the first of them, and how many there are.

    Files with the same bytes are near-duplicates too. Crops of more than about 2 % are not found.
    """
    paths: list[str] = []
    prints: list[Fingerprint] = []
    for line in lines:
        if len(paths) == MOST_GROUPED:
            break
        values = line.get("fingerprint")
        try:
            found = Fingerprint.from_dict(values if isinstance(values, Mapping) else {})
        except ValueError:
            continue  # of another release, or damaged
        paths.append(line["path"])
        prints.append(found)
    shelf = Shelf(prints)
    first = list(range(len(prints)))
    for place, fingerprint in enumerate(prints):
        for near in shelf.near(fingerprint, parts=False):
            low, high = sorted((_root(first, place), _root(first, near.place)))
            first[high] = low
    roots = [_root(first, place) for place in range(len(prints))]
    sizes: dict[int, int] = {}
    for root in roots:
        sizes[root] = sizes.get(root, 0) + 1
    return {
        path: (paths[root], sizes[root])
        for path, root in zip(paths, roots, strict=True)
        if sizes[root] > 1
    }


def _root(first: list[int], place: int) -> int:
    while first[place] != place:
        first[place] = first[first[place]]
        place = first[place]
    return place
