"""The labelled files: a folder by class and source, or a manifest."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepfake.errors import SettingsError
from deepfake.text import display_name

CLASSES = {"genuine": False, "real": False, "synthetic": True, "fake": True}
"""Names of the folders, and of the labels in a manifest."""
LABELS = CLASSES | {"bonafide": False, "bona-fide": False, "spoof": True, "0": False, "1": True}
TRAITS = (
    "language",
    "accent",
    "sex",
    "age",
    "skin_tone",
    "region",
    "device",
    "camera",
    "compression",
)
"""Columns of a manifest that put a file into groups, and names of folders such as language=sw."""
MOST_TRAIT_CHARACTERS = 60
SOURCE_COLUMNS = ("source", "system")
REMEDY = (
    "give a folder with genuine/SOURCE/… and synthetic/SYSTEM/…, or a manifest with the columns "
    "path, label and source or system"
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One labelled file. ``name`` is its path within the material. ``source`` is what made it: the
    system of a synthetic file, the collection of a genuine one. Samples of one ``group`` are drawn
    together when intervals are made; it is the repository where the manifest names one. ``traits``
    are the groups that the manifest or a folder states, such as ``{"language": "sw"}``; ``facts``
    is all that the manifest says, by column.
    """

    path: Path
    name: str
    synthetic: bool
    source: str
    group: str
    traits: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


def read_material(place: Path) -> list[Sample]:
    """The samples of a folder or a manifest (.tsv or .csv), sorted by name.

    A folder with ``manifest.tsv`` or ``manifest.csv`` is read by that. Raises ``SettingsError`` for
    what is neither, names no label or source, or holds no file.
    """
    manifest = next(
        (it for it in (place / "manifest.tsv", place / "manifest.csv") if it.is_file()), place
    )
    if manifest.is_dir():
        samples = list(_read_folder(manifest))
    elif manifest.is_file():
        samples = list(_read_manifest(manifest))
    else:
        raise SettingsError(f"material {display_name(place)}: does not exist", hint=REMEDY)
    if not samples:
        raise SettingsError(f"material {display_name(place)}: has no labelled file", hint=REMEDY)
    return sorted(samples, key=lambda sample: sample.name)


def limit_each(samples: Sequence[Sample], *, most: int, seed: int) -> list[Sample]:
    """At most ``most`` of each source, 0 for all: the same ones for the same ``seed``, whatever
    other files there are.
    """
    if not most:
        return list(samples)
    places: dict[tuple[bool, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        places[sample.synthetic, sample.source].append(sample)
    kept = (sorted(own, key=lambda one: _lot(one.name, seed))[:most] for own in places.values())
    return sorted((one for own in kept for one in own), key=lambda sample: sample.name)


def digest_files(files: Iterable[tuple[str, bool, str]]) -> str:
    """One sha256 for examined files, each as its sha256, label and source, in whatever order."""
    lines = sorted(f"{sha256} {int(synthetic)} {source}\n" for sha256, synthetic, source in files)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def _lot(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogatepass")).digest()


def _read_folder(folder: Path) -> Iterator[Sample]:
    for inner in sorted(folder.iterdir()):
        synthetic = CLASSES.get(inner.name.lower())
        if synthetic is None or not inner.is_dir():
            continue
        for path in sorted(inner.rglob("*")):
            parts = path.relative_to(inner).parts
            if path.is_file() and not any(part.startswith(".") for part in parts):
                source = parts[0] if len(parts) > 1 else f"{inner.name} (no folder)"
                yield Sample(
                    path=path,
                    name=path.relative_to(folder).as_posix(),
                    synthetic=synthetic,
                    source=source,
                    group=source,
                    traits=_read_traits(
                        dict(part.split("=", 1) for part in parts[1:-1] if "=" in part)
                    ),
                )


def _read_manifest(manifest: Path) -> Iterator[Sample]:
    shown = display_name(manifest)
    try:
        with manifest.open(encoding="utf-8", newline="") as file:
            tabs = "\t" in file.readline()
            file.seek(0)
            # Tab-separated manifests have no quoting, as a path may hold a quotation mark.
            rows = (
                csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
                if tabs
                else csv.DictReader(file)
            )
            columns = rows.fieldnames or []
            source = next((name for name in SOURCE_COLUMNS if name in columns), None)
            if source is None or not {"path", "label"} <= {*columns}:
                raise SettingsError(
                    f"manifest {shown}: lacks a column for path, label, or source or system",
                    hint=REMEDY,
                )
            for number, row in enumerate(rows, start=2):
                yield _read_row(row, manifest.parent, source, place=f"{shown}, line {number}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"manifest {shown}: cannot be read ({error})", hint=REMEDY) from error


def _read_row(row: Mapping[str, str | None], folder: Path, source: str, *, place: str) -> Sample:
    name, label, made_by = row["path"], (row["label"] or "").strip().lower(), row[source]
    if not name or not made_by or None in row:
        raise SettingsError(f"manifest {place}: cells are missing or too many", hint=REMEDY)
    if label not in LABELS:
        raise SettingsError(
            f"manifest {place}: label {display_name(label)} is unknown",
            hint=f"known: {', '.join(LABELS)}",
        )
    return Sample(
        path=folder / name,
        name=name,
        synthetic=LABELS[label],
        source=made_by,
        group=row.get("repo") or made_by,
        traits=_read_traits(row),
        facts={column: value for column, value in row.items() if value},
    )


def _read_traits(stated: Mapping[str, str | None]) -> dict[str, str]:
    return {
        trait: value.strip()[:MOST_TRAIT_CHARACTERS]
        for trait in TRAITS
        if (value := stated.get(trait)) and value.strip()
    }
