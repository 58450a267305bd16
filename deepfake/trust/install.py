"""Bundles brought to a computer: from a folder, an archive or a URL into the user's models folder.

What comes from elsewhere is not believed. Only plain files with names that a bundle has are taken
out of an archive, at most so many and so large; then the bundle must have the sha256 that this
release ships under its name, or the one that the caller gives, and be signed by a trusted pair of
keys. The folder appears whole or not at all.
"""

from __future__ import annotations

import http.client
import re
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ..bundle import DESCRIPTION, Bundle, parse_name
from ..errors import ModelError, SettingsError
from ..settings import Settings, user_models_folder
from .registry import shipped_bundles
from .signatures import Trust, require_signed

MOST_BYTES = 256 * 1024**2
"""Of an archive, and of all files of a bundle together."""
MOST_FILES = 32
MOST_SECONDS = 3600.0
STALL_SECONDS = 30.0
_CHUNK_BYTES = 256 * 1024
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile("[0-9a-f]{64}")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError)

Advance = Callable[[str, int, int | None], None]
"""Called with what is being done, how many bytes are done, and how many there are, if known."""


class _Member(NamedTuple):
    """A plain file of an archive or a folder; ``open`` gives its content."""

    path: str
    size: int
    open: Callable[[], IO[Any] | None]


def install(
    source: str,
    *,
    sha256: str | None = None,
    settings: Settings | None = None,
    advance: Advance = lambda text, done, total: None,
    most_seconds: float = MOST_SECONDS,
) -> Bundle:
    """Put the bundle in ``source`` into the user's models folder, in place of one of its name.

    ``source`` is a folder, a ``.zip`` or plain ``.tar`` archive or an ``https`` URL of one.
    ``sha256`` is the bundle's, as ``active.json`` has it; without it, that of the shipped bundle of
    this name counts. ``settings`` say whose signatures are trusted. Raises ``SettingsError`` for a
    source that cannot be had and ``ModelError`` for what is in it; nothing is changed then.
    """
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise SettingsError(f"sha256 {sha256!r}: is not 64 small hexadecimal digits")
    folder, trust = user_models_folder(), Trust.read(settings or Settings())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".install-", dir=folder) as name:
            work = Path(name)
            path = Path(source)
            if "://" in source:
                path = work / "archive"
                _download(source, path, advance, most_seconds)
            staged = work / "bundle"
            staged.mkdir()
            with _members(path, source) as members:
                _copy(members, staged, source, advance)
            bundle = _check(staged, source, sha256, trust)
            _replace(bundle.folder, folder / bundle.name, work)
    except OSError as error:
        raise SettingsError(
            f"bundle {source!r}: cannot be installed ({error.strerror or error})",
            hint=f"check that it can be read, and the space and permissions of {folder}",
        ) from error
    return Bundle.read(folder / bundle.name)


def _download(url: str, path: Path, advance: Advance, most_seconds: float) -> None:
    """Bring an archive, within bounds of bytes and time."""
    _check_url(url)
    until = time.monotonic() + most_seconds
    try:
        opener = build_opener(_Redirects)
        request = Request(url, headers={"User-Agent": "deepfake"})  # noqa: S310 - checked above
        with opener.open(request, timeout=STALL_SECONDS) as answer, path.open("wb") as file:
            length = answer.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() and len(length) < 16 else None
            if (total or 0) > MOST_BYTES:
                raise _too_large(url)
            done = 0
            while chunk := answer.read(_CHUNK_BYTES):
                done += len(chunk)
                if done > MOST_BYTES:
                    raise _too_large(url)
                if time.monotonic() > until:
                    raise SettingsError(
                        f"URL {url!r}: not here within {most_seconds:g} seconds",
                        hint="bring the file by other means, and install that",
                    )
                file.write(chunk)
                advance("download", done, total)
    except (URLError, http.client.HTTPException, OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise SettingsError(
            f"URL {url!r}: cannot be had ({why})",
            hint="check it, or bring the file by other means and install that",
        ) from error
    if total is not None and done != total:
        raise SettingsError(f"URL {url!r}: ended after {done} of {total} bytes", hint="try again")


class _Redirects(HTTPRedirectHandler):
    """Follows a redirection only to where a download may come from."""

    def redirect_request(self, *arguments: Any) -> Any:
        request, target = arguments[0], str(arguments[-1])
        _check_url(target, local=request.type == "http")
        return super().redirect_request(*arguments)


def _check_url(url: str, *, local: bool = True) -> None:
    """Raise ``SettingsError`` unless it is https, or http on this machine where ``local``."""
    parts = urlsplit(url)
    here = local and parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not (parts.scheme == "https" or here):
        raise SettingsError(f"URL {url!r}: is not https", hint="give an https URL or a file")


@contextmanager
def _members(path: Path, source: str) -> Iterator[Iterator[_Member]]:
    """The files of a folder or an archive."""
    if path.is_dir():
        yield _folder_members(path, source)
        return
    if not path.is_file():
        raise SettingsError(f"bundle {source!r}: no such file or folder", hint="check the path")
    if path.stat().st_size > MOST_BYTES:
        raise _too_large(source)
    try:
        with path.open("rb") as file:
            begins = file.read(2)
        if begins == b"PK":  # a tar archive with an .npz at its end passes for a zip archive too
            with zipfile.ZipFile(path) as zipped:
                yield _zip_members(zipped, source)
        else:
            with tarfile.open(path, "r:") as tarred:  # a compressed one may unpack to anything
                yield _tar_members(tarred, source)
    except tarfile.ReadError as error:
        raise ModelError(
            f"bundle {source!r}: is no folder, zip archive or plain tar archive ({error})",
            hint="give what its publisher offers",
        ) from error
    except _BROKEN as error:
        raise ModelError(
            f"bundle {source!r}: the archive is damaged ({error})", hint="get it again"
        ) from error


def _folder_members(folder: Path, source: str) -> Iterator[_Member]:
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file():
            raise _unexpected(source, path.name)
        yield _Member(path.name, path.stat().st_size, partial(path.open, "rb"))


def _zip_members(archive: zipfile.ZipFile, source: str) -> Iterator[_Member]:
    for entry in archive.infolist():
        kind = entry.external_attr >> 28  # of the mode of Unix, where it has one
        if entry.is_dir():
            continue
        if kind not in (0, 8) or entry.flag_bits & 1:
            raise _unexpected(source, entry.filename)
        yield _Member(entry.filename, entry.file_size, partial(archive.open, entry))


def _tar_members(archive: tarfile.TarFile, source: str) -> Iterator[_Member]:
    for entry in archive:
        if entry.isdir():
            continue
        if not entry.isreg() or entry.issparse():
            raise _unexpected(source, entry.name)
        yield _Member(entry.name, entry.size, partial(archive.extractfile, entry))


def _copy(members: Iterator[_Member], folder: Path, source: str, advance: Advance) -> None:
    """Copy files that lie together, under one plain folder or none, and count what is read."""
    parents, done = set(), 0
    for number, member in enumerate(members, 1):
        path = PurePosixPath(member.path)
        parts = [part for part in path.parts if part != "."]
        if number > MOST_FILES or member.size > MOST_BYTES:
            raise _too_large(source)
        parents.add(tuple(parts[:-1]))
        fits = 1 <= len(parts) <= 2 and all(_FILE.fullmatch(part) for part in parts)
        if not fits or "\\" in member.path or len(parents) > 1:
            raise _unexpected(source, member.path)
        target = folder / parts[-1]
        if target.exists():
            raise _unexpected(source, member.path)
        content = member.open()
        if content is None:
            raise _unexpected(source, member.path)
        with content, target.open("wb") as file:
            while chunk := content.read(_CHUNK_BYTES):
                done += len(chunk)
                if done > MOST_BYTES:
                    raise _too_large(source)
                file.write(chunk)
                advance("unpack", done, None)


def _check(staged: Path, source: str, sha256: str | None, trust: Trust) -> Bundle:
    """The bundle in a folder, under its own name, once it is what it should be."""
    if not (staged / DESCRIPTION).is_file():
        raise ModelError(f"bundle {source!r}: holds no {DESCRIPTION}", hint="give a bundle")
    name = Bundle.read(staged).name
    known = parse_name(name)
    if known is None:
        raise ModelError(f"bundle {source!r}: has the odd name {name[:40]!r}", hint="give another")
    bundle = Bundle.read(staged.rename(staged.with_name(name)))
    if known.slot != bundle.slot:
        raise ModelError(f"bundle {name}: is of slot {bundle.slot[:40]!r}", hint="give another")
    shipped = shipped_bundles().get(name)
    if (expected := shipped or sha256) is None:
        raise ModelError(
            f"bundle {name}: is not one of this release, so that nothing vouches for it",
            hint=f"if its publisher names this sha256, give it: --sha256 {bundle.sha256}",
        )
    if bundle.sha256 != expected or bundle.sha256 != (sha256 or expected):
        raise ModelError(
            f"bundle {name}: has the sha256 {bundle.sha256}, not {sha256 or expected}",
            hint="get the one of this release, which has the name for itself"
            if shipped
            else "get it again",
        )
    bundle.verify()
    if extra := bundle.extra_files():
        raise _unexpected(source, extra[0])
    require_signed([bundle], trust)
    return bundle


def _replace(staged: Path, target: Path, work: Path) -> None:
    """Rename a folder to its place; what was there goes with the folder ``work``."""
    before = work / "before"
    if target.is_symlink() or target.exists():
        target.rename(before)
    try:
        staged.rename(target)
    except BaseException:
        if before.is_symlink() or before.exists():
            before.rename(target)
        raise


def _unexpected(source: str, name: str) -> ModelError:
    return ModelError(
        f"bundle {source!r}: holds {name[:100]!r}, which is no file of a bundle",
        hint="give a folder or an archive with the files of one bundle and nothing else",
    )


def _too_large(source: str) -> ModelError:
    most = f"{MOST_FILES} files and {MOST_BYTES / 1024**2:g} MB"
    return ModelError(f"bundle {source!r}: is over {most}", hint="give a bundle")
