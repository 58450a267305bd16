"""The manifests of the training material, how its sources count, and the hash for the card."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Item:
    """One file of the training material; ``label`` is 1 for synthetic, 0 for bona fide.

    ``source`` is the set or system that made it, the unit that is held out together.
    """

    path: Path
    label: int
    source: str
    facts: dict[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class OfItem:
    """What is made of one file of the material has its label and its source."""

    item: Item

    @property
    def label(self) -> int:
        return self.item.label

    @property
    def source(self) -> str:
        return self.item.source


def read_manifest(folder: Path, *, source_column: str = "") -> list[Item]:
    """Items of ``folder/manifest.tsv`` (tab-separated, no quoting), sorted by path.

    The source is the named column, or the file's folder when none is named. Raises ``OSError``
    when there is no manifest and ``ValueError`` for a row with another number of cells.
    """
    lines = (folder / "manifest.tsv").read_text(encoding="utf-8").splitlines()
    header = lines[0].split("\t")
    items = []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(header):
            raise ValueError(f"{folder.name}/manifest.tsv line {number}: {len(cells)} cells")
        facts = dict(zip(header, cells, strict=True))
        source = facts[source_column] if source_column else Path(facts["path"]).parent.name
        items.append(Item(folder / facts["path"], int(facts["label"] == "fake"), source, facts))
    return sorted(items, key=lambda item: item.path)


def balance(places: Sequence[tuple[str, str]], *, power: float) -> npt.NDArray[np.float64]:
    """Probabilities of things by their source and file: sources by their number of files to a
    power (0: all alike), files of a source alike, things of a file alike.
    """
    things = Counter(places)
    files = Counter(source for source, _ in things)
    weights = np.array([files[s] ** (power - 1) / things[s, f] for s, f in places])
    return np.asarray(weights / max(float(weights.sum()), 1e-12), np.float64)


def data_sha256(items: Iterable[Item]) -> str:
    """One hash over the recorded sha256 of every item, independent of their order."""
    hashes = sorted(item.facts["sha256"] for item in items)
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
