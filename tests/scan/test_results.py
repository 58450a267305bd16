from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfake.scan.results import parse_line, read_row
from tests.reports import make_report
from tests.scans import PROPERTY

LINE = make_report().to_dict() | {"journal": {"key": "a.file|1|1", "versions": {}, "options": {}}}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def test_a_row_holds_what_the_line_says() -> None:
    row = read_row(parse_line(json.dumps(LINE).encode()))
    assert (row.path, row.verdict, row.kind) == ("a.file", "suspicious", "image")
    assert (row.probability, row.interval) == (0.75, (0.5, 0.88))
    assert (row.reason, row.text, row.error) == ("face_suspicious", "because", None)
    assert row.note is None


@PROPERTY
@given(st.dictionaries(st.sampled_from([*LINE, "duplicate_of", "error", "listed"]), anything))
def test_any_values_are_refused_or_shown(values: dict[str, Any]) -> None:
    raw = json.dumps(LINE | values).encode()
    try:
        line = parse_line(raw)
    except ValueError:
        return
    row = read_row(line)
    assert row.probability is None or 0 <= row.probability <= 1
    assert row.interval is None or 0 <= row.interval[0] <= row.interval[1] <= 1


@PROPERTY
@given(
    st.sampled_from(["probability", "interval", "kind", "reasons", "duplicate_of", "seconds"]),
    anything,
)
def test_what_only_reports_show_never_makes_a_line_unusable(name: str, value: Any) -> None:
    row = read_row(parse_line(json.dumps(LINE | {name: value}).encode()))
    assert row.path == "a.file"
    assert row.verdict == "suspicious"


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({"probability": float("nan")}, "probability: damaged"),
        ({"probability": "0.5"}, "probability: damaged"),
        ({"kind": "<b>"}, "kind: damaged"),
        ({"reasons": [{"code": 1, "text": "x"}]}, "reason: damaged"),
        ({"reasons": "many"}, None),
        ({"duplicate_of": ["a"]}, "duplicate_of: damaged"),
        ({"interval": [1], "kind": 2}, "interval: damaged; kind: damaged"),
    ],
)
def test_what_cannot_be_right_is_noted(values: dict[str, Any], note: str | None) -> None:
    assert read_row(parse_line(json.dumps(LINE | values).encode())).note == note
