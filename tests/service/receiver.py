"""A server of this machine that webhooks and URLs of tests lead to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Got(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Say(NamedTuple):
    """What is answered; ``chunks`` are written one by one, without a length."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    chunks: Iterator[bytes] | None = None


class Receiver:
    """Keeps what it ``got``, and answers as ``answer`` says."""

    def __init__(self, answer: Callable[[Got], Say]) -> None:
        self.answer, self.got = answer, []
        self.changed = threading.Condition()

    def wait(self, count: int) -> list[Got]:
        """The requests, once there are so many."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.got) >= count, 20), self.got
        return list(self.got)


@contextlib.contextmanager
def receiving(
    answer: Callable[[Got], Say] = lambda got: Say(204),
) -> Iterator[tuple[Receiver, str]]:
    """A receiver, and its address without a path."""
    receiver = Receiver(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            got = Got(self.command, self.path, headers, self.rfile.read(size))
            with receiver.changed:
                receiver.got.append(got)
                receiver.changed.notify_all()
            said = receiver.answer(got)
            self.send_response(said.status)
            for name, value in said.headers:
                self.send_header(name, value)
            if said.chunks is None:
                self.send_header("Content-Length", str(len(said.body)))
            else:
                self.close_connection = True
            self.end_headers()
            with contextlib.suppress(OSError):
                for chunk in (said.body,) if said.chunks is None else said.chunks:
                    self.wfile.write(chunk)
                    self.wfile.flush()

        do_GET = do_POST = handle_one  # noqa: N815 (names of the standard library)

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
