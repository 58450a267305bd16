"""The wall time of a run's steps, so that a resumed run knows the whole."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def timed(name: str, output: Path) -> Iterator[None]:
    """Add the wall time of a step to ``seconds.json`` in ``output``."""
    started = time.monotonic()
    try:
        yield
    finally:
        times = read_times(output)
        times[name] = times.get(name, 0.0) + time.monotonic() - started
        (output / "seconds.json").write_text(json.dumps(times, indent=2) + "\n", encoding="utf-8")


def read_times(output: Path) -> dict[str, float]:
    """Seconds by step, as :func:`timed` wrote them."""
    path = output / "seconds.json"
    times: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return times
