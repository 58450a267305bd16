"""Waiting for what happens elsewhere: in another thread, process or machine."""

from __future__ import annotations

import time
from collections.abc import Callable

MOST_SECONDS = 60.0
"""After which it is taken that it will never happen; a busy machine is slow, not wrong."""


def until(holds: Callable[[], object]) -> None:
    """Return as soon as ``holds`` gives something true; fail when it does not."""
    end = time.monotonic() + MOST_SECONDS
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
