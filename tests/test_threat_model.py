"""The threat model names tests that exist, flows that are drawn, and every kind of threat."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
DRAWING = TEXT.split("```text")[1].split("```")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TEXT.splitlines()
    if re.match(r"\| [STRIDE] \|", line)
]
TESTS = sorted({name for row in ROWS for name in re.findall(r"`([^`]+)`", row[5])})
ELEMENT = re.compile(r"\b[FPS]\d+\b")


@cache
def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", TESTS)
def test_every_test_that_is_named_exists(name: str) -> None:
    place, _, test = name.partition("::")
    assert test.startswith("test_")
    assert test in functions(ROOT / place)


def test_every_threat_has_a_control_and_a_test_and_every_letter_a_threat() -> None:
    assert {row[0].strip() for row in ROWS} == set("STRIDE")
    assert len(ROWS) >= 25
    for row in ROWS:
        assert len(row) == 6, row
        assert all(row), row
        assert "::" in row[5], row
        assert re.fullmatch(r"AML\.T\d{4}(\.\d{3})?", row[3]), row


def test_threats_are_at_places_of_the_drawing_and_none_of_it_is_left_out() -> None:
    drawn = set(ELEMENT.findall(DRAWING))
    named = {place for row in ROWS for place in ELEMENT.findall(row[1])}
    assert named <= drawn
    # within a boundary, or named by what they join
    safe = {"F2", "F7", "F10", "F12", "P3", "P4", "P5"}
    assert drawn - named <= safe
