"""Files that are replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepfake.files import replaced


def test_a_file_is_replaced_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("before", encoding="utf-8")
    with replaced(path) as partial:
        partial.write_text("after", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "before"
    assert path.read_text(encoding="utf-8") == "after"
    with pytest.raises(UnicodeEncodeError), replaced(path) as partial:
        partial.write_text("half \ud800", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "after"
    assert [one.name for one in tmp_path.iterdir()] == ["list.json"]
