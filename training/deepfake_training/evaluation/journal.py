"""What has been examined so far, as JSON lines, so that a stopped run goes on where it was.

Not the journal of a scan: that one keeps whole reports by path, this one a few numbers by file,
view and detector.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deepfake.errors import DeepfakeError, MediaError, SettingsError
from deepfake.text import display_name, printable


class Journal:
    """One file of lines ``{"key": …, "found": {…}}``, open for this run alone; safe to share
    between threads. Use it as a context manager. A torn last line is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        shown = display_name(self.path)
        try:
            self._file = self.path.open("a+b")
        except OSError as error:
            raise SettingsError(
                f"journal {shown}: cannot be written ({error.strerror})",
                hint="choose another --output",
            ) from error
        try:
            self._read(shown)
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def get(self, key: str) -> dict[str, Any] | None:
        """What was found under a key, or nothing yet."""
        return self._found.get(key)

    def add(self, key: str, found: Mapping[str, Any]) -> None:
        """Keep what was found, at once and with a single write."""
        line = json.dumps({"key": key, "found": found}).encode("ascii") + b"\n"
        with self._lock:
            try:
                self._file.write(line)
                self._file.flush()
            except OSError as error:
                raise DeepfakeError(
                    f"journal {display_name(self.path)}: cannot be written ({error.strerror})",
                    hint="free space and run the same command again",
                ) from error
            self._found[key] = dict(found)

    def _read(self, shown: str) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(
                f"journal {shown}: another run is writing it",
                hint="wait for its end, or choose another --output",
            ) from error
        self._file.seek(0)
        whole = 0
        for number, raw in enumerate(self._file, start=1):
            if not raw.endswith(b"\n"):
                break
            try:
                line = json.loads(raw)
                self._found[line["key"]] = dict(line["found"])
            except (ValueError, KeyError, TypeError) as error:
                raise SettingsError(
                    f"journal {shown}: line {number} is damaged",
                    hint="delete that line, or choose another --output",
                ) from error
            whole += len(raw)
        os.ftruncate(self._file.fileno(), whole)


def digest_file(path: Path) -> str:
    """Which state of which file: its path, size and time of change. Raises ``MediaError`` where it
    cannot be read.
    """
    try:
        facts = path.stat()
    except OSError as error:
        raise MediaError(
            f"file {display_name(path)}: cannot be read ({error.strerror})", hint="check the path"
        ) from error
    return digest(str(path.absolute()), facts.st_size, facts.st_mtime_ns)


def digest(*parts: Any) -> str:
    """A short name of JSON values, for a key."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("ascii")).hexdigest()[:24]


def word_failure(error: DeepfakeError) -> str:
    """An error of one file as results keep it."""
    return f"{error.code}: {printable(str(error), most=300)}"
