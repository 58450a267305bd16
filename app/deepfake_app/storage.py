"""Uploads on disk: one folder for each, within a quota, deleted with their report."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from deepfake.errors import MediaError, TooLarge
from deepfake.media.sniff import EXTENSIONS
from deepfake.reasons import Code
from deepfake.text import printable

from .limits import MEBIBYTE, PageLimits

MOST_NAME_CHARACTERS = 200
_KNOWN = {extension for names in EXTENSIONS.values() for extension in names}
_TOKEN = re.compile("[0-9a-f]{32}")


class Upload(NamedTuple):
    """A file that belongs to one request alone; ``name`` is what its sender calls it."""

    path: Path
    name: str


class _Kept(NamedTuple):
    path: Path
    bytes: int
    since: float
    session: str | None


class Uploads:
    """Every upload of a server in ``folder``; safe to share between threads.

    Equal files of two visitors are two uploads. One that nobody examines is deleted after
    ``limits.abandoned_seconds``, at the next :meth:`sweep`.
    """

    def __init__(self, folder: Path, limits: PageLimits) -> None:
        self.folder, self._limits = folder, limits
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """What all uploads take of the quota, those that are being received or examined too."""
        return self._bytes

    @contextlib.contextmanager
    def receiving(self, name: str) -> Iterator[Incoming]:
        """A new upload to write to. It is kept from the end of the block, or deleted when the block
        raises.
        """
        token = uuid.uuid4().hex
        incoming = Incoming(self, token, self.folder / token / f"upload{_suffix(name)}", name=name)
        try:
            with incoming:
                yield incoming
        except BaseException:
            self._delete(token, incoming.bytes)
            raise
        with self._lock:
            self._kept[token] = _Kept(incoming.path, incoming.bytes, time.monotonic(), None)

    @contextlib.contextmanager
    def claimed(self, path: str, *, name: str) -> Iterator[Upload]:
        """The upload at ``path``, for one request, deleted at the end of the block.

        Raises ``MediaError`` when it is none, or was claimed or deleted before.
        """
        token = self._token(path)
        shown = shown_name(name)
        with self._lock:
            kept = self._kept.pop(token, None)
        if kept is None:
            raise MediaError(
                f"upload {shown!r}: is no longer here",
                code=Code.UPLOAD_GONE,
                hint="files are deleted once examined; choose it again",
            )
        try:
            yield Upload(kept.path, shown)
        finally:
            self._delete(token, kept.bytes)

    def adopt(self, paths: Iterable[Path]) -> None:
        """Keep these uploads of a process before, and delete everything else in the folder."""
        wanted = {self._token(str(path)): path for path in paths if path.is_file()}
        for place in self.folder.iterdir():
            if place.name in wanted:
                count = wanted[place.name].stat().st_size
                with self._lock:
                    self._kept[place.name] = _Kept(
                        wanted[place.name], count, time.monotonic(), None
                    )
                    self._bytes += count
            else:
                shutil.rmtree(place, ignore_errors=True)

    def hold(self, path: str) -> bool:
        """Whether ``path`` is exactly that of an upload that waits for its examination."""
        kept = self._kept.get(self._token(path))
        return kept is not None and str(kept.path) == path

    def belong_to(self, session: str, paths: list[str]) -> None:
        """Note whose uploads these are, so that :meth:`forget` finds them."""
        with self._lock:
            for token in map(self._token, paths):
                if token in self._kept:
                    self._kept[token] = self._kept[token]._replace(session=session)

    def drop(self, paths: list[str]) -> None:
        """Delete uploads that wait; others stay."""
        self._drop({self._token(path) for path in paths})

    def forget(self, session: str) -> None:
        """Delete what waits for the examination of a visitor who has left."""
        with self._lock:
            theirs = {token for token, kept in self._kept.items() if kept.session == session}
        self._drop(theirs)

    def sweep(self) -> None:
        """Delete uploads that were not examined in time."""
        limit = time.monotonic() - self._limits.abandoned_seconds
        with self._lock:
            old = {token for token, kept in self._kept.items() if kept.since < limit}
        self._drop(old)

    def forget_deleted(self) -> None:
        """Give back what uploads took of the quota whose files another process has deleted."""
        with self._lock:
            gone = {token for token, kept in self._kept.items() if not kept.path.exists()}
        self._drop(gone)

    def reserve(self, count: int, *, had: int) -> None:
        """Take ``count`` bytes more of the quota for an upload that ``had`` some.

        Raises ``TooLarge`` for an upload over its own limit, and ``MediaError`` ``no_room``.
        """
        most = self._limits.upload_bytes
        if had + count > most:
            raise TooLarge(
                f"upload: is larger than {most / MEBIBYTE:.0f} MiB", hint="cut or compress it"
            )
        with self._lock:
            if self._bytes + count > self._limits.disk_bytes:
                raise MediaError(
                    "upload: the page has no room for it now",
                    code=Code.NO_ROOM,
                    hint="others are being examined; try again in a few minutes",
                )
            self._bytes += count

    def _drop(self, tokens: set[str]) -> None:
        for token in tokens:
            with self._lock:
                kept = self._kept.pop(token, None)
            if kept is not None:
                self._delete(token, kept.bytes)

    def _delete(self, token: str, count: int) -> None:
        shutil.rmtree(self.folder / token, ignore_errors=True)
        with self._lock:
            self._bytes -= count

    @staticmethod
    def _token(path: str) -> str:
        found = _TOKEN.fullmatch(PurePosixPath(path).parent.name)
        return found[0] if found else ""


class Incoming:
    """An upload that is being written; each byte is taken from the quota first."""

    def __init__(self, uploads: Uploads, token: str, path: Path, *, name: str) -> None:
        self._uploads, self.token, self.path = uploads, token, path
        self.name = shown_name(name)
        self.bytes = 0
        self._digest = hashlib.sha256()
        self._file: BinaryIO | None = None

    @property
    def sha256(self) -> str:
        """Of what was written so far, in hexadecimal."""
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Raises as :meth:`Uploads.reserve`, and ``OSError``."""
        assert self._file is not None
        self._uploads.reserve(len(chunk), had=self.bytes)
        self.bytes += len(chunk)
        self._digest.update(chunk)
        self._file.write(chunk)

    def __enter__(self) -> Incoming:
        self.path.parent.mkdir(mode=0o700)
        self._file = self.path.open("xb")
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()


def shown_name(name: str) -> str:
    """The last part of what a sender calls a file, on one line and not too long."""
    return printable(PurePosixPath(name).name, most=MOST_NAME_CHARACTERS) or "upload"


def _suffix(name: str) -> str:
    """The extension of a sender's name where it is one that is known; nothing else of it is used
    on disk.
    """
    extension = PurePosixPath(name).suffix[1:].lower()
    return f".{extension}" if extension in _KNOWN else ""
