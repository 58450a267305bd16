"""The tables of docs/evaluation.md are those that the stored results give."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from deepfake_training.evaluation.result import EVALUATION_SCHEMA, read_result
from deepfake_training.evaluation.tables import write_markdown

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(
    r"<!-- deepfake evaluate (\S+) --markdown (\w+) -->\n(.*?)<!-- end -->", PAGE, flags=re.DOTALL
)


def test_every_stored_result_is_in_the_page() -> None:
    stored = {path.name for path in (ROOT / "docs" / "evaluation").glob("*.json")}
    assert stored == {Path(path).name for path, _, _ in BLOCKS}
    assert stored


@pytest.mark.parametrize(("path", "how", "text"), BLOCKS)
def test_a_table_is_made_of_its_result(path: str, how: str, text: str) -> None:
    jsonschema.validate(json.loads((ROOT / path).read_text()), EVALUATION_SCHEMA)
    result = read_result(ROOT / path)
    assert text.strip() == write_markdown(result, each_source=how == "full").strip()
    assert not result.outcomes
