"""From whatever a caller hands over to one open, bounded, hashed file."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from ..errors import MediaError, SettingsError, TooLarge, UnsupportedMedia
from ..reasons import Code
from ..settings import Limits

_CHUNK_BYTES = 1024**2
_NOT_FILES = (
    (stat.S_ISDIR, "a folder", "give the files in it, or use: deepfake scan FOLDER"),
    (stat.S_ISSOCK, "a socket", "save the data to a file first"),
    (stat.S_ISFIFO, "a named pipe", "save the data to a file first"),
    (stat.S_ISCHR, "a device", "save the data to a file first"),
    (stat.S_ISBLK, "a device", "save the data to a file first"),
)


Check = Callable[[], None]
"""Called for each MiB that is read; what it raises ends the reading."""


def _go_on() -> None:
    """The check of a caller that has none."""


class OpenFile(NamedTuple):
    """A descriptor that the caller must close, and what it holds."""

    descriptor: int
    bytes: int
    sha256: str


def open_path(
    path: str | os.PathLike[str], *, name: str, limits: Limits, check: Check = _go_on
) -> OpenFile:
    """Open a regular file. Raises ``MediaError`` for anything else, ``TooLarge`` over the limit."""
    try:
        _require_file(os.stat(path).st_mode, name)  # noqa: PTH116 (bytes in names stay as they are)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise _not_opened(error, name) from error
    with closing_on_error(descriptor):
        found = os.fstat(descriptor)
        _require_file(found.st_mode, name)
        return _measure(descriptor, name=name, limits=limits, expected=found.st_size, check=check)


def open_bytes(content: bytes | bytearray | memoryview, *, name: str, limits: Limits) -> OpenFile:
    """Put bytes into a sealed file in memory."""
    view = memoryview(content).cast("B")
    require_size(len(view), name, limits)
    descriptor = os.memfd_create("media", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with closing_on_error(descriptor):
        while view:
            view = view[os.write(descriptor, view) :]
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        return _measure(descriptor, name=name, limits=limits)


def open_stream(stream: BinaryIO, *, name: str, limits: Limits, check: Check = _go_on) -> OpenFile:
    """Copy the rest of a binary file object into a temporary file that has no name."""
    with tempfile.TemporaryFile() as file:
        total = 0
        while True:
            check()
            try:
                chunk = stream.read(_CHUNK_BYTES)
            except (OSError, ValueError) as error:
                raise _not_opened(error, name) from error
            if not isinstance(chunk, bytes | bytearray | memoryview):
                raise SettingsError(
                    f"source {name}: gives {type(chunk).__name__}, not bytes",
                    hint='open the file in binary mode, "rb"',
                )
            if not chunk:
                break
            total += len(chunk)
            require_size(total, name, limits, at_least=True)
            file.write(chunk)
        file.flush()
        descriptor = os.dup(file.fileno())
    with closing_on_error(descriptor):
        return _measure(descriptor, name=name, limits=limits, check=check)


def _measure(
    descriptor: int, *, name: str, limits: Limits, expected: int = 0, check: Check = _go_on
) -> OpenFile:
    require_size(expected, name, limits)
    digest, total = hashlib.sha256(), 0
    try:
        while chunk := os.pread(descriptor, _CHUNK_BYTES, total):
            check()
            total += len(chunk)
            require_size(total, name, limits, at_least=True)
            digest.update(chunk)
    except OSError as error:
        raise _not_opened(error, name) from error
    if not total:
        raise UnsupportedMedia(
            f"file {name}: is empty", code=Code.EMPTY, hint="get the file again; it has 0 bytes"
        )
    return OpenFile(descriptor, total, digest.hexdigest())


def require_size(size: int, name: str, limits: Limits, *, at_least: bool = False) -> None:
    """Raise ``TooLarge`` for more bytes than a file may have."""
    if size > limits.file_bytes:
        much = "more" if at_least else f"{size:,} bytes, more"
        raise TooLarge(
            f"file {name}: has {much} than {limits.file_bytes:,} bytes",
            hint="cut or compress it, or raise Limits.file_bytes",
        )


def _require_file(mode: int, name: str) -> None:
    for test, what, remedy in _NOT_FILES:
        if test(mode):
            raise MediaError(
                f"file {name}: is {what}, not a file", code=Code.NOT_A_FILE, hint=remedy
            )


def _not_opened(error: OSError | ValueError, name: str) -> MediaError:
    known: dict[type[Exception], tuple[Code, str, str]] = {
        FileNotFoundError: (Code.NOT_FOUND, "does not exist", "check the spelling of the path"),
        PermissionError: (Code.UNREADABLE, "may not be read", "give yourself read permission"),
        NotADirectoryError: (Code.NOT_FOUND, "does not exist", "check the spelling of the path"),
    }
    code, why, remedy = known.get(type(error), (Code.UNREADABLE, "", "check the path and the disk"))
    if not why:
        why = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    return MediaError(f"file {name}: {why}", code=code, hint=remedy)


@contextlib.contextmanager
def closing_on_error(descriptor: int) -> Iterator[None]:
    """Close a descriptor when what follows fails."""
    try:
        yield
    except BaseException:
        os.close(descriptor)
        raise
