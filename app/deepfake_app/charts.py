"""Scores as small charts in HTML and SVG, drawn from numbers alone.

The geometry is stretched to the width of the page and the labels are text beside it, so that they
stay legible on a telephone; colours come from ``page.css`` and follow the dark mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from deepfake.types import OperatingPoints, Timeline

MOST_POINTS = 240
MOST_ROWS = 24


def percent(value: float) -> str:
    """A share in 0…1 for people; never a certainty that no detector has."""
    if value > 0.99:
        return "> 99 %" if value < 1 else "100 %"
    if value < 0.01:
        return "< 1 %" if value > 0 else "0 %"
    return f"{100 * value:.0f} %"


def score_bar(
    score: float,
    *,
    interval: tuple[float, float] | None,
    points: OperatingPoints | None,
    label: str,
) -> str:
    """A bar from 0 to 1 with the score, its interval and the zones of the operating points."""
    low, high = interval or (score, score)
    said = f"{label} {score:.2f} on a scale from 0 to 1, interval {low:.2f} to {high:.2f}"
    parts = [_zone(0, 1, "none")] if points is None else _zones(points)
    width = max(0.6, 100 * (high - low))
    parts.append(
        f'<rect class="df-interval" x="{min(100 * low, 100 - width):.2f}" y="6" '
        f'width="{width:.2f}" height="8"/>'
    )
    parts.append(
        f'<line class="df-mark" x1="{100 * score:.2f}" x2="{100 * score:.2f}" y1="2" y2="18"/>'
    )
    limits = ""
    if points is not None:
        limits = _legend(points)
        said += f"; {_limits(points)}"
    return (
        f'<div class="df-bar"><svg viewBox="0 0 100 20" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(said)}">{"".join(parts)}</svg>'
        '<div class="df-scale" aria-hidden="true"><span>0</span><span>0.25</span>'
        f"<span>0.5</span><span>0.75</span><span>1</span></div>{limits}</div>"
    )


def timeline_chart(
    timeline: Timeline,
    *,
    points: OperatingPoints | None,
    segments: Sequence[tuple[float, float]] = (),
) -> str:
    """Scores over time, with the limits as zones and ``segments`` (start, end) as upright bands; at
    most 240 points, each the highest of its stretch. The line breaks where windows are missing.
    """
    if not timeline.seconds:
        return ""
    middle = timeline.window_seconds / 2
    shown = _thin([(s + middle, y) for s, y in zip(timeline.seconds, timeline.scores, strict=True)])
    last = timeline.seconds[-1] + timeline.window_seconds
    across = [(100 * second / last if last else 50.0, 40 * (1 - score)) for second, score in shown]
    lines = "".join(
        f'<polyline class="df-line" points="{" ".join(f"{x:.2f},{y:.2f}" for x, y in run)}"/>'
        for run in _unbroken(across, shown, timeline)
    )
    dots = "".join(
        f'<line class="df-dot" x1="{x:.2f}" x2="{x:.2f}" y1="{y:.2f}" y2="{y:.2f}">'
        f"<title>{second:.2f} s: {score:.2f}</title></line>"
        for (x, y), (second, score) in zip(across, shown, strict=True)
    )
    zones = "" if points is None else "".join(_levels(points))
    top = max(range(len(timeline.scores)), key=timeline.scores.__getitem__)
    count = len(timeline.seconds)
    what = f"{count} windows of {timeline.window_seconds:.2g} s"
    if not timeline.window_seconds:
        what = f"{count} frames"
    said = (
        f"{what}, scores from {min(timeline.scores):.2f} to "
        f"{max(timeline.scores):.2f}, highest at {timeline.seconds[top]:.1f} s"
    )
    name = escape(timeline.name)
    ticks = "".join(f"<span>{last * part / 4:.3g} s</span>" for part in range(5))
    return (
        f'<figure class="df-timeline"><div class="df-plot">'
        '<div class="df-levels" aria-hidden="true"><span>1</span><span>0.5</span><span>0</span>'
        '</div><svg viewBox="0 0 100 40" preserveAspectRatio="none" role="img" '
        f'aria-label="{name}: {escape(said)}">{zones}{_bands_of(segments, last)}'
        f'{lines}{dots}</svg></div><div class="df-scale df-times" aria-hidden="true">{ticks}</div>'
        f"<figcaption>Score over time: {escape(said)}</figcaption></figure>"
    )


def timeline_rows(timelines: Sequence[Timeline], *, points: OperatingPoints | None) -> str:
    """Several timelines under each other over one axis of time: a bar for each window in the colour
    of its zone, and the limit of suspicion as a line; at most 240 bars a row.
    """
    shown = [timeline for timeline in timelines if timeline.seconds][:MOST_ROWS]
    if not shown:
        return ""
    last = max(line.seconds[-1] + line.window_seconds for line in shown) or 1.0
    rows = "".join(_row(timeline, points=points, last=last) for timeline in shown)
    ticks = "".join(f"<span>{last * part / 4:.3g} s</span>" for part in range(5))
    limit = "" if points is None else f"; the line marks suspicious, from {points.suspicious:.2f}"
    return (
        f'<figure class="df-tracks">{rows}<div class="df-scale df-track-times" aria-hidden="true">'
        f"{ticks}</div><figcaption>Scores over time, 0 to 1{limit}</figcaption></figure>"
    )


def _row(timeline: Timeline, *, points: OperatingPoints | None, last: float) -> str:
    pairs = _thin(list(zip(timeline.seconds, timeline.scores, strict=True)))
    step = max(1, -(-len(timeline.seconds) // MOST_POINTS))
    width = max(0.5, 100 * step * timeline.window_seconds / last)
    bars = "".join(
        f'<rect class="df-bar-{_zone_of(score, points)}" x="{min(100 * second / last, 99.5):.2f}" '
        f'y="{40 * (1 - score):.2f}" width="{width:.2f}" height="{max(0.8, 40 * score):.2f}">'
        f"<title>{second:.2f} s: {score:.2f}</title></rect>"
        for second, score in pairs
    )
    limit = ""
    if points is not None:
        y = 40 * (1 - points.suspicious)
        limit = f'<line class="df-limit" x1="0" x2="100" y1="{y:.2f}" y2="{y:.2f}"/>'
    top = max(range(len(timeline.scores)), key=timeline.scores.__getitem__)
    highest = f"{timeline.scores[top]:.2f} at {timeline.seconds[top]:.1f} s"
    said = f"{timeline.name}: {len(timeline.scores)} scores, highest {highest}"
    return (
        f'<div class="df-track"><span class="df-track-name">{escape(timeline.name)}</span>'
        f'<svg viewBox="0 0 100 40" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(said)}">{bars}{limit}</svg>'
        f'<span class="df-track-top" aria-hidden="true">{highest}</span></div>'
    )


def _zone_of(score: float, points: OperatingPoints | None) -> str:
    if points is None:
        return "none"
    if score >= points.synthetic:
        return "synthetic"
    return "suspicious" if score >= points.suspicious else "clear"


def _unbroken(
    across: list[tuple[float, float]], shown: list[tuple[float, float]], timeline: Timeline
) -> list[list[tuple[float, float]]]:
    """The points of ``across`` in runs between which no window is missing from ``shown``."""
    step = max(1, -(-len(timeline.seconds) // MOST_POINTS))
    widest = (2 * step - 0.5) * timeline.window_seconds
    runs = [across[:1]]
    for ((before, _), (after, _)), place in zip(pairwise(shown), across[1:], strict=True):
        if widest and after - before > widest:
            runs.append([])
        runs[-1].append(place)
    return runs


def _bands_of(segments: Sequence[tuple[float, float]], last: float) -> str:
    inside = [(max(0.0, start), min(last, end)) for start, end in segments]
    return "".join(
        f'<rect class="df-segment" x="{100 * start / last:.2f}" y="0" '
        f'width="{100 * (end - start) / last:.2f}" height="40"/>'
        for start, end in inside
        if start < end
    )


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    step = max(1, -(-len(points) // MOST_POINTS))
    return [
        max(points[start : start + step], key=lambda point: point[1])
        for start in range(0, len(points), step)
    ]


def _bands(points: OperatingPoints) -> list[tuple[float, float, str]]:
    suspicious = max(points.authentic, points.suspicious)
    return [
        (0.0, points.authentic, "authentic"),
        (points.authentic, suspicious, "between"),
        (suspicious, points.synthetic, "suspicious"),
        (points.synthetic, 1.0, "synthetic"),
    ]


def _zones(points: OperatingPoints) -> list[str]:
    return [_zone(low, high, name) for low, high, name in _bands(points)]


def _zone(low: float, high: float, name: str) -> str:
    width = max(0.0, 100 * (high - low))
    return (
        f'<rect class="df-zone-{name}" x="{100 * low:.2f}" y="4" width="{width:.2f}" height="12"/>'
    )


def _levels(points: OperatingPoints) -> list[str]:
    return [
        f'<rect class="df-zone-{name}" x="0" y="{40 * (1 - high):.2f}" width="100" '
        f'height="{max(0.0, 40 * (high - low)):.2f}"/>'
        for low, high, name in _bands(points)
    ]


def _legend(points: OperatingPoints) -> str:
    words = {
        "authentic": f"no sign, below {points.authentic:.2f}",
        "between": "not enough either way",
        "suspicious": f"suspicious, from {points.suspicious:.2f}",
        "synthetic": f"synthetic, from {points.synthetic:.2f}",
    }
    items = "".join(
        f'<li><i class="df-key df-key-{name}"></i>{text}</li>' for name, text in words.items()
    )
    return f'<ul class="df-legend" aria-hidden="true">{items}</ul>'


def _limits(points: OperatingPoints) -> str:
    return (
        f"no sign of synthesis below {points.authentic:.2f}, suspicious from "
        f"{points.suspicious:.2f}, synthetic from {points.synthetic:.2f}"
    )
