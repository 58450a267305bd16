"""The results of a scan as tables: CSV and Parquet (extra ``parquet``).

Text is written the same way in both, so that a table is plain UTF-8 whatever the files are called:
a byte of a name that is not UTF-8 as ``\\xff``, a tab, line feed or carriage return as ``\\t``,
``\\n`` or ``\\r``, any other character that is not printable as ``\\u202e`` or ``\\U000e0041``, and
the backslash itself doubled. In CSV alone a cell that a spreadsheet would take for a formula gets
an apostrophe before it, and so does one that begins with an apostrophe (CWE-1236; OWASP, "CSV
Injection"). :func:`read_text` and :func:`read_cell` give the text back exactly.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import MissingDependency
from .executors import Line
from .journal import read_results
from .likeness import group_alike
from .results import read_row

COLUMNS = (
    *("path", "kind", "verdict", "probability", "low", "high", "reason", "error", "sha256"),
    *("duplicate_of", "note", "alike"),
)
NUMBERS = ("probability", "low", "high")
ROW_GROUP = 10_000

_FORMULA = tuple("=+-@＝＋－＠")
_SHORT = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_LONG = {short: character for character, short in _SHORT.items()}
_ESCAPE = re.compile(r"\\(?:[\\tnr]|x[89a-f][0-9a-f]|u[0-9a-f]{4}|U[0-9a-f]{8})")


def write_csv(results: Path, output: Path) -> None:
    """One row for each file of a results file, in UTF-8; all text is in quotes."""
    with output.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        rows.writerow(COLUMNS)
        for row in read_rows(results):
            rows.writerow(write_cell(row[column]) for column in COLUMNS)


def write_parquet(results: Path, output: Path) -> None:
    """The same rows with typed columns, empty cells as nulls, in row groups of 10,000.

    Raises ``MissingDependency`` without the extra ``parquet``.
    """
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependency("pyarrow", extra="parquet") from error
    types = {name: arrow.float64() if name in NUMBERS else arrow.string() for name in COLUMNS}
    schema = arrow.schema(list(types.items()))
    with parquet.ParquetWriter(output, schema) as writer:
        for rows in _batched(read_rows(results)):
            columns = {name: [write_text(row[name]) for row in rows] for name in COLUMNS}
            writer.write_table(arrow.table(columns, schema=schema))


def read_rows(results: Path) -> Iterator[dict[str, Any]]:
    """The cells of each file of a results file, None where there is nothing to say.

    A value that cannot be right leaves its cell empty, and ``note`` names it. ``alike`` is the path
    of the first of those that look or sound like it.
    """
    alike = group_alike(read_results(results))
    for line in read_results(results):
        first, _ = alike.get(line["path"], (None, 0))
        yield _row(line) | {"alike": first}


def write_cell(value: Any) -> Any:
    """A value as a cell of a CSV file."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    text: str = write_text(value)
    return "'" + text if text.lstrip(" ").startswith((*_FORMULA, "'")) else text


def read_cell(cell: str) -> str:
    """The text that :func:`write_cell` wrote as a cell."""
    return read_text(cell[1:] if cell.startswith("'") else cell)


def write_text(value: Any) -> Any:
    """Text with escapes for all that is not printable; other values as they are."""
    if not isinstance(value, str) or (value.isprintable() and "\\" not in value):
        return value
    return "".join(map(_escape, value))


def read_text(text: str) -> str:
    """The text that :func:`write_text` wrote."""
    return _ESCAPE.sub(_unescape, text)


def _escape(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, see PEP 383
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _unescape(escape: re.Match[str]) -> str:
    text = escape[0]
    if text in _LONG:
        return _LONG[text]
    code = int(text[2:], 16)
    return chr(code + 0xDC00 if text[1] == "x" else code)


def _row(line: Line) -> dict[str, Any]:
    row = read_row(line)
    low, high = row.interval or (None, None)
    return {
        "path": row.path,
        "kind": row.kind,
        "verdict": row.verdict,
        "probability": row.probability,
        "low": low,
        "high": high,
        "reason": row.reason,
        "error": row.error,
        "sha256": row.sha256,
        "duplicate_of": row.duplicate_of,
        "note": row.note,
    }


def _batched(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while rows_of_group := list(islice(rows, ROW_GROUP)):
        yield rows_of_group
