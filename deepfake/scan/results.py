"""One line of a results file: what makes it whole, and what of it goes into tables and pages."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..reasons import Code
from ..types import SCHEMA, Kind, Verdict
from .executors import Line

STARTS = (f'{{"schema": "{SCHEMA}"'.encode(), b'{"path": ')
"""How the lines of a scan begin, those of reports and those of errors."""
_VERDICTS = frozenset(verdict.value for verdict in Verdict)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What reports show of one line. A value that cannot be right is None and has a note.

    ``verdict`` is one of ``failed``, ``not_media`` and the verdicts; ``interval`` two numbers in
    0…1, the lower one first; ``reason`` a code, ``text`` its sentence.
    """

    path: str
    verdict: str
    kind: str | None
    probability: float | None
    interval: tuple[float, float] | None
    reason: str | None
    text: str | None
    error: str | None
    sha256: str | None
    duplicate_of: str | None
    width: int | None
    height: int | None
    seconds: float | None
    examined_at: str | None
    note: str | None


def parse_line(raw: bytes) -> Line:
    """The line that bytes hold, with or without its end.

    Raises ``ValueError``, with what is wrong, for anything but a whole line of a scan: its path,
    its key in the journal, and a report with what a scan goes on from, or an error.
    """
    try:
        line = json.loads(raw)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    if not isinstance(line, dict) or not isinstance(line.get("path"), str):
        raise ValueError("has no path")
    entry = line.get("journal")
    if not isinstance(entry, dict) or not isinstance(entry.get("key"), str):
        raise ValueError("has no key")
    if not entry["key"].startswith(line["path"] + "|"):
        raise ValueError("has the key of another file")  # parts of two lines
    if not isinstance(entry.get("file_seconds"), float | int | None):
        raise ValueError("has a wrong time limit")
    if not (_is_error(line["error"]) if "error" in line else _is_usable(line)):
        raise ValueError("has neither a report nor an error")
    return line


def is_torn(raw: bytes) -> bool:
    """Whether bytes can be the beginning of a line of a scan, and no more than that."""
    if not raw.startswith(STARTS):
        return False
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return True
    return False


def may_begin(raw: bytes) -> bool:
    """Whether bytes are the first few of a line of a scan, too few to tell whose they are."""
    return any(start.startswith(raw) for start in STARTS)


def is_listed(line: Line) -> bool:
    """Whether a line only says that a place can be listed again, and is not about a file."""
    return line.get("listed") is True


def outcome(line: Line) -> str:
    """``failed``, ``not_media`` or the verdict of a line."""
    if "error" in line:
        return Code.NOT_MEDIA.value if line["error"]["code"] == Code.NOT_MEDIA else "failed"
    return str(line["verdict"])


def read_row(line: Line) -> Row:
    """What reports show of a line that :func:`parse_line` gave; never raises for its values."""
    cells = _Cells()
    media, reasons = line.get("media"), line.get("reasons")
    media = media if isinstance(media, dict) else {}
    first = reasons[0] if isinstance(reasons, list) and reasons else reasons or {}
    first = first if isinstance(first, dict) else {"code": first, "text": first}
    probability = cells.take("probability", line.get("probability"), _share)
    interval = cells.take("interval", line.get("interval"), _interval)
    if probability is not None and line.get("interval") is None:
        cells.notes.append("interval: missing")
    return Row(
        path=line["path"],
        verdict=outcome(line),
        kind=cells.take("kind", line.get("kind"), _kind),
        probability=probability,
        interval=interval,
        reason=cells.take("reason", first.get("code"), _text),
        text=cells.take("text", first.get("text"), _text),
        error=line["error"]["message"] if "error" in line else None,
        sha256=cells.take("sha256", line.get("sha256"), _text),
        duplicate_of=cells.take("duplicate_of", line.get("duplicate_of"), _text),
        width=cells.take("width", media.get("width"), _whole),
        height=cells.take("height", media.get("height"), _whole),
        seconds=cells.take("seconds", media.get("seconds"), _number),
        examined_at=cells.take("examined_at", line.get("examined_at"), _text),
        note="; ".join(cells.notes) or None,
    )


class _Cells:
    """Takes values that have the right form, and notes the names of others."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def take(self, name: str, value: Any, read: Callable[[Any], Any]) -> Any:
        taken = None if value is None else read(value)
        if taken is None and value is not None:
            self.notes.append(f"{name}: damaged")
        return taken


def _is_error(error: Any) -> bool:
    return isinstance(error, dict) and all(
        isinstance(error.get(key), str) for key in ("code", "message")
    )


def _is_usable(line: Line) -> bool:
    """Whether a report has what a scan that goes on from it needs."""
    if is_listed(line):
        return True
    media, sha256 = line.get("media"), line.get("sha256")
    return (
        _text(line.get("verdict")) in _VERDICTS
        and isinstance(sha256, str)
        and bool(_SHA256.fullmatch(sha256))
        and isinstance(media, dict)
        and isinstance(media.get("format"), str)
        and _whole(media.get("bytes")) is not None
        and isinstance(line.get("warnings"), list)
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _kind(value: Any) -> str | None:
    return value if isinstance(value, str) and value in {*Kind} else None


def _whole(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _number(value: Any) -> float | None:
    if type(value) not in (int, float) or not 0 <= value < 1e300 or not math.isfinite(value):
        return None
    return float(value)


def _share(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and number <= 1 else None


def _interval(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    low, high = map(_share, value)
    return (low, high) if low is not None and high is not None and low <= high else None
