from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfake.scan.journal import read_results
from deepfake.scan.tables import (
    COLUMNS,
    read_cell,
    read_text,
    write_cell,
    write_csv,
    write_parquet,
    write_text,
)
from tests.media_files import image_bytes, scene
from tests.scans import BAD_INTERVALS, PROPERTY, damaged_results, run_scan


@pytest.fixture
def results(tmp_path: Path, known_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a picture, its copies under names that hurt, and two files that are no media."""
    root = tmp_path / "media"
    root.mkdir()
    picture = image_bytes(scene(), "jpeg")
    for name in ("=cmd.jpg", "a.jpg", "new\nline.jpg", os.fsdecode(b"not-utf8-\xff.jpg")):
        (root / name).write_bytes(picture)
    (root / "broken.jpg").write_bytes(b"this is text")
    (root / "notes.txt").write_text("not media")
    monkeypatch.chdir(root)
    run_scan("=cmd.jpg", root, output=tmp_path / "r.jsonl", models=known_models)
    return tmp_path / "r.jsonl"


def test_csv_keeps_names_and_disarms_formulas(results: Path, tmp_path: Path) -> None:
    write_csv(results, tmp_path / "r.csv")
    raw = (tmp_path / "r.csv").read_bytes()
    assert not {*range(32)} - {10, 13} & {*raw}
    raw.decode()
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(raw.splitlines()) == 1 + len(rows)
    assert list(rows[0]) == list(COLUMNS)
    assert {row["verdict"] for row in rows} >= {"failed", "not_media"}
    assert rows[0]["path"] == "'=cmd.jpg"
    names = [Path(row["path"]).name for row in rows]
    assert {"new\\nline.jpg", "not-utf8-\\xff.jpg"} <= {*names}
    assert {row["duplicate_of"] for row in rows} == {"", "'=cmd.jpg"}
    paths = [read_cell(row["path"]) for row in rows]
    assert paths == [line["path"] for line in read_results(results)]
    assert all(Path(path).exists() for path in paths)


STRANGE = st.text(
    st.sampled_from("=+-@＝'\"\\ntrxu \t\n\r\0\x85\x9b\u202e,;\udc85\ud800é😀\U000e0041")
)


@PROPERTY
@given(STRANGE | st.text(st.characters()))
def test_any_text_is_plain_in_a_table_and_comes_back(text: str) -> None:
    cell = write_cell(text)
    assert cell.isprintable()
    cell.encode()
    assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    file = io.StringIO(newline="")
    csv.writer(file, quoting=csv.QUOTE_NONNUMERIC).writerow([cell, 0.5])
    assert [*csv.reader(io.StringIO(file.getvalue(), newline=""))] == [[cell, "0.5"]]
    assert read_cell(cell) == text
    assert read_text(write_text(text)) == text


@pytest.mark.parametrize("interval", BAD_INTERVALS)
def test_a_bad_interval_empties_its_cells_and_nothing_else(tmp_path: Path, interval: Any) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    results = damaged_results(tmp_path, interval=interval)
    write_csv(results, tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["a", "b", "c"]
    assert [row["low"] for row in rows] == ["0.5", "", ""]
    assert [row["high"] for row in rows] == ["0.88", "", ""]
    assert [row["probability"] for row in rows] == ["0.75", "0.75", ""]
    why = "missing" if interval is None else "damaged"
    assert [row["note"] for row in rows] == ["", f"interval: {why}", ""]
    write_parquet(results, tmp_path / "r.parquet")
    table = parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert [row["low"] for row in table] == [0.5, None, None]
    assert [row["note"] for row in table] == [None, f"interval: {why}", None]


def test_parquet_has_typed_columns_and_nulls(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("deepfake.scan.tables.ROW_GROUP", 3)
    write_parquet(results, tmp_path / "r.parquet")
    table = parquet.read_table(tmp_path / "r.parquet")
    assert table.column_names == list(COLUMNS)
    rows = table.to_pylist()
    assert len(rows) == 7
    by_name = {Path(row["path"]).name: row for row in rows}
    assert by_name["broken.jpg"]["verdict"] == "failed"
    assert by_name["broken.jpg"]["probability"] is None
    assert 0 < by_name["a.jpg"]["low"] <= by_name["a.jpg"]["probability"]
    assert by_name["a.jpg"]["duplicate_of"] == "=cmd.jpg"
    assert "not-utf8-\\xff.jpg" in by_name
    assert {read_text(row["path"]) for row in rows} == {
        line["path"] for line in read_results(results)
    }
