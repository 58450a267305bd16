"""Out-of-fold logits: what calibration, evaluation and the model card are made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from .files import read_lines, write_lines


@dataclass(frozen=True)
class FileLogits:
    """The window logits of one file in one view, from a model that never saw its source.

    ``label`` is 1 for synthetic. ``group`` names the sources that were held out together, ``fold``
    the model that scored it, ``view`` the channel (``clean`` or one of the degradations). A
    ``heard`` source is one that the model was trained on, though never on this file: the genuine
    side of a leave-one-system-out comparison. ``pixels`` is the width of a face, 0 for others.
    """

    path: str
    label: int
    source: str
    group: str
    fold: int
    view: str
    logits: tuple[float, ...]
    heard: bool = False
    pixels: float = 0.0


@dataclass(frozen=True)
class LongLogits:
    """The window logits of a long recording; ``insert`` is where the synthetic part begins, or -1.

    ``hop_seconds`` and ``window_seconds`` tell where the windows lie.
    """

    fold: int
    corpus: str
    system: str
    insert: float
    hop_seconds: float
    window_seconds: float
    logits: tuple[float, ...]


def write_records(path: Path, records: Iterable[FileLogits | LongLogits]) -> None:
    """JSON lines, replaced in one step so that a crash leaves the old file whole."""
    write_lines(path, map(asdict, records))


def read_records(path: Path) -> list[FileLogits]:
    """Raises ``OSError`` where there is no file."""
    return [FileLogits(**{**row, "logits": tuple(row["logits"])}) for row in read_lines(path)]


def read_long(path: Path) -> list[LongLogits]:
    """Raises ``OSError`` where there is no file."""
    return [LongLogits(**{**row, "logits": tuple(row["logits"])}) for row in read_lines(path)]


def unheard(records: Iterable[FileLogits]) -> list[FileLogits]:
    """The records of sources that the model was not trained on."""
    return [record for record in records if not record.heard]


def round_logits(logits: Iterable[float]) -> tuple[float, ...]:
    """Logits as records keep them, with five decimals."""
    return tuple(round(float(logit), 5) for logit in logits)
