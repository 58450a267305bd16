"""The files that a user gives: which sources there are, and which of their files are taken."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from deepfake.errors import SettingsError

from ..manifests import CLASSES

LEAST_SOURCES = 2


@dataclass(frozen=True)
class Source:
    """Files that come from one place: a camera, a data set, a generator. ``label`` is 1 for
    synthetic, 0 for genuine.
    """

    name: str
    label: int
    files: tuple[Path, ...]


def find_sources(
    genuine: Sequence[Path],
    synthetic: Sequence[Path],
    *,
    split: str = "source",
    limit: int | None = None,
    seed: int = 1,
) -> list[Source]:
    """The sources of both classes, by name: the sub-folders of every folder, or the folder itself
    where it has none. Of each at most ``limit`` files are taken, drawn by ``seed``.

    Raises ``SettingsError`` for a folder that is not there or holds nothing, and for fewer than two
    sources a class, unless ``split`` is ``random``.
    """
    found = [
        source
        for label, folders in enumerate((genuine, synthetic))
        for folder in folders
        for source in _read_folder(folder, label)
    ]
    found = _name_apart(found)
    if limit is not None:
        found = [replace(one, files=_draw(one, limit, seed)) for one in found]
    check_sources(found, split=split)
    return sorted(found, key=lambda source: (source.label, source.name))


def check_sources(sources: Iterable[Source], *, split: str) -> None:
    """Raise ``SettingsError`` for too few sources of a class."""
    counts = Counter(source.label for source in sources)
    for label, word in enumerate(CLASSES):
        if not counts[label] or (split == "source" and counts[label] < LEAST_SOURCES):
            raise SettingsError(
                f"{word} media {_number(counts[label])}: a detector that is tried only on the "
                f"sources that it learnt from says nothing of others, so that {LEAST_SOURCES} a "
                "class are needed",
                hint=f"give --{word} more folders, or one with a sub-folder for each source, or "
                "--split random, which leaves out files instead and flatters the numbers",
            )


def _read_folder(folder: Path, label: int) -> list[Source]:
    if not folder.is_dir():
        raise SettingsError(
            f"folder {folder}: is not there", hint="give a folder of media files to learn from"
        )
    inner = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    sources = [Source(path.name, label, _list_files(path)) for path in inner or [folder.resolve()]]
    sources = [source for source in sources if source.files]
    if not sources:
        raise SettingsError(f"folder {folder}: holds no files", hint="give one that does")
    return sources


def _list_files(folder: Path) -> tuple[Path, ...]:
    """All files below a folder but hidden ones; links to folders are not followed."""
    found = []
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        found += [Path(place, name) for name in sorted(names) if not name.startswith(".")]
    return tuple(found)


def _name_apart(sources: Sequence[Source]) -> list[Source]:
    """Every source with a name of its own: with that of its class, or of its folder, before it
    where two share one.
    """
    for again in (_with_class, _with_parent, _with_place):
        taken = Counter(source.name for source in sources)
        sources = [one if taken[one.name] == 1 else again(one) for one in sources]
    return list(sources)


def _with_class(source: Source) -> Source:
    return replace(source, name=f"{CLASSES[source.label]}/{source.name}")


def _with_parent(source: Source) -> Source:
    place = Path(os.path.commonpath(source.files))
    return replace(source, name=f"{place.parent.parent.name}/{source.name}")


def _with_place(source: Source) -> Source:
    """The last resort: by where its first file lies, so that a folder given twice is seen."""
    digest = blake2b(os.fsencode(source.files[0]), digest_size=3).hexdigest()
    return replace(source, name=f"{source.name}-{digest}")


def _draw(source: Source, limit: int, seed: int) -> tuple[Path, ...]:
    """The same ones when files are added, as far as possible."""

    def place(path: Path) -> bytes:
        return blake2b(os.fsencode(path.name), digest_size=8, key=str(seed).encode()).digest()

    return tuple(sorted(sorted(source.files, key=place)[:limit]))


def _number(count: int) -> str:
    return "of one source" if count == 1 else f"of {count} sources"
