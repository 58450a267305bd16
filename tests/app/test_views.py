from __future__ import annotations

import base64
import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest
from deepfake_app.charts import MOST_POINTS, percent, score_bar, timeline_chart
from deepfake_app.pictures import Pictures, Shown, Tile
from deepfake_app.views import render_error, render_failure, render_report

from deepfake.errors import Corrupt, TooLarge
from deepfake.types import (
    Declares,
    Evidence,
    FaceFinding,
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

HOSTILE = "<script>alert(1)</script> **bold** [x](javascript:1) \"'><img src=x onerror=alert(2)>"
POINTS = OperatingPoints(authentic=0.2, suspicious=0.6, synthetic=0.9)
VOID = {"img", "input"}


class Tree(HTMLParser):
    """Tags, attributes and text as a browser would see them, and whether the tags match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def make_report(**changes: object) -> Report:
    timeline = Timeline(name="audio", seconds=(0.0, 1.0), scores=(0.3, 0.95), window_seconds=2.0)
    evidence = Evidence(
        source="audio",
        status=Status.OK,
        claim="traces of synthesis in the sound",
        score=0.93,
        interval=(0.85, 0.97),
        points=POINTS,
        timelines=(timeline,),
        details={"windows": 2},
    )
    skipped = Evidence(
        source="provenance", status=Status.SKIPPED, reason="no_manifest", claim="no manifest"
    )
    report = Report(
        path="voice.wav",
        media=MediaInfo(
            kind=Kind.AUDIO, format="wav", sha256="ab" * 32, bytes=2_500_000, seconds=3.0
        ),
        verdict=Verdict.SYNTHETIC,
        probability=0.93,
        interval=(0.85, 0.97),
        reasons=(Reason(code="audio_synthetic", text="traces of synthesis in the sound"),),
        evidence=(evidence, skipped),
        warnings=("The end of the file is missing.",),
        versions={"deepfake": "0.1.0", "audio": "audio-1"},
        seconds_by_step={"open": 0.1, "audio": 0.4},
    )
    return dataclasses.replace(report, **changes)  # type: ignore[arg-type]


def test_a_report_says_everything_it_holds() -> None:
    tree = Tree(render_report(make_report()))
    for wanted in (
        *("Synthetic", "93 %", "between 85 % and 97 %", "audio_synthetic", "provenance"),
        *("none found", "no_manifest", "Score 0.93", "The end of the file is missing."),
        *("voice.wav", "2.5 MB", "3.0 s", "ab" * 32, "audio-1", "2 windows of 2 s"),
    ):
        assert wanted in tree.text
    labels = [value for name, value in tree.attributes if name == "aria-label"]
    assert any("0.93 on a scale from 0 to 1, interval 0.85 to 0.97" in str(it) for it in labels)


def test_the_moment_of_the_examination_is_told() -> None:
    assert "audio audio-1 in 0.5 s" in Tree(render_report(make_report())).text
    dated = Tree(render_report(make_report(examined_at="2026-03-01T09:30:00Z"))).text
    assert "audio audio-1 on 2026-03-01T09:30:00Z in 0.5 s" in dated
    assert "<b>" not in Tree(render_report(make_report(examined_at="<b>"))).tags


def test_authentic_claims_no_more_than_was_looked_for() -> None:
    text = Tree(render_report(make_report(verdict=Verdict.AUTHENTIC))).text
    assert "No sign of synthesis found" in text
    assert "authentic" not in text.lower().replace("audio_synthetic", "")
    assert "does not prove that the file is genuine" in text


def test_no_probability_is_not_drawn_as_zero() -> None:
    report = make_report(verdict=Verdict.INCONCLUSIVE, probability=None, interval=None, evidence=())
    tree = Tree(render_report(report))
    assert "No probability could be estimated" in tree.text
    assert "svg" not in tree.tags


def test_limits_are_not_drawn_over_a_shifted_probability() -> None:
    shifted = render_report(make_report(probability=0.5, interval=(0.4, 0.6)))
    assert shifted.count("df-legend") == render_report(make_report()).count("df-legend") - 1


def test_everything_from_a_file_is_escaped() -> None:
    evidence = Evidence(
        source=HOSTILE,
        status=Status.FAILED,
        claim=HOSTILE,
        reason=HOSTILE,
        score=0.5,
        timelines=(Timeline(name=HOSTILE, seconds=(0.0,), scores=(0.5,)),),
        details={HOSTILE: HOSTILE},
    )
    hostile = make_report(
        path=HOSTILE,
        media=MediaInfo(kind=Kind.IMAGE, format=HOSTILE, sha256="ab" * 32, bytes=1),
        reasons=(Reason(code=HOSTILE, text=HOSTILE),),
        evidence=(evidence,),
        warnings=(HOSTILE,),
        versions={HOSTILE: HOSTILE},
        seconds_by_step={HOSTILE: 1.0},
    )
    for page in (
        render_report(hostile, note=HOSTILE),
        render_error(Corrupt(HOSTILE, code=HOSTILE, hint=HOSTILE)),
    ):
        tree = Tree(page)
        assert not {"script", "img", "b", "strong img", "a href"} & set(tree.tags)
        assert not [name for name, _ in tree.attributes if name.startswith("on")]
        assert tree.text.count("**bold**") >= 2  # text stays text, and Markdown stays unread


def test_control_and_direction_characters_are_dropped() -> None:
    text = Tree(render_report(make_report(path="a\u202egpj.exe\x1b[31m\n.jpg"))).text
    assert "agpj.exe[31m .jpg" in text


def test_the_report_can_be_saved_as_it_is() -> None:
    report = make_report()
    page = render_report(report)
    found = re.search(r'download="([^"]+)" href="data:application/json;base64,([^"]+)"', page)
    assert found
    assert found[1] == "deepfake-report-abababababab.json"
    assert Report.from_dict(json.loads(base64.b64decode(found[2]))) == report


def test_pictures_have_texts_for_those_who_cannot_see_them() -> None:
    pictures = Pictures("data:image/jpeg;base64,AA", "data:image/jpeg;base64,BB", "The frame")
    tree = Tree(render_report(make_report(), shown=Shown(pictures)))
    texts = [value for name, value in tree.attributes if name == "alt"]
    assert texts == ["The frame as it is", "The frame with its heat map"]
    assert "the darker the colour, the higher the score" in tree.text
    assert "framed" not in tree.text
    both = Tree(
        render_report(
            make_report(), shown=Shown(pictures._replace(over="heat map and the faces")), place=3
        )
    )
    assert "Show the heat map and the faces over it" in both.text
    assert "Faces are framed" in both.text
    for name, number in ((tree, 0), (both, 3)):
        assert ("for", f"df-heat-{number}") in name.attributes
        assert ("id", f"df-heat-{number}") in name.attributes


def test_the_colours_of_a_heat_map_are_explained() -> None:
    pictures = Pictures("data:,a", "data:,b", "The picture", limit=0.75)
    tree = Tree(render_report(make_report(), shown=Shown(pictures)))
    assert "nothing below 0.75" in tree.text
    gradients = [value for name, value in tree.attributes if name == "style"]
    assert len(gradients) == 1
    assert str(gradients[0]).count("rgb(") == 6
    below = Tree(render_report(make_report(), shown=Shown(pictures._replace(limit=None))))
    assert "No part of it reaches" in below.text
    assert "style" not in dict(below.attributes)


def test_frames_of_a_video_are_shown_with_what_is_said_of_them() -> None:
    tiles = (Tile("data:image/jpeg;base64,AA", f"0:01.0 · {HOSTILE}"),)
    tree = Tree(render_report(make_report(), shown=Shown(tiles=tiles)))
    assert tree.tags.count("img") == 1
    assert ("download", "frame-1.jpg") in tree.attributes
    assert "script" not in tree.tags


def test_a_reason_opens_what_it_means_and_what_to_do() -> None:
    reason = Reason(code="between_limits", text="the score lies between")
    tree = Tree(render_report(make_report(reasons=(reason,), evidence=())))
    assert tree.tags.count("summary") == 1
    assert "genuine and synthetic files both occur" in tree.text
    assert "What to do: Look for other evidence" in tree.text
    other = Reason(code="x_y", text="text")
    unknown = Tree(render_report(make_report(reasons=(other,), evidence=())))
    assert "summary" not in unknown.tags
    assert "x_y" in unknown.text


@pytest.mark.parametrize(
    ("reason", "words"),
    [("no_face", "none found"), ("no_manifest", "none found"), ("face_too_small", "not judged")],
)
def test_nothing_found_is_told_from_what_could_not_be_judged(reason: str, words: str) -> None:
    evidence = Evidence(source="face", status=Status.SKIPPED, reason=reason, claim="claim")
    text = Tree(render_report(make_report(evidence=(evidence,)))).text
    assert words in text
    assert "not applicable" not in text


def test_an_error_tells_a_visitor_nothing_that_only_the_owner_can_do() -> None:
    error = TooLarge("file a: this picture has 200 megapixels", hint="shrink it, or raise Limits.x")
    assert "200 megapixels; shrink it." in Tree(render_error(error)).text
    alone = TooLarge("file a: too long", hint="or raise Limits.seconds")
    assert "Limits" not in render_error(alone)


def test_a_failure_says_its_number_and_nothing_else() -> None:
    tree = Tree(render_failure("0a1b2c3d"))
    assert "0a1b2c3d" in tree.text
    assert "not your doing" in tree.text


def face_report(**face: object) -> Report:
    values = {"name": "face 1", "box": (20, 30, 60, 80), "score": 0.93, "second": 3.0} | face
    timelines = tuple(
        Timeline(name=name, seconds=(0.0, 2.0, 4.0), scores=(0.1, score, 0.7), window_seconds=1.0)
        for name, score in (("face 1", 0.95), ("face 2", 0.5))
    )
    evidence = Evidence(
        source="face",
        status=Status.OK,
        claim="traces in face 1",
        score=0.93,
        points=POINTS,
        timelines=timelines,
        tracks=(Track(**values),),  # type: ignore[arg-type]
    )
    return make_report(evidence=(evidence,))


def test_people_have_a_row_each_and_are_listed() -> None:
    page = render_report(face_report())
    tree = Tree(page)
    assert page.count('<div class="df-track">') == 2
    assert "df-timeline" not in page
    assert page.count("df-bar-synthetic") == 1
    assert page.count("df-bar-suspicious") == 2
    assert page.count("df-bar-clear") == 3
    assert 'class="df-bar-synthetic" x="40.00" y="2.00" width="20.00" height="38.00"' in page
    assert page.count('class="df-limit"') == 2
    assert "0.95 at 2.0 s" in tree.text
    assert "Face 1, score 0.93, at 20,30 to 60,80, seen best at 3.0 s" in tree.text


def test_what_is_said_of_a_face_stays_text() -> None:
    finding = FaceFinding(name=HOSTILE, box=(1, 2, 3, 4), reason=HOSTILE)
    evidence = dataclasses.replace(face_report(name=HOSTILE).evidence[0], faces=(finding,))
    page = render_report(make_report(evidence=(evidence,)))
    assert page.count("&lt;script&gt;") == 3
    assert not {"script", "img", "b"} & set(Tree(page).tags)
    assert "<script" not in page


def test_an_error_is_announced_with_its_remedy() -> None:
    page = render_error(Corrupt("file x: no frames", code="corrupt", hint="give another one"))
    assert 'role="alert"' in page
    assert "File x: no frames; give another one" in Tree(page).text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 %"), (0.002, "< 1 %"), (0.336, "34 %"), (0.9991, "> 99 %"), (1.0, "100 %")],
)
def test_percent_leaves_room_for_doubt(value: float, text: str) -> None:
    assert percent(value) == text


def test_the_bar_puts_score_interval_and_zones_where_they_belong() -> None:
    bar = score_bar(0.93, interval=(0.85, 0.97), points=POINTS, label="score")
    assert 'class="df-mark" x1="93.00"' in bar
    assert 'class="df-interval" x="85.00" y="6" width="12.00"' in bar
    assert 'class="df-zone-suspicious" x="60.00" y="4" width="30.00"' in bar
    certain = score_bar(1.0, interval=(1.0, 1.0), points=None, label="score")
    assert 'class="df-interval" x="99.40" y="6" width="0.60"' in certain
    assert "df-legend" not in certain


def test_a_long_timeline_is_thinned_and_keeps_its_peak() -> None:
    scores = [0.1] * 5000
    scores[3333] = 0.99
    chart = timeline_chart(
        Timeline(name="frames", seconds=tuple(range(5000)), scores=tuple(scores)), points=None
    )
    assert chart.count("df-dot") <= MOST_POINTS
    assert "3333.00 s: 0.99" in chart
    assert "highest at 3333.0 s" in Tree(chart).text


def test_a_timeline_of_one_or_no_frame_can_be_drawn() -> None:
    assert timeline_chart(Timeline(name="frames", seconds=(), scores=()), points=POINTS) == ""
    one = timeline_chart(Timeline(name="frames", seconds=(0.0,), scores=(0.4,)), points=POINTS)
    assert "1 frames" in Tree(one).text


def with_segments(*segments: Segment) -> str:
    timeline = Timeline(
        name="audio",
        seconds=(0.0, 1.0, 2.0, 6.0, 7.0),
        scores=(0.1, 0.8, 0.9, 0.1, 0.1),
        window_seconds=1.0,
    )
    evidence = Evidence(
        source="audio",
        status=Status.OK,
        claim="traces",
        score=0.93,
        points=POINTS,
        timelines=(timeline,),
        segments=segments,
    )
    return render_report(make_report(evidence=(evidence,)))


def test_segments_of_a_sound_are_shown_and_said() -> None:
    page = with_segments(Segment(1.2, 3.2, 0.91))
    assert 'class="df-segment" x="15.00" y="0" width="25.00"' in page
    text = Tree(page).text
    assert "suspicious by themselves (score 0.60 or more)" in text
    assert "0:01 to 0:03, score 0.91" in text
    assert page.count('class="df-line"') == 2  # a pause from 0:03 to 0:06 is no line
    many = [Segment(float(n), n + 1.0, 0.7) for n in range(50)]
    assert "30 more in the JSON report" in Tree(with_segments(*many)).text
    assert "df-segment" not in with_segments()


def test_a_segment_beyond_the_chart_stays_inside() -> None:
    page = with_segments(Segment(-5, 900, 0.9))
    assert 'class="df-segment" x="0.00" y="0" width="100.00"' in page


@pytest.mark.parametrize(
    ("weight", "declares", "badge"),
    [
        (Weight.PROOF, "generated", '<span class="df-badge df-proof">proof</span>'),
        (Weight.PROOF, "capture", '<span class="df-badge df-plain">proof</span>'),
        (Weight.CLAIM, "edited", '<span class="df-badge df-claim">claim</span>'),
        (Weight.HINT, None, '<span class="df-badge df-hint">hint</span>'),
    ],
)
def test_a_badge_tells_proof_from_claim(weight: Weight, declares: str | None, badge: str) -> None:
    said = Evidence(
        source="metadata",
        status=Status.OK,
        claim="says so",
        weight=weight,
        declares=declares and Declares(declares),
    )
    page = render_report(make_report(evidence=(said,)))
    assert badge in page
    assert page.count("df-badge") == 2
