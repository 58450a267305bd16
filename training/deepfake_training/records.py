"""Out-of-fold logits: what calibration, evaluation and the model card are made from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


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


def write_records(path: Path, records: Iterable[FileLogits]) -> None:
    """JSON lines, replaced in one step so that a crash leaves the old file whole."""
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as lines:
        for record in records:
            lines.write(json.dumps(asdict(record)) + "\n")
    partial.replace(path)


def read_records(path: Path) -> list[FileLogits]:
    with path.open(encoding="utf-8") as lines:
        values = [json.loads(line) for line in lines]
    return [FileLogits(**{**value, "logits": tuple(value["logits"])}) for value in values]


def unheard(records: Iterable[FileLogits]) -> list[FileLogits]:
    """The records of sources that the model was not trained on."""
    return [record for record in records if not record.heard]
