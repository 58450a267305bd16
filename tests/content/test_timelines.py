from __future__ import annotations

import numpy as np
import pytest

from deepfake.content.timelines import (
    WindowScores,
    clock,
    find_segments,
    name_segments,
    over_time,
    score_seconds,
)
from deepfake.types import Segment, Timeline

SPOKEN = [True] * 60


def windows_over(
    start: float, end: float, *, shift: float = 0.0, sharpness: float = 1.0
) -> WindowScores:
    """Windows of 2 s from ``shift`` on, every second, over a sound of 60 s. Log-odds are from -4
    to 4 by how much of a window lies in the insert; ``sharpness`` over 1 makes that a step.
    """
    seconds = np.arange(shift, 58.01, 1.0)
    share = np.clip(np.minimum(seconds + 2, end) - np.maximum(seconds, start), 0, 2) / 2
    odds = 4 * np.clip(sharpness * (2 * share - 1), -1, 1)
    scores = 1 / (1 + np.exp(-odds))
    return WindowScores(seconds=tuple(seconds), scores=tuple(scores), length=2.0)


@pytest.mark.parametrize("shift", [0.0, 0.36, 0.5, 0.9])
@pytest.mark.parametrize("start", [20.0, 20.25, 20.7, 0.0, 57.0])
@pytest.mark.parametrize("sharpness", [1.0, 3.0])
def test_an_insert_of_three_seconds_is_located(
    start: float, shift: float, sharpness: float
) -> None:
    windows = windows_over(start, start + 3.0, shift=shift, sharpness=sharpness)
    timeline = score_seconds(windows, spoken=SPOKEN, name="audio")
    (found,) = find_segments(timeline, windows, limit=0.6, seconds=60.0)
    assert found.start == pytest.approx(start, abs=1.0)
    assert found.end == pytest.approx(start + 3.0, abs=1.0)
    assert found.score > 0.6


@pytest.mark.parametrize("start", [20.0, 20.3, 20.8])
def test_edges_are_exact_where_windows_add_up(start: float) -> None:
    windows = windows_over(start, start + 5.0)
    timeline = score_seconds(windows, spoken=SPOKEN, name="audio")
    (found,) = find_segments(timeline, windows, limit=0.6, seconds=60.0)
    assert (found.start, found.end) == pytest.approx((start, start + 5.0), abs=0.05)


def test_a_second_has_the_mean_log_odds_of_its_windows() -> None:
    windows = WindowScores(seconds=(0.25, 1.25), scores=(0.5, 0.9), length=2.0)
    timeline = score_seconds(windows, spoken=[True] * 4, name="audio")
    assert timeline.seconds == (0.0, 1.0, 2.0, 3.0)
    odds = np.log(9)
    shares = (0.0, 0.75 / 1.75, 1.0 / 1.25, 1.0)
    assert timeline.scores == pytest.approx([1 / (1 + np.exp(-odds * s)) for s in shares])
    assert timeline.window_seconds == 1.0


def test_seconds_without_speech_or_window_are_absent() -> None:
    windows = WindowScores(seconds=(0.0, 6.0), scores=(0.3, 0.8), length=2.0)
    spoken = [True, False, True, False, False, False, True, True]
    timeline = score_seconds(windows, spoken=spoken, name="audio")
    assert timeline.seconds == (0.0, 6.0, 7.0)
    assert timeline.scores == pytest.approx((0.3, 0.8, 0.8))
    nothing = score_seconds(windows, spoken=[False] * 8, name="audio")
    assert nothing.seconds == (0.0, 1.0, 6.0, 7.0)


def line(scores: dict[int, float]) -> Timeline:
    return Timeline(
        name="audio",
        seconds=tuple(float(second) for second in scores),
        scores=tuple(scores.values()),
        window_seconds=1.0,
    )


def spans(timeline: Timeline) -> list[tuple[float, float]]:
    none = WindowScores(seconds=(), scores=(), length=2.0)
    return [(s.start, s.end) for s in find_segments(timeline, none, limit=0.6, seconds=99.0)]


def test_segments_run_across_short_pauses_only() -> None:
    assert spans(line({0: 0.7, 1: 0.8, 4: 0.9, 5: 0.2})) == [(0.0, 5.0)]
    assert spans(line({0: 0.7, 1: 0.8, 5: 0.9})) == [(0.0, 2.0), (5.0, 6.0)]
    assert spans(line({0: 0.7, 1: 0.2, 2: 0.9})) == [(0.0, 1.0), (2.0, 3.0)]
    assert spans(line({0: 0.5})) == []


def test_segments_do_not_overlap_and_stay_inside() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        scores = 1 / (1 + np.exp(-rng.normal(0, 3, 30)))
        windows = WindowScores(seconds=tuple(np.arange(30) + 0.4), scores=tuple(scores), length=2.0)
        timeline = score_seconds(windows, spoken=[True] * 31, name="audio")
        found = find_segments(timeline, windows, limit=0.6, seconds=30.9)
        edges = [edge for segment in found for edge in (segment.start, segment.end)]
        assert edges == sorted(edges)
        assert not edges or (edges[0] >= 0 and edges[-1] <= 30.9)


def test_places_in_words() -> None:
    minute = line(dict.fromkeys(range(60), 0.1))
    one = [Segment(22.8, 26.2, 0.9)]
    assert name_segments(one, minute) == "from 0:23 to 0:26"
    two = [*one, Segment(40.0, 43.0, 0.8)]
    assert name_segments(two, minute) == "from 0:23 to 0:26 and from 0:40 to 0:43"
    five = [Segment(float(n), n + 1.0, n / 10) for n in (1, 3, 5, 7, 9)]
    assert name_segments(five, minute) == (
        "in 5 places, above all from 0:05 to 0:06, from 0:07 to 0:08, from 0:09 to 0:10"
    )
    assert name_segments([], minute) == ""
    assert name_segments([Segment(0.0, 58.0, 0.9)], minute) == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (65.0, "1:05"), (3599.6, "1:00:00"), (7384.0, "2:03:04")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_sound_is_red_where_its_windows_score() -> None:
    timeline = Timeline(
        name="audio", seconds=(0.0, 1.0, 2.0), scores=(0.0, 0.0, 1.0), window_seconds=2.0
    )
    row = np.array(over_time(timeline, seconds=5.0).values[0])
    assert row[:20].max() == 0.0
    assert row[20:30].mean() == pytest.approx(0.5)
    assert row[30:40].min() == 1.0
    assert row[40:].max() == 0.0


def test_a_short_segment_stays_visible_in_a_long_sound() -> None:
    scores = [0.1] * 3600
    scores[1234] = 0.95
    timeline = Timeline(
        name="audio",
        seconds=tuple(float(second) for second in range(3600)),
        scores=tuple(scores),
        window_seconds=1.0,
    )
    row = np.array(over_time(timeline, seconds=3600.0).values[0])
    assert row.max() == pytest.approx(0.95)
    assert row.argmax() == 1234 * len(row) // 3600
