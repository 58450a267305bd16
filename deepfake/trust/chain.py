"""Files that are only ever added to: JSON lines, each bound to the one before by its sha256.

For what is rarely written and read whole, as the history of a models folder or the course of an
incident. A change of any line but the last is noticed. Who can write such a file can write it anew;
the audit log is the one that is signed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import DeepfakeError, SettingsError
from .envelopes import canonical

FIRST = "0" * 64
Line = dict[str, Any]
Add = Callable[[Line], Line]


def read_chain(path: Path) -> list[Line]:
    """All whole lines, the oldest first; none where there is no file.

    Raises ``DeepfakeError`` for a line that does not follow the one before, and ``SettingsError``
    for a file that cannot be read.
    """
    try:
        raw = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise _unusable(path, error) from error
    return _parse(raw, path)[0]


@contextmanager
def adding(path: Path) -> Iterator[tuple[list[Line], Add]]:
    """The lines so far, and what adds one, while nobody else may.

    A half line of a process that was killed is cut off. Raises as :func:`read_chain`.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _unusable(path, error) from error
    with os.fdopen(descriptor, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines, last, size = _parse(file.read(), path)
        file.truncate(size)
        head = [last]

        def add(values: Line) -> Line:
            line = {
                **values,
                "number": len(lines) + 1,
                "previous": head[0],
                "time": datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            }
            raw = canonical(line) + b"\n"
            _write(file, raw, path)
            lines.append(line)
            head[0] = hashlib.sha256(raw).hexdigest()
            return line

        yield lines, add


def _parse(raw: bytes, path: Path) -> tuple[list[Line], str, int]:
    """The whole lines, the hash of the last one, and their size."""
    lines: list[Line] = []
    previous, size = FIRST, 0
    for part in raw.splitlines(keepends=True):
        if not part.endswith(b"\n"):
            break
        try:
            line = json.loads(part)
            follows = (
                canonical(line) + b"\n" == part
                and (line["number"], line["previous"]) == (len(lines) + 1, previous)
                and isinstance(line["time"], str)
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            follows = False
        if not follows:
            raise DeepfakeError(
                f"file {str(path)!r}: line {len(lines) + 1} is not as it was written",
                hint="restore the file from a copy, or move it away to begin anew",
            )
        lines.append(line)
        previous, size = hashlib.sha256(part).hexdigest(), size + len(part)
    return lines, previous, size


def _write(file: BinaryIO, raw: bytes, path: Path) -> None:
    end = file.seek(0, os.SEEK_END)
    try:
        if os.write(file.fileno(), raw) != len(raw):
            raise OSError(28, "the disk is full")
        os.fsync(file.fileno())
    except OSError as error:
        os.ftruncate(file.fileno(), end)
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"file {str(path)!r}: cannot be used ({error.strerror})",
        hint="free space, or choose a folder that you may write to",
    )
