"""The faces of the ``face`` slot: found once by a teacher, decoded whole, assigned to folds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import av.error
import numpy as np
from tqdm import tqdm

from deepfake.content.faces import Face, Finder, why_not_face
from deepfake.media.video import to_pixels
from deepfake.preprocess import FacePreprocess, Pixels

from ..image.data import decode
from ..manifests import Item, OfItem, read_manifest

FRAMES = 12
"""Frames that are taken from a clip, spread evenly."""


@dataclass(frozen=True)
class Portrait(OfItem):
    """A face and the whole still or frame that it is in. ``frame`` counts decoded frames (0 in a
    still), ``place`` the faces of one picture; ``fold`` is the model that must never see it.
    """

    pixels: Pixels
    face: Face
    frame: int
    place: int
    group: str
    fold: int

    @property
    def name(self) -> str:
        """The file's path, the frame and the face in it."""
        return f"{self.item.facts['path']}#{self.frame}.{self.place}"


def read_items(data: Path, *, folds: Sequence[Sequence[str]]) -> list[Item]:
    """Stills and clips of the sources that ``folds`` names, those of other sources left out."""
    named = {source for sources in folds for source in sources}
    items = read_manifest(data / "image", source_column="source")
    items += read_manifest(data / "video", source_column="system")
    return [item for item in items if item.source in named]


def read_portraits(
    items: Sequence[Item],
    finder: Finder,
    *,
    folds: Sequence[Sequence[str]],
    preprocess: FacePreprocess,
    most_faces: Mapping[str, int],
    cache: Path,
) -> list[Portrait]:
    """The faces of all items that are good enough to be judged, as the detector has it.

    ``most_faces`` says of which sources more than the largest face of a picture is taken. What the
    finder found is kept in ``cache`` (JSON lines by the file's hash).
    """
    homes = {source: fold for fold, sources in enumerate(folds) for source in sources}
    known = _read_cache(cache)
    portraits = []
    with cache.open("a", encoding="utf-8") as lines:
        for item in tqdm(items, desc="faces", unit="file", mininterval=5):
            key, fold = item.facts["sha256"], homes[item.source]
            fresh: dict[int, list[Face]] = {}
            for frame, pixels in read_frames(item):
                found = known.get(key, {}).get(frame)
                if found is None:
                    found = fresh[frame] = finder.find(pixels)
                for place, face in enumerate(found[: most_faces.get(item.source, 1)]):
                    if why_not_face(face, preprocess.crop(pixels, face.points)) is None:
                        group = "+".join(folds[fold])
                        portraits.append(Portrait(item, pixels, face, frame, place, group, fold))
            if fresh:
                lines.write(_to_line(key, fresh))
    return portraits


def read_frames(item: Item) -> Iterator[tuple[int, Pixels]]:
    """A still as frame 0, or the chosen frames of a clip."""
    content = item.path.read_bytes()
    if "frames_decoded" not in item.facts:
        yield 0, decode(content)[0]
        return
    yield from read_clip(item.path, frames=choose_frames(item))


def choose_frames(item: Item) -> list[int]:
    """The numbers of the frames that are taken from a clip."""
    last = int(item.facts["frames_decoded"]) - 1
    return sorted({int(number) for number in np.linspace(0, last, FRAMES).round()})


def read_clip(source: object, *, frames: Sequence[int]) -> Iterator[tuple[int, Pixels]]:
    """Chosen frames of a path or open file in one sequential pass; seeking would return frames of
    one colour without an error. A clip that is cut off midway gives the frames before.
    """
    wanted = set(frames)
    with av.open(source, "r") as container:
        try:
            for number, frame in enumerate(container.decode(container.streams.video[0])):
                if number in wanted:
                    yield number, to_pixels(frame)
        except av.error.InvalidDataError:
            return


def move_face(face: Face, *, scale: Sequence[float], shift: Sequence[float] = (0, 0)) -> Face:
    """The face in a picture that was scaled (x, y) about its corner and then shifted."""
    factors, offsets = np.array(scale, np.float64), np.array(shift, np.float64)
    points = (face.points + 0.5) * factors - 0.5 + offsets
    corners = np.array(face.box).reshape(2, 2) * factors + offsets
    left, top, right, bottom = (float(value) for value in corners.ravel())
    landmarks = tuple((float(x), float(y)) for x, y in points)
    return replace(face, box=(left, top, right, bottom), landmarks=landmarks)


def flip_face(face: Face, *, width: int) -> Face:
    """The face in a picture of ``width`` pixels with left and right exchanged."""
    points = face.points[[1, 0, 2, 4, 3]]
    points[:, 0] = width - 1 - points[:, 0]
    left, top, right, bottom = face.box
    landmarks = tuple((float(x), float(y)) for x, y in points)
    return replace(face, box=(width - right, top, width - left, bottom), landmarks=landmarks)


def eye_distance(face: Face) -> float:
    """In pixels; never below a sixth of the face's width, as in a face that is turned away."""
    eyes = face.points[:2]
    return max(float(np.hypot(*(eyes[1] - eyes[0]))), face.width / 6, 1.0)


def _read_cache(path: Path) -> dict[str, dict[int, list[Face]]]:
    known: dict[str, dict[int, list[Face]]] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            key, frames = json.loads(line)
            known[key] = {
                int(number): [
                    Face(tuple(box), tuple((x, y) for x, y in landmarks), score)
                    for box, landmarks, score in faces
                ]
                for number, faces in frames.items()
            }
    return known


def _to_line(key: str, frames: Mapping[int, Sequence[Face]]) -> str:
    rows = {
        str(number): [
            [
                [round(value, 2) for value in face.box],
                [[round(x, 2), round(y, 2)] for x, y in face.landmarks],
                round(face.score, 4),
            ]
            for face in faces
        ]
        for number, faces in frames.items()
    }
    return json.dumps([key, rows]) + "\n"
