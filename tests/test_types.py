from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest

import deepfake
from deepfake.schema import REPORT_SCHEMA
from deepfake.types import (
    Declares,
    Evidence,
    FaceFinding,
    Heatmap,
    Kind,
    MediaInfo,
    OperatingPoints,
    Reason,
    Report,
    Segment,
    Status,
    Timeline,
    Track,
    Verdict,
    Weight,
)


def make_report() -> Report:
    return Report(
        path="a\nb \udcff.mp4",
        media=MediaInfo(
            kind=Kind.VIDEO, format="mp4", sha256="0" * 64, bytes=10, width=4, height=2, seconds=1.5
        ),
        verdict=Verdict.SUSPICIOUS,
        probability=0.75,
        interval=(0.5, 0.875),
        reasons=(Reason(code="image_suspicious", text="because"),),
        evidence=(
            Evidence(
                source="video",
                status=Status.OK,
                claim="a claim",
                score=0.75,
                interval=(0.5, 0.875),
                points=OperatingPoints(authentic=0.1, suspicious=0.5, synthetic=0.9),
                timelines=(Timeline(name="frames", seconds=(0.0, 1.0), scores=(0.5, 0.25)),),
                heatmaps=(
                    Heatmap(name="image", values=((0.0, 1.0),), second=1.0),
                    Heatmap(name="face 1", values=((0.5,),), box=(1.5, 0.0, 4.0, 2.0)),
                ),
                bundle="video-1",
                runtime="onnxruntime cpu fp32",
                segments=(Segment(0.5, 1.25, 0.75),),
                details={"frames": 2},
            ),
            Evidence(
                source="face",
                status=Status.OK,
                claim="faces",
                score=0.123456,
                box=(1.0, 0.5, 3.0, 2.0),
                faces=(
                    FaceFinding(name="face 1", box=(1.5, 0.0, 4.0, 2.0), score=0.123456),
                    FaceFinding(name="face 2", box=(0.0, 0.0, 1.0, 1.0), reason="face_blurred"),
                ),
                tracks=(
                    Track(
                        name="face 1",
                        box=(1.5, 0.0, 4.0, 2.0),
                        score=0.123456,
                        start=0.0,
                        end=1.333,
                        second=1 / 3,
                    ),
                ),
            ),
            Evidence(source="audio", status=Status.SKIPPED, claim="none", reason="no_sound"),
            Evidence(
                source="metadata",
                status=Status.OK,
                claim="says so",
                weight=Weight.CLAIM,
                declares=Declares.GENERATED,
            ),
        ),
        warnings=("cut short",),
        versions={"deepfake": "0.1.0", "image": "image-1"},
        seconds_by_step={"open": 0.25, "video": 0.5},
        examined_at="2026-03-01T09:30:00Z",
    )


def test_report_survives_json() -> None:
    report = make_report()
    again = Report.from_dict(json.loads(json.dumps(report.to_dict())))
    assert again == report
    assert again.examined_at == "2026-03-01T09:30:00Z"


def test_reports_of_two_days_are_equal_when_they_say_the_same() -> None:
    later = replace(make_report(), examined_at="2026-03-02T09:30:00Z")
    assert later == make_report()
    assert replace(later, probability=0.5) != make_report()


def test_reports_from_before_the_time_was_kept_are_read() -> None:
    values = make_report().to_dict()
    del values["examined_at"]
    jsonschema.validate(values, REPORT_SCHEMA)
    report = Report.from_dict(values)
    assert (report, report.examined_at) == (make_report(), None)
    jsonschema.validate(report.to_dict(), REPORT_SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values | {"examined_at": "yesterday"}, REPORT_SCHEMA)


def test_report_keeps_to_its_schema() -> None:
    values = json.loads(json.dumps(make_report().to_dict()))
    jsonschema.Draft202012Validator.check_schema(REPORT_SCHEMA)
    jsonschema.validate(values, REPORT_SCHEMA)
    assert values["seconds"] == 0.75
    values["verdict"] = "fake"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, REPORT_SCHEMA)


def test_heat_maps_of_older_reports_span_the_picture() -> None:
    values = make_report().to_dict()
    for heatmap in values["evidence"][0]["heatmaps"]:
        del heatmap["box"]
    heatmaps = Report.from_dict(values).evidence[0].heatmaps
    assert [heatmap.box for heatmap in heatmaps] == [None, None]


@pytest.mark.parametrize(
    ("source", "conclusive", "details", "weight"),
    [
        ("watermark", True, {}, Weight.CLAIM),
        ("provenance", True, {"state": "trusted"}, Weight.PROOF),
        ("provenance", True, {"state": "valid"}, Weight.CLAIM),
        ("metadata", True, {"strength": "proof", "declares": "generated"}, Weight.CLAIM),
        ("metadata", False, {"strength": "hint"}, Weight.HINT),
        ("image", False, {}, Weight.SCORE),
    ],
)
def test_older_reports_are_read_as_what_they_are_worth(
    source: str, conclusive: bool, details: dict[str, str], weight: Weight
) -> None:
    values = make_report().to_dict() | {"verdict": "synthetic", "probability": 0.999}
    old = values["evidence"][0]
    del old["weight"]
    old |= {"source": source, "conclusive": conclusive, "details": details, "score": 0.999}
    report = Report.from_dict(values)
    assert report.evidence[0].weight is weight
    assert (report.verdict, report.probability) == (Verdict.SYNTHETIC, 0.999), "as it was given"
    again = report.to_dict()["evidence"][0]
    assert again["conclusive"] is (weight is Weight.PROOF)


def test_older_readers_find_what_they_know_in_the_details() -> None:
    video, face, *_ = make_report().to_dict()["evidence"]
    assert video["details"] == {
        "bundle": "video-1",
        "runtime": "onnxruntime cpu fp32",
        "segments": [{"start": 0.5, "end": 1.25, "score": 0.75}],
        "frames": 2,
    }
    assert face["details"] == {
        "panel": [1.0, 0.5, 2.0, 1.5],
        "faces": [
            {"name": "face 1", "box": [1.5, 0.0, 4.0, 2.0], "score": 0.1235, "reason": None},
            {"name": "face 2", "box": [0, 0, 1, 1], "score": None, "reason": "face_blurred"},
        ],
        "tracks": [
            {
                **{"name": "face 1", "box": [1.5, 0.0, 4.0, 2.0], "score": 0.1235},
                **{"start": 0.0, "end": 1.33, "second": 0.333},
            }
        ],
    }


def test_what_older_releases_had_in_the_details_is_read_from_there() -> None:
    values = make_report().to_dict()
    for item in values["evidence"]:
        for key in ("declares", "bundle", "runtime", "box", "faces", "tracks", "segments"):
            del item[key]
    values["evidence"][3]["details"] = {"declares": "generated"}
    jsonschema.validate(values, REPORT_SCHEMA)
    video, face, _, claim = Report.from_dict(values).evidence
    assert video == make_report().evidence[0]
    expected = make_report().evidence[1]
    assert (face.box, face.faces[1]) == (expected.box, expected.faces[1])
    assert (face.faces[0].score, face.tracks[0].score) == (0.1235, 0.1235)
    assert face.details == {}
    assert (claim.declares, claim.declares_synthesis) == (Declares.GENERATED, True)
    again = Report.from_dict(values).to_dict()
    assert again["evidence"][1]["details"] == values["evidence"][1]["details"]


def test_another_schema_is_refused() -> None:
    values = make_report().to_dict() | {"schema": "deepfake-report/99"}
    with pytest.raises(ValueError, match="deepfake-report/99"):
        Report.from_dict(values)


def test_authentic_is_worded_with_care() -> None:
    assert Verdict.AUTHENTIC.label == "no sign of synthesis found"
    assert "suspicious" in make_report().summary()


def test_public_names_are_pinned() -> None:
    assert sorted(deepfake.__all__) == [
        "DeepfakeError",
        "DetectOptions",
        "Detector",
        "Evidence",
        "Kind",
        "Limits",
        "Report",
        "Settings",
        "Verdict",
        "__version__",
        "detect",
        "open_media",
    ]
    assert all(hasattr(deepfake, name) for name in deepfake.__all__)
