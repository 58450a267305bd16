"""Examinations in work, and the way to end those of one visitor."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stops:
    """The events that cancel what each session has in work; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: dict[str, set[threading.Event]] = {}

    @contextmanager
    def working(self, session: str) -> Iterator[threading.Event]:
        """An event that is set when the session stops what it has in work."""
        event = threading.Event()
        with self._lock:
            self._events.setdefault(session, set()).add(event)
        try:
            yield event
        finally:
            with self._lock:
                self._events[session].discard(event)
                if not self._events[session]:
                    del self._events[session]

    def stop(self, session: str) -> None:
        """End everything that the session has in work."""
        with self._lock:
            for event in self._events.get(session, ()):
                event.set()

    def stop_all(self) -> None:
        """End everything that anybody has in work."""
        with self._lock:
            for events in self._events.values():
                for event in events:
                    event.set()
