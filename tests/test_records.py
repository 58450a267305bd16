"""What is read of stored evidence whose values are missing or odd."""

from __future__ import annotations

import math
from typing import Any

import pytest

from deepfake.records import box, number, pair, read_evidence, share, to_json
from deepfake.types import Evidence, Report, Track
from tests.reports import face_evidence, make_report, video_evidence

LEAST = {"source": "face", "status": "ok", "claim": "says"}
ODD: tuple[Any, ...] = (None, "text", 3, True, [None, 3], {"a": 1}, math.nan, 10**400, [[]])
FACE = {"name": "face 1", "box": [1, 2, 3, 4], "score": 0.5}


def test_evidence_needs_no_more_than_its_source_status_and_claim() -> None:
    evidence = Evidence.from_dict(LEAST)
    assert (evidence.score, evidence.faces, evidence.details) == (None, (), {})
    for key in LEAST:
        with pytest.raises(ValueError, match=r"without source, status or claim"):
            Evidence.from_dict({name: value for name, value in LEAST.items() if name != key})
    for changed in ({"status": "done"}, {"weight": "heavy"}, {"weight": None}):
        with pytest.raises(ValueError, match="is not a valid"):
            Evidence.from_dict(LEAST | changed)


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_odd_values_are_left_out(odd: Any) -> None:
    written = video_evidence()[2].to_dict()
    for key in written.keys() - {"source", "status", "claim", "weight"}:
        known = Evidence.from_dict(written | {key: odd})
        assert known.source == "face"
        assert Evidence.from_dict(known.to_dict()).tracks == known.tracks


@pytest.mark.parametrize(
    "faces",
    [
        "face",
        [None, 3],
        [{"name": "face 1"}],
        [FACE | {"box": [1, 2, 3]}],
        [FACE | {"box": [1, 2, 3, math.nan]}],
        [FACE | {"box": [1, 2, "3", 4]}],
        [FACE | {"name": 4}],
    ],
)
def test_what_is_no_face_is_left_out_and_stays_in_the_details(faces: object) -> None:
    older = LEAST | {"details": {"faces": faces, "tracks": faces, "segments": faces}}
    evidence = Evidence.from_dict(older)
    assert (evidence.faces, evidence.tracks, evidence.segments) == ((), (), ())
    assert evidence.details == older["details"]
    assert Evidence.from_dict(evidence.to_dict()) == evidence


def test_a_list_keeps_what_can_be_read() -> None:
    found = Evidence.from_dict(LEAST | {"faces": [3, FACE, {}], "tracks": [FACE | {"start": "x"}]})
    assert [face.name for face in found.faces] == ["face 1"]
    assert found.tracks == (Track(name="face 1", box=(1, 2, 3, 4), score=0.5),)


@pytest.mark.parametrize(
    "values",
    [
        {"name": "m", "values": []},
        {"name": "m", "values": [[]]},
        {"name": "m", "values": [[0.5], [0.5, 0.5]]},
        {"name": "m", "values": [[0.5, None]]},
        {"name": "m", "values": [[2.0]]},
        {"values": [[0.5]]},
    ],
)
def test_a_heat_map_is_a_grid_of_scores_or_none(values: dict[str, Any]) -> None:
    assert read_evidence(LEAST | {"heatmaps": [values]})["heatmaps"] == ()


@pytest.mark.parametrize(
    "changed", [{"seconds": [0.0]}, {"scores": [0.5, 1.5]}, {"scores": [0.5, "x"]}, {"name": None}]
)
def test_a_timeline_has_a_score_for_every_second_or_is_none(changed: dict[str, Any]) -> None:
    line = {"name": "audio", "seconds": [0.0, 1.0], "scores": [0.5, 0.25], "window_seconds": 1.0}
    assert len(read_evidence(LEAST | {"timelines": [line]})["timelines"]) == 1
    assert read_evidence(LEAST | {"timelines": [line | changed]})["timelines"] == ()


def test_numbers_are_finite_and_shares_are_shares() -> None:
    assert [number(value) for value in (3, 0.5, True, "3", math.inf, 10**400)] == [
        *(3.0, 0.5, None, None),
        *(None, None),
    ]
    assert [share(value) for value in (0, 1, 1.1, -0.1)] == [0.0, 1.0, None, None]
    assert (pair([0.2, 0.4]), pair([0.4, 0.2]), pair([0.4])) == ((0.2, 0.4), None, None)
    assert (box([1, 2, 3, 4]), box([1, 2, 3])) == ((1.0, 2.0, 3.0, 4.0), None)


def test_numbers_are_rounded_by_what_they_are() -> None:
    third = 1 / 3
    assert to_json({"values": ((third,),), "box": (third,), "seconds": (third,), "x": third}) == {
        "values": [[0.333]],
        "box": [0.3],
        "seconds": [0.333],
        "x": 0.333333,
    }
    assert to_json({"second": third}) == {"second": third}


def test_a_report_without_what_it_is_of_is_none() -> None:
    values = make_report(face_evidence()).to_dict()
    for key in ("path", "media", "verdict"):
        with pytest.raises(ValueError, match=r"path|media|Verdict"):
            Report.from_dict({name: value for name, value in values.items() if name != key})
    with pytest.raises(ValueError, match="no sha256, bytes"):
        Report.from_dict(values | {"media": {"kind": "image", "format": "png", "bytes": -1}})


def test_everything_else_of_a_report_may_be_missing_or_odd() -> None:
    values = make_report(face_evidence()).to_dict()
    needed = {key: values[key] for key in ("schema", "path", "media", "verdict")}
    report = Report.from_dict(needed)
    assert (report.probability, report.evidence, report.seconds) == (None, (), 0)
    for key in values.keys() - needed.keys():
        for odd in ODD:
            found = Report.from_dict(values | {key: odd})
            assert Report.from_dict(found.to_dict()).verdict is report.verdict


def test_damaged_evidence_is_told() -> None:
    values = make_report(face_evidence(), *video_evidence()).to_dict()
    values["evidence"][1] = {"source": "video"}
    values["evidence"].append("text")
    report = Report.from_dict(values)
    assert [item.source for item in report.evidence] == ["face", "frames", "face", "audio"]
    assert report.warnings == (
        "Evidence 2 of the stored report is damaged and left out.",
        "Evidence 6 of the stored report is damaged and left out.",
    )


def test_what_a_later_release_adds_is_passed_over() -> None:
    values = make_report(face_evidence()).to_dict()
    expected = Report.from_dict(values)
    values["media"]["colour"] = "sRGB"
    values["evidence"][0]["faces"][0]["age"] = 40
    values["reasons"][0]["weight"] = 1
    assert Report.from_dict(values) == expected
