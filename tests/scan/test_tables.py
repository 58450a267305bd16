from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from deepfake.scan.tables import COLUMNS, write_csv, write_parquet
from tests.media_files import image_bytes, scene
from tests.scans import run_scan


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
    with (tmp_path / "r.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert {row["verdict"] for row in rows} >= {"failed", "not_media"}
    names = [row["path"] for row in rows]
    assert names[0] == "'=cmd.jpg"
    assert any(name.endswith("/new\nline.jpg") for name in names)
    assert any(b"\xff" in os.fsencode(name) for name in names)
    assert {row["duplicate_of"] for row in rows} == {"", "'=cmd.jpg"}


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
