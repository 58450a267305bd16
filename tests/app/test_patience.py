from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from deepfake_app.limits import PageLimits
from deepfake_app.patience import UPLOADS, BodyLimits, PatientProtocol
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

LIMITS = PageLimits(
    header_seconds=0.4,
    stall_seconds=0.6,
    body_seconds=0.8,
    json_bytes=1000,
    upload_bytes=5000,
    connections=6,
)
LONG = b"x" * 12_000_000
SOON_SECONDS = 8


async def read(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def ignore(request: Request) -> PlainTextResponse:
    return PlainTextResponse("without reading")


async def send_much(request: Request) -> PlainTextResponse:
    return PlainTextResponse(LONG)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app = Starlette(
        routes=[
            Route("/read", read, methods=["POST"]),
            Route(UPLOADS, read, methods=["POST"]),
            Route("/ignore", ignore, methods=["POST"]),
            Route("/much", send_much),
        ],
        middleware=[Middleware(BodyLimits, limits=LIMITS)],
    )
    protocol = type("Protocol", (PatientProtocol,), {"limits": LIMITS})
    config = uvicorn.Config(app, http=protocol, ws="none", log_level="error", timeout_keep_alive=1)
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=SOON_SECONDS) as connection:
        yield connection


def head(path: str, *, length: int, method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n".encode()


def rest(connection: socket.socket) -> bytes:
    """Everything until the server closes; fails when it does not."""
    answer = b""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def trickle(connection: socket.socket, data: bytes, *, seconds: float) -> None:
    """One byte after the other until the server has had enough; fails when it never has."""
    end = time.monotonic() + SOON_SECONDS
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(seconds)
            assert time.monotonic() < end


@pytest.mark.parametrize("begin", [b"", b"GET /much HTT", b"GET /much HTTP/1.1\r\nHost: a\r\n"])
def test_a_head_that_never_comes_is_not_waited_for(port: int, begin: bytes) -> None:
    with connected(port) as connection:
        connection.sendall(begin)
        assert rest(connection) == b""


def test_a_head_that_trickles_is_not_waited_for(port: int) -> None:
    with connected(port) as connection:
        trickle(connection, b"GET /much HTTP/1.1\r\n" + b"A: b\r\n" * 1000, seconds=0.02)
        assert rest(connection) == b""


def test_the_next_head_on_a_connection_is_not_waited_for_either(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(head("/read", length=2) + b"ab")
        answer = b""
        while not answer.endswith(b"\r\n\r\n2"):
            answer += connection.recv(4096)
        trickle(connection, b"POST /read HTTP/1.1\r\n" + b"A: b\r\n" * 1000, seconds=0.02)
        assert rest(connection) == b""


def test_requests_one_after_the_other_are_served(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(2 * (head("/read", length=2) + b"ab"))
        answer = rest(connection)
    assert answer.count(b"HTTP/1.1 200") == 2


def test_a_body_that_stalls_is_refused(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(head("/read", length=100) + b"half")
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"too slowly" in answer


def test_a_body_that_trickles_has_an_end(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(head("/read", length=900))
        trickle(connection, b"x" * 900, seconds=0.05)
        assert rest(connection)[:12] in (b"HTTP/1.1 408", b"")  # the answer may be lost by then


def test_an_unread_body_holds_nothing(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(head("/ignore", length=900))
        trickle(connection, b"x" * 900, seconds=0.05)
        assert rest(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("path", "most"), [("/read", 1000), (UPLOADS, 5000 + 64 * 1024)])
def test_a_body_has_a_most(port: int, path: str, most: int) -> None:
    with connected(port) as connection:
        connection.sendall(head(path, length=most) + b"x" * most)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    with connected(port) as connection:
        connection.sendall(head(path, length=most + 1) + b"x" * (most + 1))
        assert rest(connection)[:12] in (b"HTTP/1.1 413", b"")


def test_an_answer_that_nobody_reads_is_given_up(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(head("/much", length=0, method="GET"))
        time.sleep(1.5)
        assert len(rest(connection)) < len(LONG)


def test_a_slow_reader_who_goes_on_reading_gets_everything(port: int) -> None:
    got = 0
    with connected(port) as connection:
        connection.sendall(head("/much", length=0, method="GET"))
        end = time.monotonic() + 1.2
        while chunk := connection.recv(262_144):
            got += len(chunk)
            if time.monotonic() < end:
                time.sleep(0.05)
            if got >= len(LONG):
                break
    assert got >= len(LONG)


def test_connections_have_a_most(port: int) -> None:
    time.sleep(1.2)  # those of the tests before are gone by then
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(connected(port)) for _ in range(6)]
        with connected(port) as one_more:
            assert rest(one_more) == b""
        opened[0].sendall(head("/read", length=2) + b"ab")
        assert opened[0].recv(4096).startswith(b"HTTP/1.1 200")
