"""Where the media of jobs lie until their reports: with the uploads, or where all machines see."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from deepfake_app.storage import Incoming, Uploads
from deepfake_app.temporary import private_folder, remove_leftovers

from deepfake.errors import MediaError, MissingDependency, ServiceError, SettingsError
from deepfake.reasons import Code

ORPHAN_SECONDS = 3600.0
PREFIX = "deepfake-job-"
_PLACE = re.compile(r"[0-9a-f]{32}/upload(\.[a-z0-9]+)?")
"""Where uploads lie, and nothing else that somebody may have in the same folder."""


class JobMedia(Protocol):
    """A place of a file is a text of two parts, as ``0123…/upload.png``.

    ``in_place`` says that a file is kept where it was received, and not copied.
    """

    in_place: bool

    def keep(self, files: Sequence[Incoming]) -> list[str]:
        """The places of files that become jobs. Raises ``MediaError`` (``no_room``)."""
        ...

    def opened(self, place: str) -> contextlib.AbstractContextManager[Path]:
        """The file on this machine. Raises ``ServiceError`` when it cannot be had now."""
        ...

    def holds(self, place: str) -> bool:
        """Whether a file is there. Raises ``ServiceError`` when that cannot be told now."""
        ...

    def drop(self, place: str) -> None:
        """Delete a file, if it is there."""
        ...

    def sweep(self, in_use: Collection[str]) -> None:
        """Delete what no job uses, and none will."""
        ...


class OwnMedia:
    """The uploads of this process, which alone examines them."""

    in_place = True

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    def keep(self, files: Sequence[Incoming]) -> list[str]:
        return [f"{file.token}/{file.path.name}" for file in files]

    @contextlib.contextmanager
    def opened(self, place: str) -> Iterator[Path]:
        yield self._uploads.folder / place

    def holds(self, place: str) -> bool:
        return (self._uploads.folder / place).is_file()

    def drop(self, place: str) -> None:
        self._uploads.drop([str(self._uploads.folder / place)])

    def sweep(self, in_use: Collection[str]) -> None:
        """Uploads are dropped with their requests, and those of a process before when it starts; an
        erasure, which is a process of its own, deletes others.
        """
        self._uploads.forget_deleted()


class SharedMedia:
    """A folder that every machine sees, or an object store, as fsspec reads its URL.

    Raises ``SettingsError`` for one that cannot be used.
    """

    in_place = False

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise MissingDependency("fsspec", extra="postgres") from error
        try:
            self._files, root = fsspec.core.url_to_fs(url)
            self._local = "file" in (*self._files.protocol,)
            if self._local:
                Path(root).mkdir(mode=0o700, parents=True, exist_ok=True)
        except (ImportError, ValueError, OSError) as error:
            raise SettingsError(
                f"media {url!r}: cannot be used ({error})",
                hint="name a folder, or a URL of an object store that fsspec knows",
            ) from error
        self._root = PurePosixPath(root)
        if not self._local:
            remove_leftovers(PREFIX)

    def keep(self, files: Sequence[Incoming]) -> list[str]:
        places: list[str] = []
        try:
            for file in files:
                place = f"{file.token}/{file.path.name}"
                places.append(place)
                self._files.makedirs(self._path(file.token), exist_ok=True)
                self._files.put_file(str(file.path), self._path(place))
        except Exception as error:
            for place in places:
                self.drop(place)
            raise MediaError(
                "upload: could not be stored", code=Code.NO_ROOM, hint="try again in a few minutes"
            ) from error
        return places

    @contextlib.contextmanager
    def opened(self, place: str) -> Iterator[Path]:
        if self._local:
            path = Path(self._path(place))
            if not path.is_file():
                raise _away(None)
            yield path
            return
        with private_folder(PREFIX) as folder:
            path = folder / PurePosixPath(place).name
            try:
                self._files.get_file(self._path(place), str(path))
            except Exception as error:  # of any store
                raise _away(error) from error
            yield path

    def holds(self, place: str) -> bool:
        try:
            self._files.info(self._path(place))
        except FileNotFoundError:
            return False
        except Exception as error:
            raise _away(error) from error
        return True

    def drop(self, place: str) -> None:
        with contextlib.suppress(Exception):  # what stays is swept
            self._files.rm(self._path(PurePosixPath(place).parts[0]), recursive=True)

    def sweep(self, in_use: Collection[str]) -> None:
        """A file is copied before its job is added, which may take a while."""
        used = {PurePosixPath(place).parts[0] for place in in_use}
        try:
            found: dict[str, dict[str, Any]] = self._files.find(str(self._root), detail=True)
        except Exception as error:
            raise _away(error) from error
        limit = time.time() - ORPHAN_SECONDS
        for path, known in found.items():
            *above, token, name = PurePosixPath(path).parts
            ours = PurePosixPath(*above) == self._root and _PLACE.fullmatch(f"{token}/{name}")
            if ours and token not in used and _changed(known) < limit:
                self.drop(f"{token}/{name}")

    def _path(self, place: str) -> str:
        return str(self._root / place)


def _changed(known: dict[str, Any]) -> float:
    """When an object was written; unknown counts as now."""
    value = known.get("mtime") or known.get("LastModified") or known.get("created")
    if value is None:
        return time.time()
    return float(value.timestamp() if hasattr(value, "timestamp") else value)


def _away(error: Exception | None) -> ServiceError:
    why = "its file is not there" if error is None else f"its file cannot be had ({error})"
    return ServiceError(
        f"media: {why}",
        code=Code.UPLOAD_GONE,
        hint="see to it that all machines reach the folder of media",
        status=503,
    )
