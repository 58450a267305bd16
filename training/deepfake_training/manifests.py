"""The manifests of the training material, how its sources count, and the hash for the card."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deepfake.errors import SettingsError
from deepfake.export.samples import list_files

CLASSES = ("genuine", "synthetic")
"""The words for the labels 0 and 1."""
TOGETHER = {"EDTalk": "camera (EDTalk test_data, drives the EDTalk fakes)"}
"""Fakes that are driven by footage of a genuine source, and that source."""


@dataclass(frozen=True)
class Item:
    """One file of the training material; ``label`` is 1 for synthetic, 0 for bona fide.

    ``source`` is the set or system that made it, the unit that is held out together.
    """

    path: Path
    label: int
    source: str
    facts: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def group(self) -> str:
        """The source, or the one with which it must be held out."""
        return TOGETHER.get(self.source, self.source)


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


def list_labelled(folder: Path) -> list[Item]:
    """Labelled files: those of ``folder/manifest.tsv`` where there is one (the source is its column
    ``system`` or ``source``), else ``genuine/SOURCE/…`` and ``synthetic/SYSTEM/…``, files that lie
    in neither left out. Raises ``SettingsError`` when there are none.
    """
    manifest = folder / "manifest.tsv"
    if manifest.exists():
        header = manifest.read_text(encoding="utf-8").partition("\n")[0].split("\t")
        column = next((name for name in ("system", "source") if name in header), "")
        return read_manifest(folder, source_column=column)
    items = []
    for file in list_files(folder):
        path = file.path.relative_to(folder)
        if file.label is not None:
            source = path.parts[1] if len(path.parts) > 2 else path.parts[0]
            items.append(Item(file.path, file.label, source, {"path": path.as_posix()}))
    if not items:
        raise SettingsError(
            f"folder {folder}: has no labelled files",
            hint="put them into genuine/SOURCE and synthetic/SYSTEM",
        )
    return items


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
