"""A report as HTML. Everything that could come from a file is escaped here, and only here."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Sequence

from deepfake.content.timelines import clock
from deepfake.errors import DeepfakeError
from deepfake.reasons import find_code
from deepfake.show.exhibits import describe_face, marked_faces
from deepfake.text import printable
from deepfake.types import (
    Evidence,
    MediaInfo,
    OperatingPoints,
    Report,
    Segment,
    Status,
    Verdict,
    Weight,
)

from .charts import percent, score_bar, timeline_chart, timeline_rows
from .failures import word_error
from .figures import render_picture, render_tiles
from .pictures import Shown

MEANINGS = {
    Verdict.SYNTHETIC: "The evidence below says that a generative model made or altered this file.",
    Verdict.SUSPICIOUS: "Some evidence points to a generative model, but not firmly. "
    "Look for other evidence before you act.",
    Verdict.AUTHENTIC: "Nothing that was looked for was found. That does not prove that the file "
    "is genuine.",
    Verdict.INCONCLUSIVE: "The evidence is not enough to say. The reasons are below.",
}
SYMBOLS = {
    Verdict.SYNTHETIC: "◆",
    Verdict.SUSPICIOUS: "▲",
    Verdict.AUTHENTIC: "●",
    Verdict.INCONCLUSIVE: "?",
}
MOST_SEGMENTS = 20
MOST_FACES = 8
STATUS_WORDS = {Status.OK: "examined", Status.SKIPPED: "not judged", Status.FAILED: "failed"}
NONE_FOUND = "no_"
"""How the reason codes begin that say that there is nothing of its kind in the file."""


def render_invitation() -> str:
    """What stands in the place of a report before there is one."""
    return _article(
        "empty",
        "<p>The report will appear here: a verdict in words, the probability with its interval, "
        "and every piece of evidence behind it. Several files give a list of verdicts; each opens "
        "its report.</p>",
    )


def render_error(error: DeepfakeError) -> str:
    """A file that could not be examined: what is wrong, and the remedy of a visitor."""
    return _article(
        "error",
        '<div role="alert"><h2 tabindex="-1">This could not be examined</h2>'
        f"<p>{_sentence(word_error(error), most=600)}.</p>"
        f'<p class="df-dim">Code: <code>{_text(error.code)}</code></p></div>',
    )


def render_failure(number: str) -> str:
    """A fault of the page: the id of its entry in the log, and nothing else of it."""
    return _article(
        "error",
        '<div role="alert"><h2 tabindex="-1">Something went wrong here</h2>'
        "<p>The page made a mistake with this file; that is not your doing, and says nothing about "
        "the file. Nothing of it was kept. If it happens again, tell whoever runs this page the "
        f"number <strong>{_text(number)}</strong>, under which it stands in the log.</p></div>",
    )


def render_stopped() -> str:
    """What stands in the place of a report that its reader did not wait for."""
    return _article("empty", "<p>Stopped. Nothing was kept on the server.</p>")


def render_report(
    report: Report, *, shown: Shown | None = None, note: str = "", place: int = 0
) -> str:
    """The whole report. ``note`` is one more warning, about the page rather than the file;
    ``place`` tells several reports on one page apart.
    """
    shown = shown or Shown()
    warnings = [*report.warnings, *([note] if note else [])]
    return _article(
        report.verdict.value,
        _verdict(report)
        + _reasons(report)
        + (render_picture(shown.pictures, place) if shown.pictures else "")
        + render_tiles(shown.tiles)
        + _list("Warnings", (_text(warning, most=300) for warning in warnings), "df-warnings")
        + _evidence_section(report)
        + _file_facts(report)
        + _making(report),
    )


def _article(kind: str, inside: str) -> str:
    return f'<article class="df-report df-{kind}">{inside}</article>'


def _text(value: str, *, most: int = 200) -> str:
    return html.escape(printable(value, most=most), quote=True)


def _sentence(value: str, *, most: int = 400) -> str:
    line = printable(value, most=most)
    return html.escape(line[:1].upper() + line[1:], quote=True)


def _list(title: str, items: Iterable[str], style: str) -> str:
    rows = "".join(f"<li>{item}</li>" for item in items)
    return f'<section class="{style}"><h3>{title}</h3><ul>{rows}</ul></section>' if rows else ""


def _verdict(report: Report) -> str:
    verdict = report.verdict
    head = (
        f'<header class="df-verdict"><span class="df-symbol" aria-hidden="true">'
        f'{SYMBOLS[verdict]}</span><div><h2 tabindex="-1">'
        f"{verdict.label.capitalize()}</h2>"
        f"<p>{MEANINGS[verdict]}</p></div></header>"
    )
    if report.probability is None:
        return head + '<p class="df-probability">No probability could be estimated.</p>'
    low, high = report.interval or (report.probability, report.probability)
    points = _leading_points(report)
    shown = percent(report.probability)
    between = (
        "" if percent(low) == percent(high) else f", between {percent(low)} and {percent(high)}"
    )
    return (
        f'{head}<p class="df-probability">Probability that it is synthetic: '
        f"<strong>{shown}</strong>{between}</p>"
        + score_bar(
            report.probability,
            interval=report.interval,
            points=points,
            label="probability that it is synthetic",
        )
    )


def _leading_points(report: Report) -> OperatingPoints | None:
    """The limits of the evidence whose score the probability is; None where it was shifted."""
    for evidence in report.evidence:
        if evidence.points and evidence.score == report.probability:
            return evidence.points
    return None


def _reasons(report: Report) -> str:
    items = (f"{_sentence(reason.text)} {_why(reason.code)}" for reason in report.reasons)
    return _list("Why", items, "df-reasons")


def _why(code: str) -> str:
    """A reason code, which opens what it means and what to do where that is known."""
    known = find_code(code)
    if known is None:
        return f"<code>{_text(code)}</code>"
    return (
        f'<details class="df-why"><summary><code>{_text(code)}</code> <span>What does this mean?'
        f"</span></summary><p>{_sentence(known.meaning)}</p>"
        f"<p><strong>What to do:</strong> {_sentence(known.remedy)}</p></details>"
    )


def _evidence_section(report: Report) -> str:
    cards = "".join(_card(evidence) for evidence in report.evidence)
    return (
        f'<section class="df-evidence"><h3>Evidence</h3><ul class="df-cards">{cards}</ul></section>'
    )


def _card(evidence: Evidence) -> str:
    badge = f'<span class="df-badge df-{evidence.status.value}">{_word_status(evidence)}</span>'
    if evidence.weight is not Weight.SCORE:
        weight = evidence.weight.value
        tone = weight if evidence.declares_synthesis else "plain"
        badge += f'<span class="df-badge df-{tone}">{weight}</span>'
    score = ""
    if evidence.score is not None:
        score = f'<p class="df-score">Score {evidence.score:.2f}</p>' + score_bar(
            evidence.score,
            interval=evidence.interval,
            points=evidence.points,
            label=f"score of {printable(evidence.source)}",
        )
    reason = ""
    if evidence.reason:
        kind = "Caution" if evidence.status is Status.OK else "Reason"
        reason = f'<div class="df-dim">{kind}: {_why(evidence.reason)}</div>'
    charts = _charts(evidence) + _face_list(evidence)
    details = ""
    facts = {"bundle": evidence.bundle, "runtime": evidence.runtime} | dict(evidence.details)
    facts = {name: value for name, value in facts.items() if value is not None}
    if facts:
        values = html.escape(json.dumps(facts, indent=1)[:20000])
        details = f"<details><summary>Details</summary><pre>{values}</pre></details>"
    return (
        f'<li class="df-card df-card-{evidence.status.value}"><h4>{_text(evidence.source)} {badge}'
        f"</h4><p>{_sentence(evidence.claim)}</p>{reason}{score}{charts}{details}</li>"
    )


def _word_status(evidence: Evidence) -> str:
    """``no_face`` is a find of none, ``face_too_small`` is one that could not be judged."""
    none = evidence.status is Status.SKIPPED and (evidence.reason or "").startswith(NONE_FOUND)
    return "none found" if none else STATUS_WORDS[evidence.status]


def _charts(evidence: Evidence) -> str:
    """Scores over time: one chart, or one row for each of several timelines."""
    segments, points = evidence.segments, evidence.points
    if len(evidence.timelines) > 1:
        return timeline_rows(evidence.timelines, points=points) + _segment_list(segments, points)
    spans = [(segment.start, segment.end) for segment in segments]
    charts = "".join(
        timeline_chart(timeline, points=points, segments=spans) for timeline in evidence.timelines
    )
    return charts + _segment_list(segments, points)


def _face_list(evidence: Evidence) -> str:
    """The faces in words."""
    faces = list(marked_faces(evidence))
    items = [_sentence(describe_face(face)) for face in faces[:MOST_FACES]]
    if len(faces) > MOST_FACES:
        items.append(f"{len(faces) - MOST_FACES} more in the JSON report")
    rows = "".join(f"<li>{item}</li>" for item in items)
    return f'<ul class="df-faces">{rows}</ul>' if rows else ""


def _segment_list(segments: Sequence[Segment], points: OperatingPoints | None) -> str:
    if not segments:
        return ""
    limit = "" if points is None else f" (score {points.suspicious:.2f} or more)"
    rows = [
        f"<li>{clock(segment.start)} to {clock(segment.end)}, score {segment.score:.2f}</li>"
        for segment in segments[:MOST_SEGMENTS]
    ]
    if len(segments) > MOST_SEGMENTS:
        rows.append(f"<li>{len(segments) - MOST_SEGMENTS} more in the JSON report</li>")
    return (
        f'<div class="df-segments"><p>Segments that are suspicious by themselves{limit}:</p>'
        f"<ul>{''.join(rows)}</ul></div>"
    )


def _file_facts(report: Report) -> str:
    rows = "".join(
        f"<dt>{name}</dt><dd>{_text(value, most=300)}</dd>"
        for name, value in [("Name", report.path), *_facts(report.media)]
    )
    return f'<section class="df-facts"><h3>File</h3><dl>{rows}</dl></section>'


def _facts(media: MediaInfo) -> list[tuple[str, str]]:
    facts = [("Kind", f"{media.kind.value}, {media.format}"), ("Size", _bytes(media.bytes))]
    if media.width and media.height:
        facts.append(("Picture", f"{media.width} × {media.height} pixels"))
    if media.seconds is not None:
        facts.append(("Length", f"{media.seconds:.1f} s"))
    if media.frame_rate:
        facts.append(("Frame rate", f"{media.frame_rate:.4g} per second"))
    if media.sample_rate:
        facts.append(("Sample rate", f"{media.sample_rate} Hz"))
    facts.append(("SHA-256", media.sha256))
    return facts


def _bytes(count: int) -> str:
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1000:.0f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def _making(report: Report) -> str:
    """What the report rests on, how long each step took, and the report as a file."""
    versions = ", ".join(f"{slot} {name}" for slot, name in report.versions.items())
    steps = ", ".join(f"{step} {took:.2f} s" for step, took in report.seconds_by_step.items())
    when = f" on {_text(report.examined_at)}" if report.examined_at else ""
    content = base64.b64encode(json.dumps(report.to_dict(), indent=1).encode()).decode("ascii")
    return (
        '<footer class="df-making">'
        f'<a class="df-download" download="deepfake-report-{report.media.sha256[:12]}.json" '
        f'href="data:application/json;base64,{content}">Download the report (JSON)</a>'
        f'<p class="df-dim">Made with {_text(versions, most=400)}{when} '
        f"in {report.seconds:.1f} s "
        f"({_text(steps, most=400)}).</p></footer>"
    )
