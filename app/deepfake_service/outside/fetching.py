"""Media that are fetched from an address, for requests that name one instead of sending a file."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urljoin

import httpcore
from deepfake_app.storage import Incoming, Uploads

from deepfake.errors import ServiceError, SettingsError
from deepfake.reasons import Code

from .addresses import Guard, Target
from .exchange import FAILURES, exchange

REDIRECTS = 4
_HOST = re.compile(r"\.?[0-9a-z]([0-9a-z._-]*[0-9a-z])?")
_MOVED = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, kw_only=True)
class Fetcher:
    """Fetches from ``hosts`` and from no other, each file within ``seconds``; ``hosts`` that begin
    with a dot stand for all below them.
    """

    guard: Guard
    hosts: tuple[str, ...]
    seconds: float

    def __post_init__(self) -> None:
        for host in self.hosts:
            if not _HOST.fullmatch(host):
                raise SettingsError(
                    f"host {host[:60]!r}: is none", hint="write media.example, or .example for all"
                )

    def fetch(self, url: str, uploads: Uploads, *, name: str) -> Incoming:
        """The file at ``url`` as an upload, within the limits of ``uploads``.

        Raises ``ServiceError``: ``not_allowed`` (403) where no host is allowed, ``address_refused``
        (422), ``not_fetched`` (422); and what writing an upload raises. Then nothing is kept.
        """
        if not self.hosts:
            raise ServiceError(
                "url: this service fetches nothing",
                code=Code.NOT_ALLOWED,
                hint="send the file itself",
                status=403,
            )
        until = time.monotonic() + self.seconds
        try:
            for _ in range(REDIRECTS + 1):
                target = self._read(url)
                left = max(0.001, until - time.monotonic())
                with exchange(self.guard, target, seconds=left) as answer:
                    if answer.status not in _MOVED:
                        return _keep(answer, uploads, name=name or _name(target))
                    url = _follow(url, _header(answer, b"location"))
        except FAILURES as error:
            raise _failed(str(error) or type(error).__name__) from error
        raise _failed(f"it is redirected more than {REDIRECTS} times")

    def _read(self, url: str) -> Target:
        target = self.guard.read(url, schemes=("https", "http"))
        host = target.host.rstrip(".")
        if not any(host == it or (it.startswith(".") and host.endswith(it)) for it in self.hosts):
            raise ServiceError(
                f"address: its host {host[:100]!r} is none from which this service fetches",
                code=Code.ADDRESS_REFUSED,
                hint="send the file itself",
                status=422,
            )
        return target


def _keep(answer: httpcore.Response, uploads: Uploads, *, name: str) -> Incoming:
    if answer.status != 200:
        raise _failed(f"it answers {answer.status}")
    if _header(answer, b"content-encoding") not in ("", "identity"):
        raise _failed("it is sent compressed")
    with uploads.receiving(name) as incoming:
        for chunk in answer.iter_stream():
            incoming.write(chunk)
        if not incoming.bytes:
            raise _failed("it is empty")
    return incoming


def _follow(url: str, place: str) -> str:
    try:
        return urljoin(url, place)
    except ValueError as error:
        raise _failed("it is redirected to what is no address") from error


def _name(target: Target) -> str:
    return PurePosixPath(unquote(target.path.partition("?")[0])).name


def _header(answer: httpcore.Response, name: bytes) -> str:
    values = [value.decode("latin-1") for key, value in answer.headers if key.lower() == name]
    return values[0].strip() if values else ""


def _failed(why: str) -> ServiceError:
    return ServiceError(f"url: could not be fetched: {why}", code=Code.NOT_FETCHED, status=422)
