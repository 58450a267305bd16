from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from deepfake.reasons import Code
from deepfake.show.console import list_faces, print_report
from deepfake.types import FaceFinding, Kind, Reason, Timeline, Weight
from tests.reports import face_evidence, make_evidence, make_report, video_evidence


def printed(*evidence: object, **media: object) -> str:
    output = io.StringIO()
    console = Console(file=output, width=200, highlight=False, markup=False, emoji=False)
    print_report(make_report(*evidence, **media), console)  # type: ignore[arg-type]
    return output.getvalue()


def test_faces_of_a_picture_are_listed_with_their_places() -> None:
    text = printed(face_evidence())
    assert "face 1, score 0.93, at 20,30 to 60,80\n" in text
    assert "face 2, not judged, at 140,50 to 160,76 [face_too_small]\n" in text


def test_people_of_a_video_have_a_line_each_and_a_moment() -> None:
    lines = [line.strip() for line in printed(*video_evidence(), kind=Kind.VIDEO).splitlines()]
    assert "face 1, score 0.97, at 20,30 to 60,80, seen best at 12.0 s" in lines
    bars = [line for line in lines if line.startswith(("face 1  ", "face 2  "))]
    assert [line.rpartition("highest ")[2] for line in bars] == ["0.95 at 12.0 s", "0.95 at 5.0 s"]


def test_the_moment_of_the_examination_is_told() -> None:
    assert "deepfake 0; 0.10 s\n" in printed()
    output = io.StringIO()
    dated = replace(make_report(), examined_at="2026-03-01T09:30:00Z")
    print_report(dated, Console(file=output, width=200, highlight=False))
    assert "deepfake 0; examined 2026-03-01T09:30:00Z in 0.10 s\n" in output.getvalue()


def test_a_crowd_is_cut_and_nothing_reaches_the_terminal() -> None:
    face = FaceFinding(name="\x1b[2Jface", box=(1, 2, 3, 4), score=0.5, reason="\x1b[31mred")
    evidence = make_evidence("face", faces=(face,) * 20)
    assert len(list_faces(evidence)) == 9
    assert list_faces(evidence)[-1] == "12 more in the JSON report"
    assert "\x1b" not in printed(evidence)


def test_reasons_reach_no_terminal() -> None:
    output = io.StringIO()
    reason = Reason(code=Code.CORRUPT, text="file a: \x1b[2Jgone\u202e")
    print_report(replace(make_report(), reasons=(reason,)), Console(file=output, width=200))
    assert "file a: [2Jgone [corrupt]\n" in output.getvalue()


def test_a_timeline_without_a_window_is_said() -> None:
    empty = Timeline(name="motion", seconds=(), scores=())
    assert "               –\n" in printed(make_evidence("video", timelines=(empty,)))


def test_the_weight_of_what_a_file_says_is_shown() -> None:
    for weight in (Weight.HINT, Weight.CLAIM, Weight.PROOF):
        line = f"{weight.value}: what metadata says"
        assert line in printed(make_evidence("metadata", score=None, weight=weight))
    assert "score: " not in printed(make_evidence("metadata"))
