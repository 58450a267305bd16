"""How far the examination of one file is, and a way to end it early."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import Cancelled, TimeLimit

Progress = Callable[[float, str], None]
"""Called with the share of the file that is done, in 0…1 and never falling, and what comes next."""


class Watch:
    """Passed on with the media: reports progress, and ends an examination early.

    Raises ``Cancelled`` once ``cancel`` is set, and ``TimeLimit`` after ``deadline``, a moment of
    ``time.monotonic()``. Used from the one thread that examines the file; ``cancel`` may be set
    from any other.
    """

    def __init__(
        self,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
        *,
        deadline: float | None = None,
    ) -> None:
        self._progress, self._cancel, self.deadline = progress, cancel, deadline
        self._start, self._end, self._reached = 0.0, 1.0, 0.0

    def check(self) -> None:
        """Raise ``Cancelled`` or ``TimeLimit`` when the examination is no longer wanted."""
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled("examination: stopped before its end", hint="start it again")
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TimeLimit("examination: reached its time limit", hint="allow it more time")

    def step(self, text: str, share: float) -> None:
        """Say that ``share`` (0…1) of the present part is done, and in ``text`` what comes next.

        Raises as :meth:`check`.
        """
        self.check()
        here = self._start + min(max(share, 0.0), 1.0) * (self._end - self._start)
        self._reached = max(self._reached, here)
        if self._progress is not None:
            self._progress(self._reached, text)

    @contextmanager
    def part(self, start: float, end: float) -> Iterator[None]:
        """Within it, steps count from ``start`` to ``end`` of what is the present part outside."""
        before = self._start, self._end
        low, length = self._start, self._end - self._start
        self._start, self._end = low + start * length, low + end * length
        try:
            yield
        finally:
            self._start, self._end = before


def deadline_after(seconds: float | None) -> float | None:
    """The moment of ``time.monotonic()`` that is ``seconds`` from now; None for no limit."""
    return None if seconds is None else time.monotonic() + seconds


@contextmanager
def ctrl_c() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one interrupts as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
