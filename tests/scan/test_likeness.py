"""Near-duplicates among the results of a scan."""

from __future__ import annotations

from typing import Any

import pytest

from deepfake.scan import likeness
from deepfake.scan.likeness import group_alike
from tests.known.test_index import entry


def line(path: str, seed: int, **values: Any) -> dict[str, Any]:
    found = entry(seed).fingerprint
    assert found is not None
    return {"path": path, "fingerprint": found.to_dict(), **values}


def test_files_that_look_alike_are_grouped() -> None:
    lines = [line("a", 1), line("b", 2), line("c", 1), line("d", 3), line("e", 1), line("f", 3)]
    assert group_alike(lines) == {
        "a": ("a", 3),
        "c": ("a", 3),
        "e": ("a", 3),
        "d": ("d", 2),
        "f": ("d", 2),
    }


def test_lines_without_a_fingerprint_are_in_no_group() -> None:
    lines = [
        {"path": "error", "error": {"code": "corrupt", "message": "m"}},
        {"path": "older"},
        line("a", 1, fingerprint=None),
        line("b", 1, fingerprint=["odd"]),
        line("c", 1, fingerprint={"kind": "image", "pdq": ["odd"]}),
        line("d", 1, fingerprint={"kind": "odd", "pdq": []}),
        line("e", 1),
    ]
    assert group_alike(lines) == {}
    assert group_alike([]) == {}


def test_so_many_are_compared_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "MOST_GROUPED", 2)
    assert set(group_alike([line("a", 1), line("b", 1), line("c", 1)])) == {"a", "b"}
