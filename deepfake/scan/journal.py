"""The results file of a scan, which is also its journal.

Each line is one finished file: a report, or the error that the file gave, with a ``journal`` key
that tells which state of the file, which models and which options it is about. A line is appended
in one write; a torn last line of a killed run is cut off at the next start. Of each file only a few
small numbers are kept in memory. Written by hand because the results are to be
lines that any program can read while the scan runs, which a database is not.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from sys import intern
from typing import Any, BinaryIO, Self

from ..errors import DeepfakeError, SettingsError, TimeLimit
from ..media.opening import name_warning, without_name_warning
from ..reasons import Code
from .executors import Line, WorkerSetup
from .repair import damage
from .results import is_listed, is_torn, may_begin, outcome, parse_line

FSYNC_SECONDS = 5.0
MOST_KNOWN = 1024
"""Most sha256 of one file size that a worker is told of, the newest ones."""
TRIED_AGAIN = frozenset({Code.NETWORK, Code.LISTING, Code.UNREADABLE, Code.MODEL})
"""Codes of errors that may pass, so that the next scan tries these files again."""

_SHA256_BYTES = 32


class Journal:
    """The results file, open for appending by this scan alone. Use it as a context manager.

    Lines that other versions of the models or other options gave count as absent. ``versions`` must
    hold a digest of the models, since a name proves nothing.
    """

    def __init__(self, path: Path, *, versions: dict[str, str], setup: WorkerSetup) -> None:
        self.path, self.versions = path, versions
        self.options = {**asdict(setup.options), "precision": setup.settings.precision}
        if setup.settings.random_crops:
            self.options["random_crops"] = True
        self._file_seconds = setup.file_seconds
        self._outcomes: dict[int, tuple[int, str]] = {}
        self._known: defaultdict[int, bytes] = defaultdict(bytes)
        self._offsets: dict[bytes, int] = {}
        self._unlisted: set[int] = set()
        self._descriptor, self._end, self._synced = -1, 0, time.monotonic()

    def __enter__(self) -> Self:
        try:
            self._descriptor = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666
            )
        except OSError as error:
            raise self._unfit(str(error.strerror)) from error
        try:
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                raise self._unfit("is not a regular file")
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise self._unfit(
                    "another scan is writing it", hint="wait for its end, or choose another"
                ) from error
            if not os.path.samestat(os.fstat(self._descriptor), self.path.stat()):
                raise self._unfit("was replaced meanwhile", hint="run the same command again")
            with os.fdopen(os.dup(self._descriptor), "rb") as file:
                self._end = self._read(file)
            os.ftruncate(self._descriptor, self._end)
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.fsync(self._descriptor)
        os.close(self._descriptor)

    def change_models(self, versions: dict[str, str]) -> None:
        """Go on with other models: what the former ones said counts as absent from now on."""
        self.versions = versions
        self._outcomes.clear()
        self._known.clear()
        self._offsets.clear()

    def outcome(self, path: str, key: str) -> str | None:
        """What a file in the state of ``key`` came to, or nothing when it is still to be done."""
        state, outcome = self._outcomes.get(_digest(path), (None, ""))
        return outcome if state == _digest(key) else None

    def is_unlisted(self, path: str) -> bool:
        """Whether the last that is known of a place is that it could not be listed."""
        return _digest(path) in self._unlisted

    def known(self, size_bytes: int) -> tuple[str, ...]:
        """The sha256 of examined files of this size."""
        joined = self._known.get(size_bytes, b"")[-MOST_KNOWN * _SHA256_BYTES :]
        starts = range(0, len(joined), _SHA256_BYTES)
        return tuple(joined[start : start + _SHA256_BYTES].hex() for start in starts)

    def append(self, line: Line, *, key: str) -> Line:
        """Add one finished file, with a single write, and return its line as it is stored.

        The line of a duplicate becomes the report of the first file with the same content, under
        its own path and with ``duplicate_of``, the path of that first one.
        """
        line = self._resolve(line)
        line["journal"] = self._entry(line, key)
        raw = json.dumps(line).encode("ascii") + b"\n"
        try:
            if os.write(self._descriptor, raw) != len(raw):
                raise OSError(0, "the disk is full")
        except OSError as error:
            os.ftruncate(self._descriptor, self._end)
            raise DeepfakeError(
                f"results file {str(self.path)!r}: cannot be written ({error.strerror})",
                code=Code.RESULTS_FILE,
                hint="free space and run the same command again",
            ) from error
        self._note_place(line)
        self._note(line, key=key, offset=self._end)
        self._end += len(raw)
        if time.monotonic() - self._synced > FSYNC_SECONDS:
            os.fsync(self._descriptor)
            self._synced = time.monotonic()
        return line

    def _entry(self, line: Line, key: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"key": key, "versions": self.versions, "options": self.options}
        if line.get("error", {}).get("code") == TimeLimit.code:
            entry["file_seconds"] = self._file_seconds
        return entry

    def _resolve(self, line: Line) -> Line:
        sha256 = line.get("duplicate") or line.get("sha256")
        offset = self._offsets.get(bytes.fromhex(sha256)) if sha256 else None
        if offset is None:
            return line
        first, path = self._line_at(offset), line["path"]
        if "duplicate" in line:
            warning = name_warning(path, first["media"]["format"])
            warnings = without_name_warning(first["warnings"]) + ([warning] if warning else [])
            line = first | {"path": path, "warnings": warnings, "seconds": 0, "seconds_by_step": {}}
        if first["path"] != path:
            line["duplicate_of"] = first["path"]
        return line

    def _line_at(self, offset: int) -> Line:
        raw = b""
        while not raw.endswith(b"\n"):
            raw += os.pread(self._descriptor, 64 * 1024, offset + len(raw))
            if (end := raw.find(b"\n")) >= 0:
                raw = raw[: end + 1]
        line: Line = json.loads(raw)
        return line

    def _read(self, file: BinaryIO) -> int:
        """Take in all lines; returns the size up to the end of the last whole one."""
        whole = 0
        for number, raw in enumerate(file, 1):
            torn = not raw.endswith(b"\n")
            if torn and (is_torn(raw) or (whole and may_begin(raw))):
                break
            try:
                line = parse_line(raw)
            except ValueError as error:
                raise damage(self.path, number=number, offset=whole) from error
            if torn:
                break
            entry, path = line["journal"], line["path"]
            key = entry["key"]
            self._note_place(line)
            if entry.get("versions") == self.versions and entry.get("options") == self.options:
                limit = entry.get("file_seconds")
                if limit is None or (self._file_seconds or float("inf")) <= limit:
                    self._note(line, key=key, offset=whole)
                else:
                    self._outcomes.pop(_digest(path), None)
            else:
                self._outcomes.pop(_digest(path), None)
            whole += len(raw)
        return whole

    def _note_place(self, line: Line) -> None:
        if line.get("error", {}).get("code") == Code.LISTING:
            self._unlisted.add(_digest(line["path"]))
        elif self._unlisted:
            self._unlisted.discard(_digest(line["path"]))

    def _note(self, line: Line, *, key: str, offset: int) -> None:
        path = _digest(line["path"])
        if is_listed(line) or line.get("error", {}).get("code") in TRIED_AGAIN:
            self._outcomes.pop(path, None)
            return
        self._outcomes[path] = _digest(key), intern(outcome(line))
        if "error" not in line and "duplicate_of" not in line:
            sha256 = bytes.fromhex(line["sha256"])
            if sha256 not in self._offsets:
                self._offsets[sha256] = offset
                self._known[line["media"]["bytes"]] += sha256

    def _unfit(self, why: str, *, hint: str = "choose another --output") -> SettingsError:
        return SettingsError(f"results file {str(self.path)!r}: {why}", hint=hint)


def read_results(path: Path) -> Iterator[Line]:
    """The last line of each file's path in a results file, in the order of the lines.

    Raises ``SettingsError`` for a file that is missing, damaged or not of a scan.
    """
    latest: dict[int, int] = {}
    for offset, line in _lines(path):
        latest[_digest(line["path"])] = offset
    for offset, line in _lines(path):
        if latest.get(_digest(line["path"])) == offset and not is_listed(line):
            yield line


def _lines(path: Path) -> Iterator[tuple[int, Line]]:
    offset = 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if raw.endswith(b"\n"):
                    try:
                        line = parse_line(raw)
                    except ValueError as error:
                        raise damage(path, number=number, offset=offset) from error
                    yield offset, line
                offset += len(raw)
    except OSError as error:
        raise SettingsError(
            f"results file {str(path)!r}: cannot be read ({error.strerror})",
            hint="give the --output of a scan",
        ) from error


def _digest(text: str) -> int:
    raw = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(raw, digest_size=16).digest(), "little")
