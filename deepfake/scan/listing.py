"""What a scan is to look at: folders, files, lists of paths and URLs, found as they are needed.

Folders are walked by hand because ``os.walk`` tells too late of one that it cannot read.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import queue
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from ..errors import DeepfakeError, MediaError, SettingsError
from ..faults import contain_faults
from ..reasons import Code
from ..text import display_name
from .executors import Line, error_line
from .locations import file_system, is_url, list_url

STANDARD_INPUT = "-"
LOOKAHEAD = 10_000
"""Most files that are listed before they are needed, so that the total is known early."""
_CHUNK_BYTES = 64 * 1024
_SAMPLE_BYTES = 4096
_TURN_SECONDS = 0.1
_NO_NAME = "\0"
"""A name that no file can have: what a glob excludes of a folder, it excludes under this name."""
_REMEDIES = {
    errno.EACCES: "give yourself permission to read it",
    errno.EPERM: "give yourself permission to read it",
    errno.ENOENT: "it went while it was looked for; run the same scan again",
    errno.ENAMETOOLONG: "move it up, or scan it by a shorter path from a folder nearby",
}


class Found(NamedTuple):
    """One file in one state. ``key`` is its path or URL, its size and when it was changed.

    ``changed`` is the time of modification in seconds since 1970, None for a URL. A place that
    could not be listed has a ``problem``, the line for the journal. One that could not be listed
    by an earlier scan, and now was, is ``listed``; it is no file either.
    """

    path: str
    size_bytes: int
    key: str
    changed: float | None = None
    problem: Line | None = None
    listed: bool = False


class Filter:
    """Globs on the path relative to the source that it was found in; case does not matter.

    A file must match one of ``include``, when there are any, and none of ``exclude``. ``*`` also
    matches ``/``. ``apart`` holds files that are never listed, such as the results.
    """

    def __init__(
        self,
        *,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        apart: Iterable[Path] = (),
    ) -> None:
        self._include, self._exclude = _globs(include), _globs(exclude)
        self._apart = list(apart)
        self._names = {path.name for path in self._apart}

    def takes(self, path: str, relative: str) -> bool:
        if self._include and not any(glob.match(relative) for glob in self._include):
            return False
        if any(glob.match(relative) for glob in self._exclude):
            return False
        return os.path.basename(path) not in self._names or not self._is_apart(path)  # noqa: PTH119

    def takes_place(self, relative: str) -> bool:
        """Whether a place may hold files that are taken: not when all that is in it is excluded."""
        inside = os.path.join(relative, _NO_NAME)  # noqa: PTH118
        return not any(glob.match(inside) for glob in self._exclude)

    def _is_apart(self, path: str) -> bool:
        for apart in self._apart:
            try:
                if apart.samefile(path):
                    return True
            except OSError:
                continue
        return False


def list_sources(
    sources: Sequence[str],
    files: Filter,
    *,
    is_unlisted: Callable[[str], bool] = lambda place: False,
) -> Iterator[Found]:
    """Every file of the sources, each folder and list in a stable order, as they are taken.

    A source is a folder, a file, a URL, or a list (a ``.txt`` file, or ``-`` for standard input)
    of such, one a line or separated by NUL. Folders behind links are not entered. What cannot be
    listed is found with its ``problem``; ``is_unlisted`` tells which places could not be before.
    """
    for source in sources:
        if is_list(source):
            for entry in read_list(source):
                yield from _list_source(entry, files, is_unlisted, relative=entry)
        else:
            yield from _list_source(source, files, is_unlisted, relative=None)


def check_sources(sources: Sequence[str]) -> None:
    """Raise ``SettingsError`` for a source that does not exist or needs what is not installed."""
    for source in sources:
        if is_url(source):
            _check_url(source)
        elif source != STANDARD_INPUT and not os.path.lexists(_local(source)):
            raise SettingsError(
                f"path {display_name(source)}: does not exist", hint="check the spelling"
            )


def _check_url(url: str) -> None:
    try:
        file_system(url)
    except DeepfakeError:
        raise
    except Exception:  # noqa: BLE001 - the store fails; the listing will meet it and say so
        return


def is_list(source: str) -> bool:
    """Whether a source names files instead of being one."""
    if is_url(source):
        return False
    return source == STANDARD_INPUT or (source.lower().endswith(".txt") and Path(source).is_file())


def read_list(source: str) -> Iterator[str]:
    """The entries of a list, as they come; NUL separates them where the first chunk has one."""
    separator, rest = b"", b""
    try:
        with open(
            0 if source == STANDARD_INPUT else _local(source),
            "rb",
            buffering=0,
            closefd=source != STANDARD_INPUT,
        ) as file:
            while chunk := file.read(_CHUNK_BYTES):
                rest += chunk
                if not separator:
                    separator = b"\0" if b"\0" in chunk else b"\n" if b"\n" in chunk else b""
                    if not separator:
                        continue
                *entries, rest = rest.split(separator)
                yield from _entries(entries, separator)
    except OSError as error:
        raise SettingsError(
            f"list {display_name(source)}: {error.strerror}", hint="give a list that can be read"
        ) from error
    yield from _entries([rest], separator)


def fingerprint(path: str, size_bytes: int) -> int:
    """A number that equal files share: of the size and three short samples of a local file.

    Of a URL only the size counts.
    """
    digest = blake2b(str(size_bytes).encode(), digest_size=8)
    if not is_url(path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except (OSError, ValueError):
            return int.from_bytes(digest.digest(), "little")
        try:
            for start in (0, size_bytes // 2, max(0, size_bytes - _SAMPLE_BYTES)):
                digest.update(os.pread(descriptor, _SAMPLE_BYTES, start))
        except OSError:
            pass  # the worker will meet it and say so
        finally:
            os.close(descriptor)
    return int.from_bytes(digest.digest(), "little")


class Lookahead:
    """Takes from an iterator in a thread, up to ``LOOKAHEAD`` items before they are needed.

    ``count`` is how many there were so far, all of them once ``complete``.
    """

    def __init__(self, found: Iterator[Found]) -> None:
        self.count, self.complete = 0, False
        self._found, self._stop = found, threading.Event()
        self._queue: queue.Queue[Found | BaseException | None] = queue.Queue(LOOKAHEAD)
        threading.Thread(target=self._work, name="deepfake-listing", daemon=True).start()

    def take(self, *, seconds: float) -> Found | None:
        """The next one, or nothing when none came in time or there are no more (see ``ended``)."""
        try:
            found = self._queue.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(found, BaseException):
            raise found
        if found is None:
            self._queue.put(None)
        return found

    @property
    def ended(self) -> bool:
        """Whether everything was taken."""
        return self.complete and self._queue.qsize() == 1

    def close(self) -> None:
        """Stop listing."""
        self._stop.set()

    def _work(self) -> None:
        try:
            for found in self._found:
                self.count += 1
                if not self._put(found):
                    return
            last: BaseException | None = None
        except BaseException as error:  # noqa: BLE001 - raised where the files are taken
            last = error
        if self._put(last):
            self.complete = last is None

    def _put(self, item: Found | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_TURN_SECONDS)
            except queue.Full:
                continue
            return True
        return False


def _list_source(
    source: str, files: Filter, is_unlisted: Callable[[str], bool], *, relative: str | None
) -> Iterator[Found]:
    def wanted(file: Found, inner: str | None) -> bool:
        if file.problem or file.listed:
            return files.takes_place(inner or "")
        return files.takes(file.path, relative if inner is None and relative else inner or "")

    try:
        with contain_faults(source):
            found = _list_remote(source) if is_url(source) else _list_local(source, is_unlisted)
            yield from (file for file, inner in found if wanted(file, inner))
        if is_url(source) and is_unlisted(source):
            yield _listed(source)
    except DeepfakeError as error:
        code = Code.LISTING if error.code is Code.NETWORK else error.code
        yield _problem(source, code, str(error))


def _list_remote(source: str) -> Iterator[tuple[Found, str | None]]:
    root = source.rstrip("/")
    for file in list_url(source):
        key = f"{file.url}|{file.size_bytes}|{file.state}"
        inner = file.url.removeprefix(root).lstrip("/")
        yield Found(file.url, file.size_bytes, key), inner or file.url.rpartition("/")[2]


def _list_local(
    source: str, is_unlisted: Callable[[str], bool]
) -> Iterator[tuple[Found, str | None]]:
    """Depth first; of each folder the files, then the folders, by name, as ``os.walk`` does.

    That one tells of a folder that cannot be read only when it comes to a later one.
    """
    root = _local(source)
    if not os.path.isdir(root):  # noqa: PTH112 (names stay as they are)
        yield _find_file(root), None
        return
    join = os.path.join
    folders = [(root, "")]
    while folders:
        folder, relative = folders.pop()
        if relative and os.path.islink(folder):  # noqa: PTH114 (it became one meanwhile)
            continue
        names, inner, error = _read_folder(folder)
        for name in sorted(names):
            yield _find_file(join(folder, name)), join(relative, name)
        if error:
            yield _unread(folder, error), relative
        elif is_unlisted(folder):
            yield _listed(folder), relative
        folders += [(join(folder, n), join(relative, n)) for n in sorted(inner, reverse=True)]


def _read_folder(folder: str) -> tuple[list[str], list[str], OSError | None]:
    """The names of files and of folders in a folder, and what ended the reading too early."""
    names: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not _is_folder(entry):
                    names.append(entry.name)
                elif not entry.is_symlink():
                    folders.append(entry.name)
    except OSError as error:
        return names, folders, error
    return names, folders, None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # the worker will meet it and say so


def _find_file(path: str) -> Found:
    size = changed = 0
    try:
        facts = os.stat(path)  # noqa: PTH116
        if stat.S_ISREG(facts.st_mode):
            size, changed = facts.st_size, facts.st_mtime_ns
    except (OSError, ValueError):
        pass  # the worker will meet it and say so
    return Found(path, size, f"{path}|{size}|{changed}", changed / 1e9)


def _unread(folder: str, error: OSError) -> Found:
    unread = MediaError(
        f"folder {display_name(folder)}: cannot be listed ({error.strerror})",
        hint=_REMEDIES.get(error.errno or 0, "check the disk"),
    )
    return _problem(folder, Code.LISTING, str(unread))


def _listed(place: str) -> Found:
    return Found(place, 0, f"{place}|0|0", listed=True)


def _problem(path: str, code: Code, message: str) -> Found:
    return Found(path, 0, f"{path}|0|0", problem=error_line(path, code, message))


def _local(source: str) -> str:
    return source.removeprefix("file://")


def _entries(raw: list[bytes], separator: bytes) -> Iterator[str]:
    for entry in raw:
        stripped = entry if separator == b"\0" else entry.rstrip(b"\r")
        if stripped.strip():
            yield os.fsdecode(stripped)


def _globs(globs: Iterable[str]) -> list[re.Pattern[str]]:
    return [re.compile(fnmatch.translate(glob), re.IGNORECASE) for glob in globs]
