"""Bursts of video frames that follow each other closely, inside the decoder process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..settings import Limits
from . import streams
from .budget import Survey
from .job import Job
from .video import Reading, after, check_end, is_reached, survey, to_pixels

LEAST_BURSTS = 16
"""Fewer are not spread over the whole length where it costs too much."""


class Stretch(NamedTuple):
    """Seconds from the first frame."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Plan(NamedTuple):
    """When bursts start, whether they are fewer than were asked for, and the seconds from the start
    that they are spread over.
    """

    starts: list[float]
    limited: bool
    end: float


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
    found = survey(job, format)
    plan = make_plan(
        job.limits,
        found,
        [Stretch(start, end) for start, end in spans],
        most=most,
        frames=frames,
        burst_seconds=frames * step_seconds,
    )
    starts = plan.starts
    if not starts:
        return {"bursts": 0}
    burst, shown, sent = 0, 0, 0
    with streams.open_streams(job, format=format) as container:
        reading = Reading(job, container, keys=found.span.keys, wanted=starts[0])
        for time, frame in reading.frames():
            shown += 1
            while burst + 1 < len(starts) and is_reached(time, starts[burst + 1]):
                burst += 1
                reading.wanted = max(reading.wanted, starts[burst])
            if not is_reached(time, reading.wanted):
                continue
            job.part(to_pixels(frame), burst=burst, seconds=time)
            sent += 1
            step = after(time - starts[burst], step_seconds)
            if round(step / step_seconds) < frames:
                reading.wanted = starts[burst] + step
            elif burst + 1 < len(starts):
                reading.wanted = starts[burst + 1]
            else:
                break
    check_end(job, shown, found)
    limited = plan.limited or reading.is_spent
    if limited and not spans:
        end = min(plan.end, reading.seconds) if reading.is_spent else plan.end
        warn_of_sample(job, sent, end, found)
    return {"bursts": burst + 1, "limited": limited}


def make_plan(
    limits: Limits,
    found: Survey,
    spans: Sequence[Stretch],
    *,
    most: int,
    frames: int,
    burst_seconds: float,
) -> Plan:
    """When bursts start, so that they cost no more than the limits allow.

    Where the key frames lie close enough, fewer bursts cover the whole length; else the bursts lie
    as closely as they would have, in the first part, which can be decoded.
    """
    whole = Stretch(0.0, min(found.span.seconds, limits.seconds))

    def place(part: Stretch, count: int) -> list[float]:
        chosen = merge(spans, part) if spans else [part]
        return burst_starts(chosen, most=count, burst_seconds=burst_seconds)

    wanted = place(whole, most)
    count = min(most, max(1, limits.most_frames(pixels=found.pixels) // frames))
    starts = wanted if count >= len(wanted) else place(whole, count)
    least = min(count, LEAST_BURSTS)
    while found.cost(starts, burst_seconds) > limits.decode_pixels:
        if len(starts) <= least:
            reach = min(whole.end, found.reach(limits.decode_pixels))
            share = math.ceil(count * reach / max(whole.end, reach, 1e-6))
            starts = place(Stretch(0.0, reach), max(least, share))
            return Plan(starts, limited=True, end=reach)
        starts = place(whole, max(least, 3 * len(starts) // 4))
    return Plan(starts, limited=len(starts) < len(wanted), end=whole.end)


def warn_of_sample(job: Job, sent: int, seconds: float, found: Survey) -> None:
    """Tell how much was looked at of a video that costs more than the limits allow."""
    span = found.span
    part = f"{span.seconds:.5g} seconds"
    if seconds < 0.9 * span.seconds:
        part = f"the first {seconds:.3g} of {part}"
    job.warn(
        f"The video is too costly to look at as closely as others: {sent:,} of {span.packets:,} "
        f"frames were looked at, spread over {part}."
    )


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
