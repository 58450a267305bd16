"""What the decoder process does, done in this one, so that its parts can be tested alone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from deepfake.media.job import Descriptor, Job
from deepfake.media.sources import open_bytes
from deepfake.media.wire import Received, receive
from deepfake.settings import Limits


class Answer(NamedTuple):
    """All that one operation gives: its values, its parts, its warnings."""

    values: dict[str, Any]
    parts: list[Received]
    warnings: list[str]

    @property
    def arrays(self) -> list[np.ndarray]:
        return [part.array for part in self.parts if part.array is not None]


@contextmanager
def job_for(
    content: bytes, *, limits: Limits | None = None, shared: np.ndarray | None = None
) -> Iterator[tuple[Job, socket.socket]]:
    """A request about ``content``, and the end of the socket at which its owner listens."""
    limits = limits or Limits()
    ours, theirs = socket.socketpair()
    opened = open_bytes(content, name="file", limits=limits)
    with ours, theirs, Descriptor(opened.descriptor) as stream:
        job = Job(connection=theirs, stream=stream, name="file", limits=limits, shared=shared)
        yield job, ours


def run_operation(
    operation: Callable[..., dict[str, Any]],
    content: bytes,
    *,
    limits: Limits | None = None,
    shared: np.ndarray | None = None,
    **values: Any,
) -> Answer:
    """Run one operation of the decoder while this thread's neighbour takes its parts."""
    parts: list[Received] = []
    with job_for(content, limits=limits, shared=shared) as (job, owner):

        def take() -> None:
            try:
                while True:
                    parts.append(receive(owner, max_array_bytes=64 * 1024**2, shared=shared))
            except EOFError:
                return

        taker = threading.Thread(target=take)
        taker.start()
        try:
            found = operation(job, **values)
        finally:
            job.connection.shutdown(socket.SHUT_WR)
            taker.join()
        warnings = list(job.warnings)
    return Answer(found, [part for part in parts if part.message["type"] == "part"], warnings)
