"""Bursts of video frames that follow each other closely, inside the decoder process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import streams
from .job import Job
from .video import Reading, after, check_end, is_reached, survey, to_pixels


class Stretch(NamedTuple):
    """Seconds from the first frame."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


def decode_bursts(
    job: Job,
    *,
    format: str,
    most: int,
    frames: int,
    step_seconds: float,
    spans: Sequence[Sequence[float]],
) -> dict[str, Any]:
    """Send upright RGB frames with the number of their ``burst`` and ``seconds`` from the first
    frame; see :meth:`deepfake.media.opening.Media.bursts`.
    """
    span, claimed = survey(job, format)
    whole = Stretch(0.0, min(span.seconds, job.limits.seconds))
    chosen = merge([Stretch(start, end) for start, end in spans], whole) if spans else [whole]
    starts = burst_starts(chosen, most=most, burst_seconds=frames * step_seconds)
    if not starts:
        return {"bursts": 0}
    burst, shown = 0, 0
    with streams.open_streams(job, format=format) as container:
        reading = Reading(job, container, keys=span.keys, wanted=starts[0])
        for time, frame in reading.frames():
            shown += 1
            while burst + 1 < len(starts) and is_reached(time, starts[burst + 1]):
                burst += 1
                reading.wanted = max(reading.wanted, starts[burst])
            if not is_reached(time, reading.wanted):
                continue
            job.part(to_pixels(frame), burst=burst, seconds=time)
            step = after(time - starts[burst], step_seconds)
            if round(step / step_seconds) < frames:
                reading.wanted = starts[burst] + step
            elif burst + 1 < len(starts):
                reading.wanted = starts[burst + 1]
            else:
                break
    check_end(job, shown, span, claimed)
    return {"bursts": burst + 1}


def merge(spans: Sequence[Stretch], whole: Stretch) -> list[Stretch]:
    """The parts of ``spans`` within ``whole``, in order, those that touch joined."""
    joined: list[Stretch] = []
    for span in sorted(spans):
        start, end = max(span.start, whole.start), min(span.end, whole.end)
        if start >= end:
            continue
        if joined and start <= joined[-1].end:
            joined[-1] = Stretch(joined[-1].start, max(end, joined[-1].end))
        else:
            joined.append(Stretch(start, end))
    return joined


def burst_starts(spans: Sequence[Stretch], *, most: int, burst_seconds: float) -> list[float]:
    """When at most ``most`` bursts start, evenly spread over ``spans`` and never overlapping.

    Each span has one burst at its start unless there are too many spans; the rest are shared out
    by length. A burst may last longer than its span.
    """
    if len(spans) > most:
        spans = [spans[index * len(spans) // most] for index in range(most)]
    room = [max(1, math.floor(span.seconds / burst_seconds + 0.5)) for span in spans]
    total, spare = sum(span.seconds for span in spans), most - len(spans)
    starts: list[float] = []
    passed, free = 0.0, -math.inf
    for span, fitting in zip(spans, room, strict=True):
        share = _rounded_share(passed, span.seconds, total, spare)
        passed += span.seconds
        count = fitting if sum(room) <= most else min(fitting, 1 + share)
        step = max(burst_seconds, span.seconds / count)
        for index in range(count):
            start = max(span.start + index * step, free)
            if start < span.end or (index == 0 and start == span.start):
                starts.append(start)
                free = start + burst_seconds
    return starts


def _rounded_share(passed: float, seconds: float, total: float, spare: int) -> int:
    """How many of ``spare`` fall to a span; over all spans they come to exactly ``spare``."""
    if total <= 0:
        return 0
    before, until = passed / total, (passed + seconds) / total
    return math.floor(until * spare + 0.5) - math.floor(before * spare + 0.5)
