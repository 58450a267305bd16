"""What a report can show: the picture, the spectrogram, or the most telling frames of a video, each
with its heat maps and the faces in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from ..text import printable
from ..types import Box, Evidence, Heatmap, Kind, OperatingPoints, Report, Timeline
from .heatmaps import DEFAULT_LIMIT, SOUND_RATE, overlay, spectrogram

if TYPE_CHECKING:
    from ..media.opening import Media
    from ..preprocess import Pixels

MOST_FACES = 32
SAME_FRAME_SECONDS = 0.002
"""A report keeps times to a millisecond."""
NEAR_SECONDS = 0.5


class FaceMark(NamedTuple):
    """A face that a report names. ``box`` is left, top, right, bottom in pixels of the picture, or
    of the frame at ``second``; without a ``score`` there is a ``reason``.
    """

    name: str
    box: Box
    score: float | None
    second: float | None
    reason: str | None
    points: OperatingPoints | None

    @property
    def text(self) -> str:
        return self.name if self.score is None else f"{self.name}  {self.score:.2f}"


@dataclass(frozen=True)
class Exhibit:
    """RGB ``pixels`` (height, width, 3) and what the report says of them.

    ``second`` is the time in a video; ``scores`` those of the timelines at that time; ``limits``
    the suspicious scores by the names of the heat maps.
    """

    pixels: Pixels
    heatmaps: tuple[Heatmap, ...] = ()
    faces: tuple[FaceMark, ...] = ()
    second: float | None = None
    scores: tuple[tuple[str, float], ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def shows_heat(self) -> bool:
        """Whether any part of its heat maps reaches the limit from which it is drawn."""
        return any(
            value >= self.limits.get(heatmap.name, DEFAULT_LIMIT)
            for heatmap in self.heatmaps
            for row in heatmap.values
            for value in row
        )

    def shrunk(self, most_pixels: int) -> Exhibit:
        """The same with sides of at most ``most_pixels``."""
        import cv2
        import numpy as np

        height, width = self.pixels.shape[:2]
        scale = most_pixels / max(height, width)
        if scale >= 1:
            return self
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        return replace(
            self,
            pixels=np.asarray(
                cv2.resize(self.pixels, size, interpolation=cv2.INTER_AREA), np.uint8
            ),
            heatmaps=tuple(
                replace(heatmap, box=None if heatmap.box is None else _scaled(heatmap.box, scale))
                for heatmap in self.heatmaps
            ),
            faces=tuple(face._replace(box=_scaled(face.box, scale)) for face in self.faces),
        )

    def draw(self) -> Pixels:
        """The picture under its heat maps, with a frame and a label for every face."""
        from PIL import Image

        from .drawing import colour_of, frame_box, pixels_of

        drawn = Image.fromarray(overlay(self.pixels, *self.heatmaps, limits=self.limits))
        letters = min(44, max(13, round(max(drawn.size) / 45)))
        for face in sorted(self.faces, key=lambda face: face.score or 0.0):
            colour = colour_of(face.score, face.points)
            frame_box(drawn, face.box, face.text, colour=colour, pixels_high=letters)
        return pixels_of(drawn)


def find_exhibits(media: Media, report: Report, *, most: int) -> list[Exhibit]:
    """At most ``most`` exhibits in the order of time; none where there is nothing to show.

    The media is decoded again. Raises ``MediaError`` when it can no longer be.
    """
    if report.media.kind is Kind.VIDEO:
        return list(_frames(media, report, most))
    heatmaps = tuple(heatmap for item in report.evidence for heatmap in item.heatmaps)
    faces, limits = tuple(_all_faces(report)), heat_limits(report)
    if not heatmaps and not faces:
        return []
    if report.media.kind is Kind.AUDIO:
        seconds = report.media.seconds or 1.0
        pixels = spectrogram(media.audio(sample_rate=SOUND_RATE, max_seconds=seconds))
        return [Exhibit(pixels, heatmaps[:1], limits=limits)]
    return [Exhibit(media.image(), heatmaps, faces, limits=limits)]


def heat_limits(report: Report) -> dict[str, float]:
    """The score from which each heat map is suspicious, by its name."""
    return {
        heatmap.name: item.points.suspicious
        for item in report.evidence
        if item.points is not None
        for heatmap in item.heatmaps
    }


def marked_faces(evidence: Evidence) -> Iterator[FaceMark]:
    """The faces of a picture and the people of a video."""
    points = evidence.points
    for face in evidence.faces[:MOST_FACES]:
        yield FaceMark(face.name, face.box, face.score, None, face.reason, points)
    for track in evidence.tracks[:MOST_FACES]:
        yield FaceMark(track.name, track.box, track.score, track.second, None, points)


def describe_face(face: FaceMark) -> str:
    """One line for a person: name, score or why there is none, place and, in a video, moment."""
    left, top, right, bottom = (round(side) for side in face.box)
    score = "not judged" if face.score is None else f"score {face.score:.2f}"
    line = f"{printable(face.name, most=24)}, {score}, at {left},{top} to {right},{bottom}"
    if face.second is not None:
        line += f", seen best at {face.second:.1f} s"
    return line + (f" [{printable(face.reason, most=40)}]" if face.reason else "")


def _all_faces(report: Report) -> list[FaceMark]:
    return [face for evidence in report.evidence for face in marked_faces(evidence)]


def picture_timelines(report: Report) -> list[Timeline]:
    """The timelines of what is seen rather than heard."""
    return [
        timeline
        for evidence in report.evidence
        if evidence.source != "audio"
        for timeline in evidence.timelines
        if timeline.seconds
    ]


def choose_moments(report: Report, *, most: int) -> list[float]:
    """The seconds of at most ``most`` frames of a video that tell most, in order.

    Frames with a heat map come first, then the best view of each person, one moment with a low
    score to compare with, and the highest moments of every timeline in turn, well apart.
    """
    timelines = picture_timelines(report)
    mapped = [h.second for e in report.evidence for h in e.heatmaps if h.second is not None]
    chosen: list[float] = []
    for second in mapped:
        if all(abs(second - other) > SAME_FRAME_SECONDS for other in chosen):
            chosen.append(second)
    length = max([report.media.seconds or 0.0, *(line.seconds[-1] for line in timelines)])
    apart = length / (1.5 * most)

    def add(second: float, *, apart: float, limit: int = most) -> None:
        if len(chosen) < limit and all(abs(second - other) >= apart for other in chosen):
            chosen.append(second)

    del chosen[most:]
    for face in sorted(_all_faces(report), key=lambda face: -(face.score or 0.0)):
        if face.second is not None:
            add(face.second, apart=apart / 8, limit=max(1, most - 3))
    if timelines:
        longest = max(timelines, key=lambda timeline: len(timeline.seconds))
        lowest = min(range(len(longest.scores)), key=longest.scores.__getitem__)
        add(longest.seconds[lowest], apart=apart)
    for second in _peaks(timelines):
        add(second, apart=apart)
    return sorted(chosen)


def _peaks(timelines: Sequence[Timeline]) -> Iterator[float]:
    """The moments of every timeline from its highest score down, one of each in turn."""
    ranked = [
        [second for _, second in sorted(zip(line.scores, line.seconds, strict=True), reverse=True)]
        for line in timelines
    ]
    for place in range(max(map(len, ranked), default=0)):
        yield from (seconds[place] for seconds in ranked if place < len(seconds))


def _frames(media: Media, report: Report, most: int) -> Iterator[Exhibit]:
    moments = choose_moments(report, most=most)
    if not moments:
        return
    spans = [(max(0.0, s - SAME_FRAME_SECONDS), s + SAME_FRAME_SECONDS) for s in moments]
    faces, timelines = _all_faces(report), picture_timelines(report)
    heatmaps = [h for e in report.evidence for h in e.heatmaps if h.second is not None]
    limits = heat_limits(report)
    for frame in media.bursts(most=len(spans), frames=1, step_seconds=0.001, spans=spans):
        second = min(moments, key=lambda moment: abs(moment - frame.seconds))
        yield Exhibit(
            frame.pixels,
            heatmaps=tuple(h for h in heatmaps if _is_same(h.second, second)),
            faces=tuple(face for face in faces if _is_same(face.second, second)),
            second=frame.seconds,
            scores=tuple(_scores_at(second, timelines)),
            limits=limits,
        )


def _scores_at(second: float, timelines: Sequence[Timeline]) -> Iterator[tuple[str, float]]:
    for timeline in timelines:
        pairs = zip(timeline.seconds, timeline.scores, strict=True)
        start, score = min(pairs, key=lambda pair: abs(pair[0] - second))
        if abs(start - second) <= max(timeline.window_seconds, NEAR_SECONDS):
            yield timeline.name, score


def _is_same(second: float | None, other: float) -> bool:
    return second is not None and abs(second - other) <= SAME_FRAME_SECONDS


def _scaled(box: Box, scale: float) -> Box:
    return box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale
