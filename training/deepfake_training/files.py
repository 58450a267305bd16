"""Files of a run, which are whole or not there: arrays, networks' states, lines of JSON, and the
wall time of its steps.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepfake.files import replaced


def write_arrays(path: Path, **arrays: Any) -> None:
    """Named arrays as ``.npz``."""
    with replaced(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def write_array(path: Path, values: npt.NDArray[Any]) -> None:
    """One array as ``.npy``."""
    with replaced(path) as partial, partial.open("wb") as file:
        np.save(file, values, allow_pickle=False)


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """JSON values, one a line."""
    with replaced(path) as partial, partial.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)


def read_lines(path: Path) -> list[Any]:
    """What :func:`write_lines` wrote; raises ``OSError`` where there is nothing."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@contextmanager
def timed(name: str, output: Path) -> Iterator[None]:
    """Add the wall time of a step to those of ``seconds.json`` in ``output``."""
    started = time.monotonic()
    try:
        yield
    finally:
        times = read_times(output)
        times[name] = times.get(name, 0.0) + time.monotonic() - started
        with replaced(output / "seconds.json") as partial:
            partial.write_text(json.dumps(times, indent=2) + "\n", encoding="utf-8")


def read_times(output: Path) -> dict[str, float]:
    """Seconds by step, as :func:`timed` wrote them."""
    path = output / "seconds.json"
    times: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return times
