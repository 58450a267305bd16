"""Clips of several manifests, side-by-side ones as their parts, grouped by what is held out."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..known import Known, assign_folds
from ..manifests import Item, read_manifest

SPLIT = "#split"
"""Ends the system of a clip that shows several side by side, whose boxes are in a file."""
_TOGETHER = {
    # genuine and edited copies of the same scenes (DAVIS and stock footage)
    "duyguceylan/pix2video.github.io": "davis",
    "rave-video/rave-video.github.io": "davis",
    "fate-zero-edit/fate-zero-edit.github.io": "davis",
    "diffusion-motion-transfer/diffusion-motion-transfer.github.io": "davis",
    "flatten-video-editing/flatten-video-editing.github.io": "davis",
    "facebookresearch/co-tracker": "davis",
    "LiheYoung/Depth-Anything": "davis",
}
_FAMILIES = {
    "talking-head": "talking head",
    "reenactment": "talking head",
    "3D-aware GAN head": "talking head",
    "lip-sync": "lip-sync",
    "face-swap": "face swap",
    "text-to-video": "generation",
    "image-to-video": "generation",
    "video-edit": "editing",
}
_BY_SYSTEM = {"EDTalk": "talking head", "FantasyTalking": "talking head", "MuseV": "talking head"}
FAMILIES = ("generation", "editing", "talking head", "lip-sync", "face swap")


class Part(NamedTuple):
    """A box of a clip in shares of its width and height: left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float


WHOLE = Part(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Clip(Known):
    """A clip, or a part of one that shows several; ``family`` is empty for genuine footage."""

    part: Part
    family: str

    @property
    def name(self) -> str:
        """Its path below the manifest, and the place of the part."""
        left, top, _, _ = self.part
        place = "" if self.part == WHOLE else f"#{left:.2f},{top:.2f}"
        return self.item.facts["path"] + place


@dataclass(frozen=True)
class _Box:
    pattern: re.Pattern[str]
    repository: str
    part: Part
    label: int
    system: str
    kind: str


def read_clips(folders: Sequence[Path], *, boxes: Path, folds: int) -> list[Clip]:
    """The clips of ``folder/manifest.tsv`` for every folder, a second file of the same bytes left
    out; those side by side as the parts that ``boxes`` names, and left out where it names none.
    """
    cells = _read_boxes(boxes)
    found: dict[str, list[tuple[Item, Part, str]]] = {}
    for folder in folders:
        for item in read_manifest(folder, source_column="system"):
            found.setdefault(item.facts["sha256"], _parts_of(item, cells))
    parts = [part for own in found.values() for part in own]
    homes = assign_folds([(_group(item), item.label) for item, _, _ in parts], folds=folds)
    return [
        Clip(item, _group(item), homes[_group(item)], part, family) for item, part, family in parts
    ]


def _read_boxes(path: Path) -> list[_Box]:
    cells = []
    for row in csv.reader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t"):
        if not row or row[0].startswith("#"):
            continue
        repository, pattern, *place, label, system, kind = row[:9]
        part = Part(*map(float, place))
        cells.append(
            _Box(re.compile(pattern), repository, part, int(label == "fake"), system, kind)
        )
    return cells


def _parts_of(item: Item, cells: Sequence[_Box]) -> list[tuple[Item, Part, str]]:
    facts = item.facts
    if not item.source.endswith(SPLIT):
        return [(item, WHOLE, _family(item.source, facts["note"], item.label))]
    return [
        (
            Item(item.path, cell.label, cell.system, facts),
            cell.part,
            _family(cell.system, cell.kind, cell.label),
        )
        for cell in cells
        if cell.repository == facts["repo"] and cell.pattern.search(facts["original_path"])
    ]


def _family(system: str, kind: str, label: int) -> str:
    if not label:
        return ""
    named = next((name for start, name in _FAMILIES.items() if kind.startswith(start)), "")
    return named or _BY_SYSTEM.get(system, "generation")


def _group(item: Item) -> str:
    repository = item.facts["repo"]
    return _TOGETHER.get(repository, repository)
