"""Files on which somebody ruled, found again by their fingerprints.

On disk an index is a file of JSON lines, one for each entry, so that it can be read, sorted out and
kept under version control. It is replaced as a whole, under a lock on ``NAME.lock``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import SettingsError
from ..files import replaced
from ..text import printable
from .fingerprints import Fingerprint
from .shelf import Shelf

MOST_ENTRIES = 1_000_000
_SHA256 = re.compile("[0-9a-f]{64}")
_UTC = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class Ruled(StrEnum):
    """What somebody ruled on a file."""

    SYNTHETIC = "synthetic"
    GENUINE = "genuine"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file on which ``by`` ruled at a moment, in UTC as ISO 8601 has it.

    ``id`` names the entry: the sha256 of the file, or what an exchange calls it. At least one of
    ``sha256`` and ``fingerprint`` is known. Raises ``ValueError`` for what is no entry.
    """

    id: str
    ruled: Ruled
    by: str
    at: str
    sha256: str | None = None
    fingerprint: Fingerprint | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not self.id or self.id != printable(self.id) or not self.by:
            raise ValueError("entry: has no name, or nobody who ruled")
        if not _UTC.fullmatch(self.at):
            raise ValueError(f"entry: was ruled on at {printable(self.at)!r}, which is no moment")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise ValueError("entry: has an odd sha256")
        if self.sha256 is None and self.fingerprint is None:
            raise ValueError("entry: has neither a sha256 nor a fingerprint")

    @property
    def day(self) -> str:
        return self.at[:10]

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "ruled": self.ruled.value,
            "by": self.by,
            "at": self.at,
            "sha256": self.sha256,
            "note": self.note,
            "fingerprint": self.fingerprint and self.fingerprint.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Entry:
        """The inverse of :meth:`to_dict`. Raises ``ValueError``."""
        texts = {name: values.get(name, "") for name in ("id", "by", "at", "note")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise ValueError("entry: holds what is no text")
        sha256, print_ = values.get("sha256"), values.get("fingerprint")
        if not isinstance(sha256, str | None) or not isinstance(print_, Mapping | None):
            raise ValueError("entry: has an odd sha256 or fingerprint")
        return cls(
            **texts | {"by": printable(texts["by"]), "note": printable(texts["note"], most=300)},
            ruled=Ruled(str(values.get("ruled"))),
            sha256=sha256,
            fingerprint=None if print_ is None else Fingerprint.from_dict(print_),
        )


class Copy(NamedTuple):
    """An entry of which a file is a copy; of a file with the same bytes ``difference`` is None,
    else the share of bits of the fingerprints that differ.
    """

    entry: Entry
    difference: float | None


class Known:
    """Entries to look files up in; safe to share between threads."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries: tuple[Entry, ...] = tuple(entries)

    def find(self, fingerprint: Fingerprint | None, *, sha256: str) -> list[Copy]:
        """The entries of which a file is a copy, the same bytes first, then the nearest."""
        same = [Copy(entry, None) for entry in self._by_sha256.get(sha256, ())]
        if fingerprint is None:
            return same
        entries, shelf = self._shelf
        near = (Copy(entries[it.place], it.difference) for it in shelf.near(fingerprint))
        return [*same, *(copy for copy in near if copy.entry.sha256 != sha256)]

    @cached_property
    def _by_sha256(self) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            if entry.sha256 is not None:
                found.setdefault(entry.sha256, []).append(entry)
        return found

    @cached_property
    def _shelf(self) -> tuple[Sequence[Entry], Shelf]:
        entries = [entry for entry in self.entries if entry.fingerprint is not None]
        return entries, Shelf([it.fingerprint for it in entries if it.fingerprint is not None])


def read_known(path: Path) -> Known:
    """The entries of a file. Raises ``SettingsError`` for one that is no index."""
    try:
        with path.open(encoding="utf-8") as file:
            return Known(_read_lines(file, path))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no text"
        raise SettingsError(
            f"known media {str(path)!r}: cannot be read ({why})",
            hint="make one with: deepfake known add FILE",
        ) from error


def digest_known(path: Path) -> str:
    """The sha256 of an index that can be read. Raises as :func:`read_known`."""
    read_known(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_lines(file: Iterable[str], path: Path) -> Iterator[Entry]:
    for number, line in enumerate(file, start=1):
        try:
            values = json.loads(line)
            if not isinstance(values, dict) or number > MOST_ENTRIES:
                raise ValueError("is no entry, or one too many")
            yield Entry.from_dict(values)
        except (ValueError, RecursionError) as error:
            raise SettingsError(
                f"known media {str(path)!r}: line {number} is none ({printable(str(error))})",
                hint="take that line out, or restore the file",
            ) from error


@contextlib.contextmanager
def changing(path: Path) -> Iterator[dict[tuple[str, str], Entry]]:
    """The entries of a file by their id and who ruled, written back at the end of the block or
    when Ctrl-C interrupts it, not after an error; a file that is not there yet is made. One who
    rules again on a file takes back what he said before.

    Raises as :func:`read_known`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritten(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = read_known(path).entries if path.exists() else ()
        entries = {(entry.id, entry.by): entry for entry in before}
        try:
            yield entries
        except KeyboardInterrupt:  # what was done by then was said to be done
            _write(path, entries.values())
            raise
        _write(path, entries.values())
    finally:
        os.close(lock)


def _write(path: Path, entries: Iterable[Entry]) -> None:
    try:
        with replaced(path) as partial, partial.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(one.to_dict()) + "\n" for one in entries)
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"known media {str(path)!r}: cannot be written ({error.strerror})",
        hint="choose another place with --index",
    )


def utc_of(moment: datetime | None = None) -> str:
    """A moment, by default now, in UTC as ISO 8601 has it, to the second."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
