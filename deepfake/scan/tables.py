"""The results of a scan as tables: CSV and Parquet (extra ``parquet``)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import MissingDependency
from .executors import Line
from .journal import outcome, read_results

COLUMNS = (
    *("path", "kind", "verdict", "probability", "low", "high", "reason", "error", "sha256"),
    "duplicate_of",
)
NUMBERS = ("probability", "low", "high")
ROW_GROUP = 10_000


def write_csv(results: Path, output: Path) -> None:
    """One row for each file of a results file; file names keep their bytes.

    A leading ``=``, ``+``, ``-`` or ``@`` gets an apostrophe, so that a spreadsheet does not run a
    file name as a formula.
    """
    with output.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for row in read_rows(results):
            rows.writerow(_inert(row[column]) for column in COLUMNS)


def write_parquet(results: Path, output: Path) -> None:
    """The same rows with typed columns, empty cells as nulls, in row groups of 10,000.

    A byte of a file name that is not UTF-8 is written as ``\\\\xff``. Raises ``MissingDependency``
    without the extra ``parquet``.
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
            columns = {name: [_unicode(row[name]) for row in rows] for name in COLUMNS}
            writer.write_table(arrow.table(columns, schema=schema))


def read_rows(results: Path) -> Iterator[dict[str, Any]]:
    """The cells of each file of a results file, None where there is nothing to say."""
    for line in read_results(results):
        yield _row(line)


def _row(line: Line) -> dict[str, Any]:
    low, high = line.get("interval") or (None, None)
    return {
        "path": line["path"],
        "kind": line.get("kind"),
        "verdict": outcome(line),
        "probability": line.get("probability"),
        "low": low,
        "high": high,
        "reason": line["reasons"][0]["code"] if line.get("reasons") else None,
        "error": line.get("error", {}).get("message"),
        "sha256": line.get("sha256"),
        "duplicate_of": line.get("duplicate_of"),
    }


def _inert(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + cell
    return "" if cell is None else cell


def _unicode(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    return cell.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _batched(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while rows_of_group := list(islice(rows, ROW_GROUP)):
        yield rows_of_group
