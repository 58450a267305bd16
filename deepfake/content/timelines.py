"""From the scores of overlapping windows of a sound to a score per second and to segments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..types import Heatmap, Segment, Timeline

MAX_PAUSE_SECONDS = 2.0
"""Longest pause without speech that a segment runs across."""
MOST_NAMED = 3
_WHOLE_SHARE = 0.8
_LARGEST_SHIFT_SECONDS = 1.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class WindowScores:
    """Calibrated scores of windows of ``length`` seconds that start at ``seconds``, in order."""

    seconds: tuple[float, ...]
    scores: tuple[float, ...]
    length: float

    @property
    def middles(self) -> Floats:
        return np.array(self.seconds) + self.length / 2

    @property
    def odds(self) -> Floats:
        """Log-odds: what windows are averaged in."""
        scores = np.array(self.scores)
        return np.asarray(np.log(scores / (1 - scores)), np.float64)


def score_seconds(windows: WindowScores, *, spoken: Sequence[bool], name: str) -> Timeline:
    """A timeline of whole seconds of the sound: those that are ``spoken`` and under a window.

    The log-odds of a second are the mean of those of the windows over it, by how much of it they
    cover. Windows that cover no second marked as spoken give every second that they cover.
    """
    total, weight = np.zeros(len(spoken)), np.zeros(len(spoken))
    starts = np.array(windows.seconds)
    for offset in range(math.ceil(windows.length) + 1):
        second = np.floor(starts).astype(int) + offset
        covered = np.minimum(starts + windows.length, second + 1) - np.maximum(starts, second)
        inside = (covered > 1e-6) & (second < len(spoken))
        np.add.at(total, second[inside], (covered * windows.odds)[inside])
        np.add.at(weight, second[inside], covered[inside])
    present = np.flatnonzero((weight > 0) & np.array(spoken, np.bool_))
    if not len(present):
        present = np.flatnonzero(weight)
    return Timeline(
        name=name,
        seconds=tuple(float(second) for second in present),
        scores=tuple(_squash(odds) for odds in total[present] / weight[present]),
        window_seconds=1.0,
    )


def find_segments(
    timeline: Timeline, windows: WindowScores, *, limit: float, seconds: float
) -> list[Segment]:
    """Stretches of adjacent seconds whose score reaches ``limit``, across short pauses, in a sound
    of ``seconds``.

    Each edge is moved, by a second at most, to where the log-odds of the windows, placed at their
    middles, come halfway from the level outside to that inside: a window over an edge holds half.
    """
    segments: list[Segment] = []
    for run in _runs(timeline, limit):
        scores = np.array([timeline.scores[index] for index in run])
        first, last = timeline.seconds[run[0]], timeline.seconds[run[-1]] + 1.0
        inward = min(_LARGEST_SHIFT_SECONDS, (last - first) / 2 - 0.25)
        start = first + _shift(first, windows.middles, windows.odds, windows.length, inward)
        middles, odds = -windows.middles[::-1], windows.odds[::-1]
        end = last - _shift(-last, middles, odds, windows.length, inward)
        if segments and start < segments[-1].end:
            start = (start + segments[-1].end) / 2
            segments[-1] = replace(segments[-1], end=start)
        score = _squash(float(np.log(scores / (1 - scores)).mean()))
        segments.append(Segment(max(0.0, start), min(seconds, end), score))
    return segments


def name_segments(segments: Sequence[Segment], timeline: Timeline) -> str:
    """Where in words, as "from 0:23 to 0:26"; empty when the segments are nearly all that is said.

    Of many segments, the three with the highest scores are named.
    """
    inside = sum(
        any(s.start <= second + 0.5 < s.end for s in segments) for second in timeline.seconds
    )
    if not segments or inside > _WHOLE_SHARE * len(timeline.seconds):
        return ""
    named = sorted(segments, key=lambda segment: -segment.score)[:MOST_NAMED]
    named.sort(key=lambda segment: segment.start)
    spans = [f"from {clock(segment.start)} to {clock(segment.end)}" for segment in named]
    if len(segments) > len(named):
        return f"in {len(segments)} places, above all {', '.join(spans)}"
    return " and ".join(spans)


def clock(seconds: float) -> str:
    """``1:05`` for 65 seconds, ``1:00:05`` for an hour more."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _runs(timeline: Timeline, limit: float) -> list[list[int]]:
    """Indexes of adjacent seconds that reach the limit."""
    hot = [index for index, score in enumerate(timeline.scores) if score >= limit]
    runs = [hot[:1]] if hot else []
    for before, after in pairwise(hot):
        pause = timeline.seconds[after] - timeline.seconds[before] - 1.0
        if after == before + 1 and pause <= MAX_PAUSE_SECONDS:
            runs[-1].append(after)
        else:
            runs.append([after])
    return runs


def _shift(edge: float, middles: Floats, odds: Floats, length: float, inward: float) -> float:
    """How far from ``edge`` the log-odds rise through half of their step, ``inward`` at most."""
    near = np.abs(middles - edge) <= length
    place, level = middles[near], odds[near]
    before, after = level[place <= edge], level[place > edge]
    if not len(before) or not len(after) or after.max() <= before.min():
        return 0.0
    half = (before.min() + after.max()) / 2
    rising = np.flatnonzero((level[:-1] < half) & (level[1:] >= half))
    if not len(rising):
        return 0.0
    share = (half - level[rising]) / (level[rising + 1] - level[rising])
    shifts = place[rising] + share * (place[rising + 1] - place[rising]) - edge
    nearest = float(shifts[np.abs(shifts).argmin()])
    return min(inward, max(-_LARGEST_SHIFT_SECONDS, nearest))


def _squash(odds: float) -> float:
    return 1 / (1 + math.exp(-odds))


def over_time(timeline: Timeline, *, seconds: float) -> Heatmap:
    """A heat map of one row for a sound of ``seconds``: the mean score of the windows over each
    moment, 0 where no window is.

    Ten cells a second, or 600 in all; a cell that is longer than a window shows the highest of its
    windows, so that a short segment stays visible in a long sound.
    """
    cells = min(600, max(1, round(10 * seconds)))
    step = seconds / cells
    middles = (np.arange(cells) + 0.5) * step
    total, windows, highest = np.zeros(cells), np.zeros(cells), np.zeros(cells)
    for start, score in zip(timeline.seconds, timeline.scores, strict=True):
        inside = (middles >= start) & (middles < start + timeline.window_seconds)
        total += inside * score
        windows += inside
        cell = min(cells - 1, int((start + timeline.window_seconds / 2) / step))
        highest[cell] = max(highest[cell], score)
    row = highest if step > timeline.window_seconds else total / np.maximum(windows, 1)
    return Heatmap(name=timeline.name, values=(tuple(float(value) for value in row),))
