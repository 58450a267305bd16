"""The pictures of a video, asked by every slot in one pass: frames, bursts of frames, and the faces
of each person.

The first pass looks at a burst of eight frames every two seconds, or at all of a short video. A
second one looks between those bursts where the scores were not clear. Both are sequential, and
memory does not grow with the length beyond the scores.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np

from ..bundle import FULL_TIERS
from ..engine.scores import Scored
from ..reasons import Code
from .drawings import is_graphic
from .faces import Face, Finder
from .inputs import (
    FRAMES_PER_BURST,
    STEP_SECONDS,
    bound_frame,
    is_drawn_face,
    read_face,
    read_frame,
    read_motion,
)
from .tracks import Track, Tracker

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..engine.engine import Engine
    from ..media.opening import BurstFrame, Media
    from ..preprocess import Pixels
    from ..settings import DetectOptions

_Thing = TypeVar("_Thing")

BURST_SECONDS = FRAMES_PER_BURST * STEP_SECONDS
FACE_EVERY = 2
"""Faces are looked for in every second frame of a burst, a quarter of a second apart."""
LEAST_BURSTS = 16
"""Bursts that every video gets if it is long enough, so that short ones are seen whole."""
SECOND_PASS_SHARE = 0.5
LEAST_SIGHTINGS = 3
MOST_CLOSER = 24
"""Frames of a video that the full tier is asked about, at most."""
MOST_CLOSER_FACES, MOST_CLOSER_OF_ONE = 24, 8
"""Sightings that the full tier of faces is asked about, of all people and of one, at most."""
MOST_GRAPHICS = 0.5
"""Share of the frames looked at that may be graphics; of a clip with more the rest says little."""
MOST_UNANSWERED = 8
"""Bursts whose answers may be outstanding; more would only fill the memory."""


class Sighting(NamedTuple):
    frame: BurstFrame
    face: Face


class FaceBurst(NamedTuple):
    """One person in one burst: the scores of the faces and of their motion, and the face that was
    judged with its moment; ``reason`` is why there are no scores.
    """

    second: float
    face: Face
    still: Scored | None
    motion: Scored | None
    reason: Code | None


class Seen(NamedTuple):
    """What the full tier says of one sighting of a person."""

    second: float
    face: Face
    scored: Scored


class Burst(NamedTuple):
    """Scores of the whole picture: of the first frame, and of the motion of all of them. A
    ``graphic``, such as a title card or a recorded screen, has none.
    """

    second: float
    still: Scored | None
    motion: Scored | None
    graphic: bool = False


@dataclass
class Footage:
    """What the slots say of a video, in the order of time.

    ``people`` are the tracks that were seen often enough, each with its bursts: those that could be
    judged first, the most prominent before others. ``frames`` counts the frames looked at;
    ``crowded`` tells of more faces than are followed. ``closer`` holds what the full tier of the
    ``frame`` slot says of single frames, each with its moment, ``closer_people`` what that of the
    ``face`` slot says of sightings by the number of the track, where they were asked; ``missing``
    names by their slots those that would have been, and are not installed.
    """

    bursts: list[Burst] = field(default_factory=list)
    closer: list[tuple[float, Scored]] = field(default_factory=list)
    closer_people: dict[int, list[Seen]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    people: list[tuple[Track, list[FaceBurst]]] = field(default_factory=list)
    frames: int = 0
    crowded: bool = False

    @property
    def graphics(self) -> int:
        """How many of the first frames of the bursts are graphics."""
        return sum(burst.graphic for burst in self.bursts)

    @property
    def is_graphic(self) -> bool:
        """Whether the clip is drawn, rendered or a recorded screen for the most part."""
        return self.graphics > MOST_GRAPHICS * len(self.bursts)


class Spread(Generic[_Thing]):
    """At most ``most`` of the things that come one after another, evenly spread over all of them:
    whenever there are too many, every second one goes.
    """

    def __init__(self, most: int) -> None:
        self._most, self._every, self._seen = most, 1, 0
        self.things: list[_Thing] = []

    def wants_next(self) -> bool:
        """Whether the next thing is one that is kept, if it is there; every call counts one."""
        self._seen += 1
        return (self._seen - 1) % self._every == 0

    def add(self, thing: _Thing) -> None:
        self.things.append(thing)
        if len(self.things) > self._most:
            self.things, self._every = self.things[::2], 2 * self._every


def pick_spread(things: Sequence[_Thing], *, most: int) -> list[_Thing]:
    """At most ``most`` of the things, evenly spread; both ends where it is more than one."""
    places = np.linspace(0, len(things) - 1, min(most, len(things))).round().astype(int)
    return [things[place] for place in places]


class _Waiting(NamedTuple):
    second: float
    still: Future[Scored] | None
    motion: Future[Scored] | None
    graphic: bool


class _WaitingFace(NamedTuple):
    second: float
    face: Face
    still: Future[Scored] | None
    motion: Future[Scored] | None
    reason: Code | None


class Crowd:
    """Follows the faces of a video from burst to burst; ``crowded`` once there are more of them
    than are followed.
    """

    def __init__(self, finder: Finder) -> None:
        self._finder, self._tracker = finder, Tracker()
        self.crowded = False

    @property
    def tracks(self) -> list[Track]:
        """Who was seen, the most prominent first."""
        return sorted(self._tracker.tracks, key=lambda track: -track.weight)

    def look(self, burst: Sequence[BurstFrame]) -> dict[int, list[Sighting]]:
        """By the number of its track, where each face is in every second frame of a burst."""
        seen: dict[int, list[Sighting]] = {}
        searched = burst[::FACE_EVERY]
        found = self._finder.find_all([frame.pixels for frame in searched])
        for frame, faces in zip(searched, found, strict=True):
            tracks = self._tracker.add(frame.seconds, faces, frame.pixels)
            self.crowded |= len(faces) > len(tracks)
            for track, face in zip(tracks, faces, strict=False):
                seen.setdefault(track.number, []).append(Sighting(frame, face))
        return seen


class Viewer:
    """Looks at bursts as they are decoded and gathers what the slots answer."""

    def __init__(self, engine: Engine, finder: Finder, *, closely: bool = False) -> None:
        self._engine, self._crowd = engine, Crowd(finder)
        self._full = engine.full_tier("frame") if closely else None
        self._full_face = engine.full_tier("face") if closely else None
        self._kept: Spread[tuple[float, Pixels]] = Spread(MOST_CLOSER)
        self._kept_faces: dict[int, Spread[tuple[float, Face, Pixels]]] = {}
        self._bursts: list[_Waiting] = []
        self._faces: dict[int, list[_WaitingFace]] = {}
        self.footage = Footage()

    def look(self, burst: Sequence[BurstFrame]) -> None:
        """Ask every slot that is there about one burst; waits where many are unanswered."""
        if len(self._bursts) >= MOST_UNANSWERED:
            oldest = self._bursts[-MOST_UNANSWERED]
            for future in (oldest.still, oldest.motion):
                _result(future)
        pictures, second = [frame.pixels for frame in burst], burst[0].seconds
        graphic = is_graphic(pictures[0])
        if graphic:
            self._bursts.append(_Waiting(second, None, None, graphic))
        else:
            still = bound_frame(pictures[0])
            waiting = _Waiting(second, self._still(still), self._motion(pictures), graphic)
            self._bursts.append(waiting)
            self._keep_frame(second, still)
        self.footage.frames += len(burst)
        self._look_at_faces(burst, graphic=graphic)

    def finish(self) -> Footage:
        """Wait for all answers and put them in the order of time."""
        self.footage.bursts = sorted(
            (Burst(w.second, _result(w.still), _result(w.motion), w.graphic) for w in self._bursts),
            key=lambda burst: burst.second,
        )
        people = []
        for track in self._crowd.tracks:
            if len(track.sightings) < min(LEAST_SIGHTINGS, self.footage.frames):
                continue
            seen = sorted(self._faces.get(track.number, []), key=lambda waiting: waiting.second)
            bursts = [
                FaceBurst(w.second, w.face, _result(w.still), _result(w.motion), w.reason)
                for w in seen
            ]
            people.append((track, bursts))
        people.sort(key=lambda person: not any(burst.still for burst in person[1]))
        self.footage.people, self.footage.crowded = people, self._crowd.crowded
        return self.footage

    def look_closer(self) -> None:
        """Ask the full tier about some of the frames, spread over what was looked at."""
        if self._full is None:
            return
        asked = [(s, self._engine.submit(self._full, batch)) for s, batch in self._kept.things]
        found = [(second, answer.result()) for second, answer in asked]
        self.footage.closer = sorted(found, key=lambda one: one[0])

    def look_closer_at_people(self) -> None:
        """Ask the full tier of faces about some sightings of those who can be judged, fewer of each
        the more they are.
        """
        full = self._full_face
        if full is None:
            return
        judged = [track.number for track, seen in self.footage.people if any(b.still for b in seen)]
        people = [number for number in judged if self._kept_faces[number].things]
        people = people[:MOST_CLOSER_FACES]
        each = MOST_CLOSER_FACES // max(1, len(people))
        asked = {
            number: [
                (second, face, self._engine.submit(full, crop[None]))
                for second, face, crop in pick_spread(self._kept_faces[number].things, most=each)
            ]
            for number in people
        }
        self.footage.closer_people = {
            number: sorted(
                (Seen(second, face, answer.result()) for second, face, answer in sightings),
                key=lambda one: one.second,
            )
            for number, sightings in asked.items()
        }

    def _still(self, pixels: Pixels) -> Future[Scored] | None:
        bundle = self._bundle("frame")
        return None if bundle is None else self._ask(bundle, read_frame(pixels, bundle))

    def _motion(
        self, pictures: Sequence[Pixels], *, faces: Sequence[Face] = ()
    ) -> Future[Scored] | None:
        bundle = self._bundle("video")
        if bundle is None:
            return None
        return self._ask(bundle, read_motion(pictures, bundle, faces=faces))

    def _ask(self, bundle: Bundle, batch: Pixels | Code) -> Future[Scored] | None:
        return None if isinstance(batch, Code) else self._engine.submit(bundle, batch)

    def _keep_frame(self, second: float, still: Pixels) -> None:
        """The frame of a burst, for the full tier."""
        if self._full is not None and self._kept.wants_next():
            batch = read_frame(still, self._full)
            if not isinstance(batch, Code):
                self._kept.add((second, batch))

    def _look_at_faces(self, burst: Sequence[BurstFrame], *, graphic: bool) -> None:
        for number, sightings in self._crowd.look(burst).items():
            first = sightings[0]
            waiting = self._faces.setdefault(number, [])
            if graphic and is_drawn_face(first.frame.pixels, first.face):
                reason = Code.GRAPHIC_NOT_PHOTO
                waiting.append(_WaitingFace(first.frame.seconds, first.face, None, None, reason))
                continue
            whole = len(sightings) == len(burst[::FACE_EVERY])
            waiting.append(self._judge(sightings, burst if whole else ()))
            self._keep_face(number, first)

    def _keep_face(self, number: int, sighting: Sighting) -> None:
        """One sighting of a person in a burst, for the full tier."""
        if self._full_face is None:
            return
        kept = self._kept_faces.setdefault(number, Spread(MOST_CLOSER_OF_ONE))
        if kept.wants_next():
            seen = read_face(sighting.frame.pixels, sighting.face, self._full_face)
            if seen.reason is None:
                kept.add((sighting.frame.seconds, sighting.face, seen.crop))

    def _judge(self, sightings: Sequence[Sighting], burst: Sequence[BurstFrame]) -> _WaitingFace:
        """Ask about one person in one burst, whose frames are given if the person is in all."""
        second, face = sightings[0][0].seconds, sightings[0][1]
        bundle = self._bundle("face")
        if bundle is None:
            return _WaitingFace(second, face, None, None, Code.NO_BUNDLE)
        seen = [read_face(frame.pixels, one, bundle) for frame, one in sightings]
        good = [one.crop for one in seen if one.reason is None]
        if not good:
            return _WaitingFace(second, face, None, None, seen[0].reason)
        still, motion = self._engine.submit(bundle, np.stack(good)), None
        if burst and len(good) == len(sightings):
            faces = [one for _, one in sightings]
            motion = self._motion([frame.pixels for frame in burst], faces=faces)
        return _WaitingFace(second, face, still, motion, None)

    def _bundle(self, slot: str) -> Bundle | None:
        return self._engine.active.get(slot)


def view(media: Media, engine: Engine, options: DetectOptions, finder: Finder) -> Footage:
    """Both passes over ``media``; raises as :meth:`deepfake.media.opening.Media.bursts`."""
    seconds, most = media.info.seconds or 0.0, most_bursts(media, options)
    viewer = Viewer(engine, finder, closely=options.effort != "quick")
    for burst in read_bursts(media, most=most):
        media.watch.step("pictures", min(0.75, 0.75 * burst[-1].seconds / max(seconds, 1e-3)))
        viewer.look(burst)
    footage = viewer.finish()
    spans = unclear_spans(footage, engine)
    if spans:
        before, limited = footage.frames, media.is_limited
        if limited:
            most = len(footage.bursts)
        first, last = spans[0][0], spans[-1][1]
        for burst in read_bursts(media, most=max(1, int(most * SECOND_PASS_SHARE)), spans=spans):
            done = (burst[-1].seconds - first) / max(last - first, 1e-3)
            media.watch.step("unclear moments", 0.75 + 0.25 * min(1.0, max(0.0, done)))
            viewer.look(burst)
        footage = viewer.finish()
        if limited and footage.frames > before:
            more = footage.frames - before
            media.warnings.append(f"So were {more:,} more frames, at moments that were unclear.")
    if options.effort == "quick":
        return footage
    media.watch.step("full tier", 0.95)
    if not footage.is_graphic and _asks_for_more(footage, engine, options):
        viewer.look_closer()
        footage.missing |= _missing(engine, "frame")
    viewer.look_closer_at_people()
    if any(one.still for _, bursts in footage.people for one in bursts):
        footage.missing |= _missing(engine, "face")
    return footage


def _missing(engine: Engine, slot: str) -> dict[str, str]:
    """The full tier of a slot by its slot, where it is listed and not installed."""
    name = engine.missing.get(FULL_TIERS[slot])
    return {slot: name} if name else {}


def _asks_for_more(footage: Footage, engine: Engine, options: DetectOptions) -> bool:
    """Whether the full tier is asked after what the quick one saw in single frames, if anything."""
    quick = engine.active.get("frame")
    stills = [burst.still.score for burst in footage.bursts if burst.still]
    if quick is None or quick.frames_calibration is None or not stills:
        return True
    read = Scored.pool_frames(stills, quick.frames_calibration)
    # Together frames hide a few odd ones, and the quick tier is too weak to tell those.
    clean = options.effort == "auto" and read.score < read.points.authentic
    return clean or quick.asks_for_more([read.score], effort=options.effort)


def most_bursts(media: Media, options: DetectOptions) -> int:
    """How many bursts the first pass looks at."""
    frames = options.max_frames_per_minute * (media.info.seconds or 0.0) / 60
    return max(LEAST_BURSTS, math.ceil(frames / FRAMES_PER_BURST))


def unclear_spans(footage: Footage, engine: Engine) -> list[tuple[float, float]]:
    """The gaps between bursts of which one is not clear of traces, unless both show clear ones."""
    seconds = [burst.second for burst in footage.bursts]
    concern = [_concern(burst.still, engine, "frame") for burst in footage.bursts]
    concern = [
        max(level, _concern(burst.motion, engine, "video"))
        for level, burst in zip(concern, footage.bursts, strict=True)
    ]
    for _, bursts in footage.people:
        for face in bursts:
            level = max(
                _concern(face.still, engine, "face"), _concern(face.motion, engine, "video")
            )
            index = int(np.abs(np.array(seconds) - face.second).argmin())
            concern[index] = max(concern[index], level)
    spans: list[tuple[float, float]] = []
    for index in range(len(seconds) - 1):
        start, end = seconds[index] + BURST_SECONDS, seconds[index + 1]
        pair = (concern[index], concern[index + 1])
        if end - start < BURST_SECONDS / 2 or max(pair) < 1 or min(pair) == 2:
            continue
        spans.append((start, end))
    return spans


def _concern(scored: Scored | None, engine: Engine, slot: str) -> int:
    """0: clearly no trace, 1: unclear, 2: clear traces."""
    if scored is None:
        return 0
    points = engine.active[slot].calibration.points
    return int(scored.score >= points.authentic) + int(scored.score >= points.synthetic)


def read_bursts(
    media: Media, *, most: int, spans: Sequence[tuple[float, float]] = ()
) -> Iterator[list[BurstFrame]]:
    """At most so many bursts of eight frames, spread over the video or over parts of it; raises as
    :meth:`deepfake.media.opening.Media.bursts`.
    """
    frames = media.bursts(
        most=most, frames=FRAMES_PER_BURST, step_seconds=STEP_SECONDS, spans=spans
    )
    return read_ahead(list(group) for _, group in groupby(frames, key=lambda frame: frame.burst))


def read_ahead(things: Iterator[_Thing]) -> Iterator[_Thing]:
    """The same, with the next one made in a thread while the present one is used."""
    ready: queue.Queue[tuple[_Thing | None, BaseException | None]] = queue.Queue(maxsize=1)
    unwanted = threading.Event()

    def make() -> None:
        try:
            for thing in things:
                _put((thing, None))
                if unwanted.is_set():
                    return
            _put((None, None))
        except BaseException as error:  # noqa: BLE001 - handed over, whatever it is
            _put((None, error))

    def _put(item: tuple[_Thing | None, BaseException | None]) -> None:
        while not unwanted.is_set():
            with suppress(queue.Full):
                return ready.put(item, timeout=0.05)

    maker = threading.Thread(target=make, name="deepfake-ahead", daemon=True)
    maker.start()
    try:
        while True:
            thing, error = ready.get()
            if error is not None:
                raise error
            if thing is None:
                return
            yield thing
    finally:
        unwanted.set()
        maker.join()


def _result(future: Future[Scored] | None) -> Scored | None:
    return None if future is None else future.result()
