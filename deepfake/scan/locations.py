"""Where the files of a scan lie: local paths, and the URLs of object stores (extra ``remote``).

Any URL that ``fsspec`` knows can be listed and read; S3 is listed page by page. Credentials and the
endpoint come from where the store's own client looks for them, such as ``AWS_ACCESS_KEY_ID`` and
``AWS_ENDPOINT_URL``. What a store fails at is tried again by hand: a pause must end with
the file's time limit and each error become one of ours, so that a library would save no line.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from ..errors import DeepfakeError, MediaError, MissingDependency, SettingsError
from ..media.sources import OpenFile, open_path, open_stream, require_size
from ..progress import Watch
from ..reasons import Code
from ..settings import Limits
from ..text import display_name

ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.5
BLOCK_BYTES = 8 * 1024**2
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*://")
_S3 = ("s3://", "s3a://")
_S3_OPTIONS = {
    "use_listings_cache": False,
    "config_kwargs": {"connect_timeout": 10, "read_timeout": 60},
}

_Answer = TypeVar("_Answer")


class RemoteFile(NamedTuple):
    """One object: its URL, and its ETag or time of modification as ``state``."""

    url: str
    size_bytes: int
    state: str


class _ReadFailed(Exception):
    """What went wrong while an open object was read, so that it is not taken for a local fault."""


def is_url(location: str) -> bool:
    """Whether a location is a URL of a remote store; ``file://`` is not."""
    return bool(_URL.match(location)) and not location.startswith("file://")


def open_location(location: str, *, limits: Limits, watch: Watch) -> OpenFile:
    """Open and hash a local path, or fetch a URL into a temporary file without a name.

    Raises ``MediaError``, with the code ``network`` when a store did not answer several times,
    ``TooLarge``, and what ``watch`` raises.
    """
    name = display_name(location)
    if not is_url(location):
        return open_path(location, name=name, limits=limits, check=watch.check)

    def fetch() -> OpenFile:
        watch.check()
        files, path = file_system(location)
        with files.open(path, "rb", block_size=BLOCK_BYTES, cache_type="readahead") as stream:
            require_size(getattr(stream, "size", None) or 0, name, limits)
            return open_stream(_Reader(stream), name=name, limits=limits, check=watch.check)  # type: ignore[arg-type]

    return _try(fetch, name, check=watch.check)


def list_url(url: str) -> Iterator[RemoteFile]:
    """Every object at a URL or below it, in a stable order, asked for as they are taken.

    Raises ``MediaError``: ``not_found`` when there is none, ``network`` when the store fails.
    """
    files, path = _try(lambda: file_system(url), display_name(url))
    found = _list_s3(files, path, url) if url.startswith(_S3) else _walk(files, path, url)
    count = 0
    for count, file in enumerate(found, 1):  # noqa: B007 (counted)
        yield file
    if not count:
        raise MediaError(
            f"URL {display_name(url)}: there is nothing", code=Code.NOT_FOUND, hint="check the URL"
        )


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and its path there.

    Raises ``SettingsError``, ``MissingDependency`` without the extra ``remote``, and, as some file
    systems connect when they are made, whatever they fail at.
    """
    shown = display_name(url)
    if "::" in url:
        raise SettingsError(f"URL {shown}: is a chain of several", hint="give a plain URL")
    try:
        import fsspec
    except ImportError as error:
        raise MissingDependency("fsspec", extra="remote") from error
    try:
        files, path = fsspec.core.url_to_fs(url, **(_S3_OPTIONS if url.startswith(_S3) else {}))
    except ImportError as error:
        if url.startswith(_S3):
            raise MissingDependency("s3fs", extra="remote") from error
        raise SettingsError(f"URL {shown}: needs another package", hint=str(error)) from error
    except (ValueError, TypeError, AttributeError) as error:  # not made for a plain URL
        raise SettingsError(
            f"URL {shown}: cannot be understood", hint="give one such as s3://bucket/prefix"
        ) from error
    return files, str(path)


def _list_s3(files: Any, path: str, url: str) -> Iterator[RemoteFile]:
    bucket, key, _ = files.split_path(path)
    name, scheme = display_name(url), url.partition("://")[0]

    def pages(prefix: str, **values: Any) -> Iterator[dict[str, Any]]:
        while True:
            page = _try(
                lambda: files.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **values),
                name,
            )
            yield from page.get("Contents", ())
            if not page.get("IsTruncated") or "MaxKeys" in values:
                return
            values["ContinuationToken"] = page["NextContinuationToken"]

    def found(item: dict[str, Any]) -> RemoteFile:
        state = str(item.get("ETag") or item.get("LastModified")).strip('"')
        return RemoteFile(f"{scheme}://{bucket}/{item['Key']}", item["Size"], state)

    prefix = key and key.rstrip("/") + "/"
    if key and not url.endswith("/"):
        yield from (found(item) for item in pages(key, MaxKeys=1) if item["Key"] == key)
    for item in pages(prefix):
        if not item["Key"].endswith("/"):
            yield found(item)


def _walk(files: Any, path: str, url: str) -> Iterator[RemoteFile]:
    name, root = display_name(url), path.rstrip("/")

    def found(info: dict[str, Any]) -> RemoteFile:
        rest = str(info["name"]).removeprefix(root)
        marks = ("ETag", "etag", "mtime", "LastModified", "last_modified", "created")
        state = next((str(info[mark]) for mark in marks if info.get(mark)), "")
        return RemoteFile(url.rstrip("/") + rest, int(info.get("size") or 0), state)

    info = _try(lambda: files.info(path), name)
    if info["type"] == "file":
        yield found(info)
        return
    folders = files.walk(path, detail=True, on_error="raise")
    while (folder := _try(lambda: next(folders, None), name, attempts=1)) is not None:
        inner, inside = folder[1], folder[2]
        for key in sorted(inside):
            yield found(inside[key])
        ordered = {key: inner[key] for key in sorted(inner)}
        inner.clear()
        inner.update(ordered)


class _Reader:
    """A binary stream that says when it was the store that failed."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        try:
            content: bytes = self._stream.read(size)
        except Exception as error:
            raise _ReadFailed(_words(error)) from error
        return content


def _try(
    act: Callable[[], _Answer],
    name: str,
    *,
    check: Callable[[], None] = lambda: None,
    attempts: int = ATTEMPTS,
) -> _Answer:
    """``act()``, again after a growing pause while the store fails."""
    for attempt in range(attempts):
        try:
            return act()
        except DeepfakeError:
            raise
        except FileNotFoundError as error:
            raise MediaError(
                f"URL {name}: does not exist", code=Code.NOT_FOUND, hint="check the URL"
            ) from error
        except PermissionError as error:
            raise MediaError(
                f"URL {name}: access is denied", code=Code.UNREADABLE, hint="check the credentials"
            ) from error
        except Exception as error:  # noqa: BLE001 - every store has errors of its own
            why = str(error) if isinstance(error, _ReadFailed) else _words(error)
        if attempt + 1 < attempts:
            until = time.monotonic() + FIRST_PAUSE_SECONDS * 2**attempt
            while time.monotonic() < until:
                check()
                time.sleep(0.05)
    raise MediaError(
        f"URL {name}: the store failed {attempts} times ({why})",
        code=Code.NETWORK,
        hint="check the connection, the endpoint and the credentials, and run the same scan again",
    )


def _words(error: Exception) -> str:
    return display_name(f"{type(error).__name__}: {error}"[:200])
