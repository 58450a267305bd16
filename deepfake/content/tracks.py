"""People through a video: faces of one person are joined to a track, through gaps but never through
a cut to somebody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..preprocess import FacePreprocess, Pixels, shrink
from .faces import MOST_FACES, Face, overlaps

MOST_GAP_SECONDS = 10.0
"""Longest time between two sightings that may still be one track."""
LEAST_OVERLAP = 0.25
LEAST_LIKENESS = 0.45
MOST_SCENE_CHANGE = 30.0
_LOOK = FacePreprocess(side_pixels=24, span=3.0)
_SCENE_SIDE = 24
_COMPARED = 8

Signature = npt.NDArray[np.float32]


class Sighting(NamedTuple):
    """A face at a moment. ``look`` is its small grey picture, ``scene`` that of the whole frame."""

    second: float
    face: Face
    look: Signature
    scene: Signature


@dataclass
class Track:
    """The sightings of one person, in the order in which they were seen."""

    number: int
    sightings: list[Sighting] = field(default_factory=list)

    @property
    def start(self) -> float:
        return min(sighting.second for sighting in self.sightings)

    @property
    def end(self) -> float:
        return max(sighting.second for sighting in self.sightings)

    @property
    def weight(self) -> float:
        """The summed width of the faces: the person who is seen longest and nearest has most."""
        return sum(sighting.face.width for sighting in self.sightings)

    def nearest(self, second: float) -> list[Sighting]:
        """The eight sightings nearest in time, before or after, the nearest first."""
        return sorted(self.sightings, key=lambda seen: abs(seen.second - second))[:_COMPARED]


class Tracker:
    """Gives every face of a frame its track; frames may come in any order.

    A face continues a track when the nearest sighting of that in time lies in the same scene and
    overlaps it, and one of the nearest looks like it. A face that two tracks claim, or that shares
    its track with another face, starts a new one, so that people are rather split than mixed.
    """

    def __init__(self) -> None:
        self.tracks: list[Track] = []

    def add(self, second: float, faces: Sequence[Face], pixels: Pixels) -> list[Track]:
        """The track of each of the largest eight ``faces`` of the frame ``pixels``."""
        scene = _scene(pixels)
        seen = [Sighting(second, face, _look(pixels, face), scene) for face in faces[:MOST_FACES]]
        claims = [[t for t in self.tracks if _continues(t.nearest(second), s)] for s in seen]
        tracks = []
        for claim in claims:
            rivals = sum(claim == other for other in claims)
            if len(claim) == 1 and rivals == 1:
                track = claim[0]
            else:
                track = Track(len(self.tracks))
                self.tracks.append(track)
            tracks.append(track)
        for track, sighting in zip(tracks, seen, strict=True):
            track.sightings.append(sighting)
        return tracks


def _continues(earlier: Sequence[Sighting], after: Sighting) -> bool:
    """Whether ``after`` shows the person of ``earlier``, the nearest sighting first."""
    before = earlier[0]
    if abs(after.second - before.second) > MOST_GAP_SECONDS:
        return False
    if float(overlaps(after.face.box, [before.face.box])[0]) < LEAST_OVERLAP:
        return False
    if float(np.abs(after.scene - before.scene).mean()) > MOST_SCENE_CHANGE:
        return False
    return any(float((after.look * one.look).mean()) >= LEAST_LIKENESS for one in earlier)


def _look(pixels: Pixels, face: Face) -> Signature:
    """The aligned face as small grey values of mean 0 and variance 1 (side, side)."""
    grey = _LOOK.crop(pixels, face.points).mean(axis=2, dtype=np.float32)
    return np.asarray((grey - grey.mean()) / max(float(grey.std()), 1.0), np.float32)


def _scene(pixels: Pixels) -> Signature:
    """The frame as (24, 24, 3) grey levels."""
    return shrink(pixels, _SCENE_SIDE, _SCENE_SIDE).astype(np.float32)
