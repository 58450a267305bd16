"""Reports that earlier releases stored keep their verdict, their faces and their pictures."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from deepfake_app.views import render_report
from rich.console import Console

from deepfake.scan.gallery import write_html
from deepfake.scan.tables import write_csv, write_parquet
from deepfake.schema import REPORT_SCHEMA
from deepfake.show.console import print_report
from deepfake.show.exhibits import choose_moments, heat_limits, marked_faces
from deepfake.types import Declares, Report, Status, Verdict, Weight

GOLDEN = Path(__file__).parent / "golden"
FORMS = ("first", "weighed", "typed")
STORED = sorted(GOLDEN.glob("*/*.json"))
NEEDED = {"schema", "path", "media", "verdict", "source", "status", "claim"}


def name_of(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def load(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def read(form: str, name: str) -> Report:
    return Report.from_dict(load(GOLDEN / form / f"{name}.json"))


def shown(report: Report) -> str:
    """The report at a terminal and on the page."""
    output = io.StringIO()
    print_report(report, Console(file=output, width=400, highlight=False))
    return output.getvalue() + render_report(report)


def test_every_form_is_there() -> None:
    assert {path.parent.name for path in STORED} == {*FORMS}
    assert len(STORED) == 5 * len(FORMS)


@pytest.mark.parametrize("path", STORED, ids=name_of)
def test_a_stored_report_is_read_as_it_was_given(path: Path) -> None:
    values = load(path)
    jsonschema.validate(values, REPORT_SCHEMA)
    report = Report.from_dict(values)
    assert (report.verdict, report.probability) == (values["verdict"], values["probability"])
    assert [(item.source, item.score) for item in report.evidence] == [
        (item["source"], item["score"]) for item in values["evidence"]
    ]
    again = report.to_dict()
    jsonschema.validate(again, REPORT_SCHEMA)
    assert Report.from_dict(json.loads(json.dumps(again))) == report
    for old, new in zip(values["evidence"], again["evidence"], strict=True):
        for key in old.keys() - {"conclusive"}:
            assert new[key] == old[key], f"{key} of {old['source']}"


@pytest.mark.parametrize("path", STORED, ids=name_of)
def test_a_stored_report_is_shown_whole(path: Path) -> None:
    report = Report.from_dict(load(path))
    text = shown(report)
    assert report.verdict.label in text
    for item in report.evidence:
        assert item.claim[:60] in text
        assert {heatmap.name for heatmap in item.heatmaps} <= {*heat_limits(report)}
        for face in marked_faces(item):
            assert text.count(f"ace {face.name[-1]}, score {face.score:.2f}, at") >= 2
    seen = [s for item in report.evidence for t in item.timelines for s in t.seconds]
    moments = choose_moments(report, most=6)
    assert {*moments} <= {*seen}
    assert bool(moments) == (path.stem == "video")


@pytest.mark.parametrize("form", FORMS)
def test_faces_of_every_form_are_found(form: str) -> None:
    face = next(item for item in read(form, "picture").evidence if item.source == "face")
    assert [one.box for one in face.faces] == [(16, 16, 80, 80), (112, 16, 176, 80)]
    assert face.bundle == "face-1"
    assert str(face.runtime).startswith("onnxruntime")
    assert len(face.heatmaps) == 2
    assert not {"faces", "bundle", "runtime"} & face.details.keys()


@pytest.mark.parametrize("form", FORMS)
def test_people_and_stretches_of_every_form_are_found(form: str) -> None:
    report = read(form, "video")
    face = next(item for item in report.evidence if item.source == "face")
    assert [track.name for track in face.tracks] == [f"face {number}" for number in (1, 2, 3, 4)]
    third = face.tracks[2]
    assert (third.start, third.end, third.second, third.score) == (
        *(2.0, 4.0, 2.0),
        pytest.approx(0.9347, abs=1e-4),
    )
    (segment,) = face.segments
    assert (segment.start, segment.end) == pytest.approx((2.0, 4.0), abs=0.5)
    assert len(face.timelines) == 4
    assert "4 more" not in shown(report)
    (audio,) = (item for item in read(form, "sound").evidence if item.source == "audio")
    assert [(round(one.start), round(one.end)) for one in audio.segments] == [(9, 12)]


@pytest.mark.parametrize("form", FORMS)
def test_claims_and_failures_of_every_form_are_found(form: str) -> None:
    report = read(form, "failed")
    claim = next(item for item in report.evidence if item.source == "metadata")
    assert (claim.weight, claim.declares) == (Weight.CLAIM, Declares.GENERATED)
    failed = [item.reason for item in report.evidence if item.status is Status.FAILED]
    assert failed == ["no_bundle"]
    assert (report.verdict is Verdict.SYNTHETIC) == (form == "first"), "as it was given"
    screen = next(item for item in read(form, "screen").evidence if item.source == "image")
    assert screen.box
    assert screen.heatmaps[0].box == screen.box
    assert "panel" not in screen.details


def changed(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The report without each of its keys, and with something odd at each."""
    places: list[tuple[str | int, ...]] = [()]
    places += [("evidence", place) for place in range(len(values["evidence"]))]
    places += [("evidence", place, "details") for place in range(len(values["evidence"]))]
    for place in places:
        inside: Any = values
        for step in place:
            inside = inside[step]
        for key in inside.keys() - NEEDED:
            for odd in (None, [1, {"name": "x"}]):
                copied = copy.deepcopy(values)
                there: Any = copied
                for step in place:
                    there = there[step]
                if odd is None:
                    del there[key]
                else:
                    there[key] = odd
                yield copied


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["failed", "video"])
def test_a_report_with_a_missing_or_odd_value_is_still_shown(form: str, name: str) -> None:
    values = load(GOLDEN / form / f"{name}.json")
    for item in values["evidence"]:
        item["heatmaps"] = item["heatmaps"][:1]
    whole = Report.from_dict(values)
    for number, damaged in enumerate(changed(values)):
        report = Report.from_dict(damaged)
        assert report.verdict is whole.verdict
        assert heat_limits(report).keys() <= heat_limits(whole).keys()
        choose_moments(report, most=6)
        if number % 5 == 0:  # all of them would take long and tell little
            assert report.verdict.label in shown(report)


@pytest.mark.parametrize("form", FORMS)
def test_a_stored_scan_is_shown_in_tables_and_gallery(form: str, tmp_path: Path) -> None:
    results = GOLDEN / form / "results.jsonl"
    write_csv(results, tmp_path / "r.csv")
    write_parquet(results, tmp_path / "r.parquet")
    write_html(results, tmp_path / "r.html")
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert len(rows) == page.count("<tr data-verdict=") == 6
    for path, row in rows.items():
        assert path in page
        assert row["note"] == ""
    assert rows["media/broken.jpg"]["verdict"] == "failed"
    assert rows["media/notes.txt"]["verdict"] == "not_media"
    assert float(rows["media/sound.wav"]["probability"]) > 0.9
    for line in results.read_text(encoding="utf-8").splitlines():
        if "schema" in json.loads(line):
            assert Report.from_dict(json.loads(line)).path in rows
