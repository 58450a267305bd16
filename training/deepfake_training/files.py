"""Files of a run, which are whole or not there: arrays, networks' states and lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to, which takes its place in one step once the block has
    ended well; a crash leaves the old file whole.
    """
    partial = path.with_name(f"{path.name}.partial")
    yield partial
    partial.replace(path)


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
