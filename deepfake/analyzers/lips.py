"""Do the lips follow the sound? The most prominent person of a video, seen 25 times a second."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..content import lips as lipsync
from ..content.faces import Face, Finder, overlaps
from ..content.lips import LipTrack
from ..content.soundscape import survey
from ..content.speech import find_speech, speech_share
from ..content.tracks import Tracker
from ..preprocess import FacePreprocess
from ..reasons import Code
from ..types import Evidence
from .claims import skip

if TYPE_CHECKING:
    from ..content.footage import Footage
    from ..media.opening import BurstFrame, Media

SEARCHED_SECONDS = 120.0
"""The stretch that is compared is looked for in this much of the beginning."""
FRAMES_PER_SEARCH = 5
LEAST_OVERLAP = 0.2
_ALIGN = FacePreprocess(side_pixels=lipsync.SIDE_PIXELS, span=lipsync.SPAN)


def judge_lips(footage: Footage, media: Media, finder: Finder) -> Evidence:
    """Lip motion against speech, over at most 16 seconds of the first two minutes."""
    if not media.info.has_audio:
        return lipsync.evidence(None, Code.NO_SOUND)
    if not footage.people:
        return lipsync.evidence(None, Code.NO_FACE)
    rate = lipsync.SAMPLE_RATE
    samples = media.audio(sample_rate=rate, max_seconds=SEARCHED_SECONDS)
    speech = find_speech(samples)
    if survey(samples, speech).musical:
        return skip(lipsync.SOURCE, Code.MUSIC)
    bursts = [burst for burst in footage.people[0][1] if burst.second < SEARCHED_SECONDS]
    length = lipsync.LONGEST_SECONDS

    def both(start: float) -> float:
        seen = sum(start <= burst.second < start + length for burst in bursts)
        return seen * speech_share(speech, second=start, seconds=length)

    if not bursts:
        return lipsync.evidence(None, Code.NO_FACE)
    first = max(bursts, key=lambda burst: (both(burst.second), -burst.second))
    frames = media.bursts(
        most=1,
        frames=round(length / lipsync.STEP_SECONDS),
        step_seconds=lipsync.STEP_SECONDS,
        spans=[(first.second, first.second + length)],
    )
    track = LipTrack()
    for second, crop in follow(frames, first.face, finder):
        media.watch.check()
        track.add(second, crop)
    sync = lipsync.measure_sync(track, samples, speech=speech)
    reason = None if sync else lipsync.why_not_sync(track, samples, speech=speech)
    return lipsync.evidence(sync, reason)


def follow(
    frames: Iterator[BurstFrame], face: Face, finder: Finder
) -> Iterator[tuple[float, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]]:
    """One person through ``frames`` as aligned crops with their seconds, from the known ``face``.

    The face is searched in every fifth frame; between two of those its landmarks are interpolated.
    Frames beside one where it is not found, or is somebody else's after a cut, are left out.
    """
    waiting: list[BurstFrame] = []
    before: Face | None = None
    tracker, person = Tracker(), None
    for index, frame in enumerate(frames):
        waiting.append(frame)
        if index % FRAMES_PER_SEARCH:
            continue
        faces = finder.find(frame.pixels)
        tracks = tracker.add(frame.seconds, faces, frame.pixels)
        if person is None:
            near = overlaps(face.box, [one.box for one in faces]) if faces else np.zeros(0)
            if len(near) and near.max() >= LEAST_OVERLAP and near.argmax() < len(tracks):
                person = tracks[int(near.argmax())]
        known = [one for one, track in zip(faces, tracks, strict=False) if track is person]
        found = known[0] if person and known else None
        if found and before:
            start, end = waiting[0].seconds, frame.seconds
            for one in waiting[1:]:
                share = (one.seconds - start) / max(end - start, 1e-6)
                points = (1 - share) * before.points + share * found.points
                yield one.seconds, _ALIGN.crop(one.pixels, points)
        elif found:
            yield frame.seconds, _ALIGN.crop(frame.pixels, found.points)
        waiting, before = [frame], found
