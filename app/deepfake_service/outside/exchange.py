"""One request to an address that somebody named, and its answer, within bytes and seconds.

The host is resolved once and the connection made to one of the very addresses that were looked at:
nobody can change them in between. No proxy, no cookie, no redirect; the certificate must be that of
the host.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import httpcore

from deepfake.version import VERSION

from .addresses import Guard, Target

CONNECT_SECONDS = 10.0
MOST_ADDRESSES = 3
_RESOLVERS = ThreadPoolExecutor(8, thread_name_prefix="resolver")
"""A name server may take longer than there is time, and cannot be told to stop."""
FAILURES = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)
AGENT = f"deepfake/{VERSION}"


@contextlib.contextmanager
def exchange(
    guard: Guard,
    target: Target,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    seconds: float,
) -> Iterator[httpcore.Response]:
    """The answer to one request, whose content is read by ``iter_stream``; all within ``seconds``.

    Raises ``ServiceError`` (``address_refused``) and what is in ``FAILURES``; so does reading.
    """
    until = time.monotonic() + seconds
    sent = {"Host": target.authority, "User-Agent": AGENT, "Accept-Encoding": "identity"}
    url = httpcore.URL(
        scheme=target.scheme.encode(),
        host=target.host.encode("ascii"),
        port=target.port,
        target=target.path.encode("ascii"),
    )
    with httpcore.ConnectionPool(
        ssl_context=_trusted(), network_backend=_Guarded(guard, until), max_connections=1
    ) as pool:
        lines = [
            (name.encode(), value.encode()) for name, value in (sent | dict(headers or {})).items()
        ]
        if body:
            lines.append((b"Content-Length", str(len(body)).encode()))
        with pool.stream(method, url, headers=lines, content=body or None) as answer:
            yield answer


class _Guarded(httpcore.NetworkBackend):
    """Connects to addresses that the guard allows, until a moment of the monotonic clock."""

    def __init__(self, guard: Guard, until: float) -> None:
        self._guard, self._until = guard, until
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        looking = _RESOLVERS.submit(self._guard.resolve, host, port)
        try:
            addresses = looking.result(_left(self._until, httpcore.ConnectTimeout))
        except (OSError, UnicodeError) as error:  # a time-out is one as well
            raise httpcore.ConnectError("its host has no address, or none in time") from error
        for place, address in enumerate(addresses, start=1):
            wait = min(CONNECT_SECONDS, _left(self._until, httpcore.ConnectTimeout))
            try:
                return _Timed(self._sockets.connect_tcp(address, port, timeout=wait), self._until)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if place == min(len(addresses), MOST_ADDRESSES):
                    raise
        raise httpcore.ConnectError("its host has no address")


class _Timed(httpcore.NetworkStream):
    """A connection that ends at a moment, however much moves on it."""

    def __init__(self, stream: httpcore.NetworkStream, until: float) -> None:
        self._stream, self._until = stream, until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, timeout=_left(self._until, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout=_left(self._until, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        wait = _left(self._until, httpcore.ConnectTimeout)
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, wait), self._until)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(until: float, error: type[Exception]) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise error("its time is up")
    return left


@cache
def _trusted() -> ssl.SSLContext:
    """The authorities of this system, and those that come with certifi."""
    context = httpcore.default_ssl_context()
    context.load_default_certs()
    return context
