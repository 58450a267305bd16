"""Was this clip generated, or a person in it replaced? Frames, motion and faces over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from ..content import localisation as localise
from ..content.faces import open_finder
from ..content.footage import BURST_SECONDS, Footage, view
from ..content.inputs import FRAMES_PER_BURST, bound_frame
from ..content.occlusion import face_heatmap
from ..content.timelines import WindowScores, clock, find_segments, name_segments
from ..engine.scores import Scored
from ..errors import Cancelled, DeepfakeError
from ..reasons import Code, find_code
from ..types import Evidence, Heatmap, Kind, Status, Timeline, Track
from .claims import MISSING, skip, word_score
from .face import MOST_HEATMAPS, TRACES, highest
from .lips import judge_lips

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..content.faces import Face
    from ..engine.engine import Engine
    from ..media.opening import Media
    from ..preprocess import Pixels
    from ..settings import DetectOptions

MOST_OF_IT = 0.8
FACE_SHARE = 0.5
"""How much the motion of a face counts beside that of the whole picture."""


class Part(NamedTuple):
    """Something whose scores over time are read together: the picture, or one person.

    ``bursts`` are the seconds and scores in the order of time; ``faces`` the faces judged there.
    """

    name: str
    seconds: tuple[float, ...]
    bursts: tuple[Scored, ...]
    faces: tuple[Face, ...] = ()


class Video:
    """Evidence from one pass over the pictures: ``video`` (was the clip generated? by its motion
    and its single frames together) and ``face`` (was a person replaced? every person alone), each
    with its timelines; and ``lip-sync``, from a second look at one person.
    """

    name = "video"
    kinds = frozenset({Kind.VIDEO})

    def analyze(self, media: Media, engine: Engine, options: DetectOptions) -> list[Evidence]:
        finder = open_finder(engine)
        with media.watch.part(0.0, 0.85):
            footage = view(media, engine, options, finder)
        show = _Show(media, engine, on=options.heatmap)
        seconds = max(
            media.info.seconds or 0.0, footage.bursts[-1].second if footage.bursts else 0.0
        )
        sources: dict[str, Callable[[], Evidence]] = {
            "video": lambda: judge_pictures(footage, engine, show, seconds=seconds),
            "face": lambda: judge_people(footage, engine, show, seconds=seconds),
            "lip-sync": lambda: judge_lips(footage, media, finder),
        }
        evidence = []
        for source, judge in sources.items():
            media.watch.step(source, 0.9)
            try:
                evidence.append(judge())
            except Cancelled:
                raise
            except DeepfakeError as error:
                claim = f"The {source} evidence could not be examined: {error}."
                evidence.append(
                    Evidence(source=source, status=Status.FAILED, reason=error.code, claim=claim)
                )
        return evidence


class _Show:
    """Decodes a frame again for its heat map, where heat maps are wanted."""

    def __init__(self, media: Media, engine: Engine, *, on: bool) -> None:
        self._media, self._engine, self._on = media, engine, on

    def frame(self, second: float) -> Pixels | None:
        if not self._on:
            return None
        span = (max(0.0, second - 1e-3), second + 1.0)
        frames = self._media.bursts(most=1, frames=1, step_seconds=1.0, spans=[span])
        return next((frame.pixels for frame in frames), None)

    def whole(self, second: float) -> tuple[Heatmap, ...]:
        pixels = self.frame(second)
        if pixels is None:
            return ()
        bundle = self._engine.bundle("frame")
        return (localise.heatmap(self._engine, bundle, bound_frame(pixels), second=second),)

    def face(self, second: float, face: Face, *, name: str) -> tuple[Heatmap, ...]:
        pixels = self.frame(second)
        if pixels is None:
            return ()
        bundle = self._engine.bundle("face")
        return (face_heatmap(self._engine, bundle, pixels, face, name=name, second=second),)


def judge_pictures(footage: Footage, engine: Engine, show: _Show, *, seconds: float) -> Evidence:
    """Motion and single frames as one. How often they agree is known to the bundle of motion where
    it was calibrated beside frames: it then reads the sum of their log-odds. Without that the
    frames decide, and the motion is told. Where only one of the two could be judged, that alone.
    Nothing is said of a clip of graphics, of which the detectors know nothing.
    """
    if footage.is_graphic:
        claim = (
            f"{footage.graphics} of {len(footage.bursts)} frames look like graphics or a recorded "
            "screen, which the detector was not made for."
        )
        graphics = skip("video", Code.GRAPHIC_NOT_PHOTO, claim=claim)
        return replace(graphics, details=_count_graphics(footage))
    motion, places = judge_motion(footage, engine, seconds=seconds)
    frames = judge_frames(footage, engine, show)
    if motion.score is None or frames.score is None:
        return frames if motion.score is None else motion
    told = replace(
        frames,
        timelines=(*motion.timelines, *frames.timelines),
        details={
            **motion.details,
            **frames.details,
            "motion_score": round(motion.score, 4),
            "frames_score": round(frames.score, 4),
        },
    )
    calibration = engine.bundle("video").frames_calibration
    if calibration is None:
        return told
    both = Scored.add((motion.score, frames.score), calibration)
    caution = find_code(frames.reason or "")
    where = "the motion and the frames"
    if both.score >= calibration.points.suspicious:
        where = f"{where} {places}".rstrip()
    return replace(
        told,
        claim=word_score(both.score, calibration.points, where=where, caution=caution),
        score=both.score,
        interval=both.interval,
        points=calibration.points,
        bundle=motion.bundle,
        segments=motion.segments,
    )


def judge_motion(footage: Footage, engine: Engine, *, seconds: float) -> tuple[Evidence, str]:
    """The ``video`` slot on the bursts of the whole picture, and for every person on the mean with
    that of the face wherever it is seen, as the slot was calibrated; and when in words.
    """
    bundle = engine.bundle("video")
    whole = {burst.second: burst.motion for burst in footage.bursts if burst.motion}
    if not whole:
        return skip("video", Code.TOO_FEW_FRAMES), ""
    parts = []
    for number, (_, bursts) in enumerate(footage.people, start=1):
        faces = {face.second: face.motion for face in bursts if face.motion}
        if faces:
            mixed = [(s, _mix(one, faces.get(s))) for s, one in whole.items()]
            parts.append(_part(f"motion of face {number}", mixed))
    if len(parts) < 2:
        alone = parts[0] if parts else _part("motion", list(whole.items()))
        parts = [alone._replace(name="motion")]
    return _judge_parts("video", parts, bundle, seconds=seconds, traces="of a generative model")


def _mix(whole: Scored, face: Scored | None) -> Scored:
    return whole if face is None else whole.mixed(face, share=FACE_SHARE)


def judge_people(footage: Footage, engine: Engine, show: _Show, *, seconds: float) -> Evidence:
    """The ``face`` slot on every person: its full tier on those about whom it was asked, else the
    quick one.
    """
    bundle, parts, reasons = engine.bundle("face"), [], []
    full = engine.full_tier("face") if any(footage.closer_people.values()) else None
    for number, (track, bursts) in enumerate(footage.people, start=1):
        reasons += [face.reason for face in bursts if face.reason]
        judged = [(face.second, face.face, face.still) for face in bursts if face.still]
        if full is not None:
            closer = footage.closer_people.get(track.number, [])
            judged = [(seen.second, seen.face, seen.scored) for seen in closer]
        if judged:
            scored = [(second, one) for second, _, one in judged]
            faces = tuple(face for _, face, _ in judged)
            parts.append(_part(f"face {number}", scored)._replace(faces=faces))
    if not parts:
        return skip("face", max(set(reasons), key=reasons.count) if reasons else Code.NO_FACE)
    evidence, _ = _judge_parts("face", parts, full or bundle, seconds=seconds, traces=TRACES)
    if full is not None:
        details = {"tier": "full", "quick_bundle": bundle.name}
        evidence = replace(evidence, details={**evidence.details, **details})
    elif "face" in footage.missing:
        details = {MISSING: footage.missing["face"]}
        evidence = replace(evidence, details={**evidence.details, **details})
    heatmaps: list[Heatmap] = []
    best = sorted(parts, key=lambda part: -max(burst.score for burst in part.bursts))
    for part in best[:MOST_HEATMAPS]:
        top = max(range(len(part.bursts)), key=lambda index: part.bursts[index].score)
        heatmaps += show.face(part.seconds[top], part.faces[top], name=part.name)
    caution = Code.TOO_MANY_FACES if footage.crowded else None
    tracks = tuple(_track(part) for part in parts)
    return replace(evidence, heatmaps=tuple(heatmaps), reason=caution, tracks=tracks)


def judge_frames(footage: Footage, engine: Engine, show: _Show) -> Evidence:
    """The ``frame`` slot on the first frame of every burst: its quick tier, and the full one, which
    counts that in, where it was asked.
    """
    bundle = engine.bundle("frame")
    stills = [(burst.second, burst.still) for burst in footage.bursts if burst.still]
    if not stills:
        return skip("video", Code.IMAGE_TOO_SMALL)
    caution = None if bundle.frames_calibration else Code.NOT_CALIBRATED_FOR_VIDEO
    read, scored = _read_frames(stills, bundle), stills
    details: dict[str, object] = {"frames": len(stills), **_count_graphics(footage)}
    full = engine.full_tier("frame") if footage.closer else None
    if full is not None:
        details |= {"tier": "full", "quick_bundle": bundle.name}
        details |= {"quick_score": round(read.score, 6), "frames_closer": len(footage.closer)}
        caution = None if full.frames_calibration else Code.NOT_CALIBRATED_FOR_VIDEO
        read, scored = _read_frames(footage.closer, full).beside(read), footage.closer
        bundle = full
    elif "frame" in footage.missing:
        details[MISSING] = footage.missing["frame"]
        caution = caution or Code.FULL_TIER_MISSING
    points = read.points
    timeline = Timeline(
        name="frames",
        seconds=tuple(second for second, _ in scored),
        scores=tuple(result.score for _, result in scored),
    )
    claim = word_score(read.score, points, where=f"{len(scored)} frames", caution=caution)
    second, top = max(scored, key=lambda one: one[1].score)
    if footage.frames < FRAMES_PER_BURST // 2:
        caution = caution or Code.TOO_FEW_FRAMES
    if read.score < points.authentic and top.score >= bundle.calibration.points.suspicious:
        caution = caution or Code.FRAME_STANDS_OUT
        claim += f" The frame at {clock(second)} alone bears some (score {top.score:.2f})."
    return Evidence(
        source="video",
        status=Status.OK,
        reason=caution,
        claim=claim,
        score=read.score,
        interval=read.interval,
        points=points,
        bundle=bundle.name,
        timelines=(timeline,),
        heatmaps=show.whole(second),
        details=details,
    )


def _count_graphics(footage: Footage) -> dict[str, object]:
    return {"graphics": footage.graphics} if footage.graphics else {}


def _read_frames(scored: Sequence[tuple[float, Scored]], bundle: Bundle) -> Scored:
    """The scores of a video's frames by one tier as one."""
    calibration = bundle.frames_calibration
    if calibration is None:
        calibration = replace(bundle.calibration, slope=1.0, intercept=0.0)
    return Scored.pool_frames([result.score for _, result in scored], calibration)


def _part(name: str, bursts: Sequence[tuple[float, Scored]]) -> Part:
    return Part(name, tuple(second for second, _ in bursts), tuple(one for _, one in bursts))


def _judge_parts(
    source: str, parts: Sequence[Part], bundle: Bundle, *, seconds: float, traces: str
) -> tuple[Evidence, str]:
    """One score for several parts, the timeline of each, and where in time the highest is so; and
    that in words.
    """
    calibration = bundle.calibration
    read = [(part.name, Scored.join_moments(part.bursts)) for part in parts]
    name, score, interval = highest(read)
    timelines = tuple(
        Timeline(
            name=part.name,
            seconds=part.seconds,
            scores=tuple(burst.score for burst in part.bursts),
            window_seconds=BURST_SECONDS,
        )
        for part in parts
    )
    shown = next(line for line in timelines if line.name == name)
    windows = WindowScores(seconds=shown.seconds, scores=shown.scores, length=BURST_SECONDS)
    segments = find_segments(
        shown, windows, limit=calibration.points.suspicious, seconds=max(seconds, BURST_SECONDS)
    )
    places = name_segments(segments, shown) or _stretch(shown, seconds)
    where = f"the {name}" if source == "video" else name
    if score >= calibration.points.suspicious:
        where = f"{where} {places}".rstrip()
    evidence = Evidence(
        source=source,
        status=Status.OK,
        claim=word_score(score, calibration.points, where=where, caution=None, traces=traces),
        score=score,
        interval=interval,
        points=calibration.points,
        bundle=bundle.name,
        timelines=timelines,
        segments=tuple(segments),
        details={"bursts": sum(len(part.bursts) for part in parts), "places": places},
    )
    return evidence, places


def _stretch(timeline: Timeline, seconds: float) -> str:
    """When somebody is seen in words; empty when that is nearly always."""
    start, end = timeline.seconds[0], timeline.seconds[-1] + BURST_SECONDS
    if end - start >= MOST_OF_IT * seconds:
        return ""
    return f"from {clock(start)} to {clock(min(end, seconds))}"


def _track(part: Part) -> Track:
    top = max(range(len(part.bursts)), key=lambda index: part.bursts[index].score)
    return Track(
        name=part.name,
        box=part.faces[top].box,
        score=Scored.join_moments(part.bursts).score,
        start=part.seconds[0],
        end=part.seconds[-1] + BURST_SECONDS,
        second=part.seconds[top],
    )
