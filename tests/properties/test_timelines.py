from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfake.content.timelines import (
    WindowScores,
    clock,
    find_segments,
    name_segments,
    over_time,
    score_seconds,
)
from deepfake.types import Timeline

FLOOR = 0.001
"""Calibrated scores stay within FLOOR … 1 - FLOOR."""

scores = st.floats(FLOOR, 1 - FLOOR)


@st.composite
def recordings(draw: st.DrawFn) -> tuple[WindowScores, list[bool], float]:
    """Windows as a detector gives them, in which seconds somebody speaks, and the length."""
    length = draw(st.sampled_from([0.5, 1.0, 2.0, 3.0, 4.0]))
    gaps = draw(st.lists(st.floats(0.02, 4.0), max_size=25))
    starts = [draw(st.floats(0.0, 3.0))]
    for gap in gaps:
        starts.append(starts[-1] + gap)
    rated = draw(st.lists(scores, min_size=len(starts), max_size=len(starts)))
    windows = WindowScores(seconds=tuple(starts), scores=tuple(rated), length=length)
    seconds = starts[-1] + length
    count = math.ceil(seconds)
    spoken = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return windows, spoken, seconds


@given(recordings())
def test_seconds_are_in_order_and_within_what_was_scored(
    recording: tuple[WindowScores, list[bool], float],
) -> None:
    windows, spoken, _ = recording
    timeline = score_seconds(windows, spoken=spoken, name="audio")
    assert timeline.seconds
    assert all(a < b for a, b in pairwise(timeline.seconds))
    assert all(second == int(second) for second in timeline.seconds)
    assert all(0 <= second < len(spoken) for second in timeline.seconds)
    low, high = min(windows.scores), max(windows.scores)
    assert all(low - 1e-9 <= score <= high + 1e-9 for score in timeline.scores)
    for second in timeline.seconds:
        assert any(s < second + 1 and s + windows.length > second for s in windows.seconds)
    if any(spoken[int(second)] for second in timeline.seconds):
        assert all(spoken[int(second)] for second in timeline.seconds)


@given(recordings(), st.floats(0.2, 0.95))
def test_segments_are_in_order_inside_and_hold_what_reaches_the_limit(
    recording: tuple[WindowScores, list[bool], float], limit: float
) -> None:
    windows, spoken, seconds = recording
    timeline = score_seconds(windows, spoken=spoken, name="audio")
    segments = find_segments(timeline, windows, limit=limit, seconds=seconds)
    for segment in segments:
        assert 0 <= segment.start < segment.end <= seconds
        assert limit - 1e-9 <= segment.score <= max(windows.scores) + 1e-9
    for before, after in pairwise(segments):
        assert before.end <= after.start
    hot = [t for t, score in zip(timeline.seconds, timeline.scores, strict=True) if score >= limit]
    assert bool(segments) == bool(hot)
    for second in hot:  # an edge moves by a second at most
        near = [s for s in segments if s.start <= second + 1 and s.end >= second]
        assert near, (second, segments)
    words = name_segments(segments, timeline)
    assert len(words) < 200
    assert not words or words.startswith(("from ", "in "))


@given(
    st.lists(st.tuples(st.floats(0.0, 60.0), scores), max_size=40),
    st.sampled_from([0.5, 1.0, 4.0]),
    st.floats(0.01, 20000.0),
)
def test_a_row_of_heat_holds_every_score(
    rated: list[tuple[float, float]], length: float, seconds: float
) -> None:
    rated = sorted((start, score) for start, score in rated if start + length <= seconds)
    timeline = Timeline(
        name="audio",
        seconds=tuple(start for start, _ in rated),
        scores=tuple(score for _, score in rated),
        window_seconds=length,
    )
    (row,) = over_time(timeline, seconds=seconds).values
    assert 1 <= len(row) <= 600
    highest = max((score for _, score in rated), default=0.0)
    assert all(0 <= value <= highest + 1e-9 for value in row)
    assert any(row) == bool(rated)


@given(st.floats(0.0, 400_000.0))
def test_a_clock_can_be_read_back(seconds: float) -> None:
    parts = [int(part) for part in clock(seconds).split(":")]
    assert all(0 <= part < 60 for part in parts[1:])
    total = sum(part * 60**power for power, part in enumerate(reversed(parts)))
    assert total == pytest.approx(seconds, abs=0.5)
