"""Faces of the material as a teacher sees them: YuNet (Wu et al. 2023) at several scales, merged.

Decoded pictures and frames lie in one file of bytes, their faces in a list beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from deepfake.content.faces import overlaps
from deepfake.errors import ModelError
from deepfake.files import replaced
from deepfake.media.video import to_pixels
from deepfake.preprocess import Pixels

from ..image.data import decode
from ..manifests import Item, read_manifest

Floats = npt.NDArray[np.float64]
LEAST_SCORE, SURE_SCORE = 0.3, 0.75
FRAMES_IN_CLIP = 20
LONGEST_SIDE = 1600


@dataclass(frozen=True)
class Labels:
    """Faces of one picture, in its pixels: ``boxes`` (n, 4) as left, top, right, bottom, ``points``
    (n, 5, 2), ``scores`` (n,) of the teacher. Faces that are not ``sure`` (n,) are neither there
    nor missing.
    """

    boxes: Floats
    points: Floats
    scores: Floats
    sure: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[float]]) -> Labels:
        """The inverse of :meth:`to_lists`."""
        table = np.array(rows, np.float64).reshape(-1, 16)
        return cls(table[:, :4], table[:, 4:14].reshape(-1, 5, 2), table[:, 14], table[:, 15] > 0)

    def to_lists(self) -> list[list[float]]:
        parts = [self.boxes, self.points.reshape(-1, 10), self.scores[:, None], self.sure[:, None]]
        rows: list[list[float]] = np.hstack(parts).round(3).tolist()
        return rows


@dataclass(frozen=True)
class Scene:
    """A picture or a frame with its faces. Scenes of one ``path`` are frames of one clip."""

    path: str
    source: str
    pixels: Pixels
    labels: Labels


class Teacher:
    """YuNet through OpenCV. Raises ``ModelError`` when the file is not one."""

    def __init__(self, path: Path) -> None:
        try:
            self._detector: Any = cv2.FaceDetectorYN.create(
                str(path), "", (320, 320), score_threshold=LEAST_SCORE
            )
        except cv2.error as error:
            raise ModelError(f"teacher {path.name}: OpenCV cannot load it") from error

    def find(self, pixels: Pixels, *, scale: float) -> Floats:
        """Rows (n, 15) of box, points and score at one scale, in pixels of the picture."""
        height, width = (max(16, round(length * scale)) for length in pixels.shape[:2])
        kernel = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(pixels, (width, height), interpolation=kernel) if scale != 1 else pixels
        self._detector.setInputSize((width, height))
        found = self._detector.detect(np.ascontiguousarray(small[..., ::-1]))[1]
        if found is None:
            return np.zeros((0, 15))
        rows = found.astype(np.float64)
        rows[:, 2:4] += rows[:, :2]
        rows[:, :14] /= np.tile([width / pixels.shape[1], height / pixels.shape[0]], 7)
        return np.asarray(rows, np.float64)

    def label(self, pixels: Pixels) -> Labels:
        """What the teacher finds at half, full and double size, a quarter of it in large pictures,
        and at a long side of 640, merged.
        """
        side = max(pixels.shape[:2])
        scales = {0.5, 1.0, 640 / side, min(2.0, LONGEST_SIDE / side)}
        if side > 400:
            scales.add(0.25)
        return merge([self.find(pixels, scale=scale) for scale in sorted(scales)], sorted(scales))


def merge(found: Sequence[Floats], scales: Sequence[float]) -> Labels:
    """One list of faces from those found at every scale.

    Of a group of overlapping ones each counts by its score and by how near its size is to the
    100 pixels at which the teacher is best. A face is sure when it has a score of 0.75 at its best
    scale and was seen at two scales at least.
    """
    rows = np.concatenate(found)
    views = np.repeat(np.arange(len(found)), [len(part) for part in found])
    sizes = np.sqrt((rows[:, 2:4] - rows[:, :2]).clip(1).prod(axis=1))
    fits = np.exp(-np.square(np.log(sizes * np.array(scales)[views] / 100)) / 2)
    weights = rows[:, 14] ** 2 * (fits + 0.02)
    left, merged = list(np.argsort(-weights)), []
    while left:
        shared = overlaps(rows[left[0], :4], rows[left, :4])
        group = [index for index, overlap in zip(left, shared, strict=True) if overlap > 0.4]
        left = [index for index, overlap in zip(left, shared, strict=True) if overlap <= 0.4]
        close = [i for i in group if overlaps(rows[group[0], :4], rows[[i], :4])[0] > 0.6]
        mean = np.average(rows[close, :14], axis=0, weights=weights[close])
        best = float(rows[group, 14].max())
        sure = best >= SURE_SCORE and len(set(views[group])) >= 2
        merged.append([*mean, best, float(sure)])
    return drop_parts(Labels.from_lists(merged))


def drop_parts(labels: Labels) -> Labels:
    """Without the unsure faces that lie by two thirds within a sure one: a mouth or an eye that
    looked like a face of its own at double size.
    """
    kept = np.ones(len(labels), np.bool_)
    sure = labels.boxes[labels.sure]
    for index in np.flatnonzero(~labels.sure):
        box = labels.boxes[index]
        low, high = np.maximum(sure[:, :2], box[:2]), np.minimum(sure[:, 2:], box[2:])
        shared = (high - low).clip(0).prod(axis=1) / max(float((box[2:] - box[:2]).prod()), 1e-6)
        kept[index] = not (shared > 0.67).any()
    return Labels(labels.boxes[kept], labels.points[kept], labels.scores[kept], labels.sure[kept])


def read_frames(path: Path, *, count: int) -> Iterator[Pixels]:
    """Up to ``count`` RGB frames of a clip, evenly spread, by sequential passes (seeking is not to
    be trusted). What can be decoded of a damaged clip is used.
    """
    total = sum(1 for _ in _decode(path))
    wanted = set(np.linspace(0, max(0, total - 1), count).round().astype(int).tolist())
    for number, frame in enumerate(_decode(path)):
        if number in wanted:
            yield to_pixels(frame)


def _decode(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path)) as container:
        try:
            yield from container.decode(video=0)
        except av.error.InvalidDataError:
            return


def read_items(data: Path) -> list[Item]:
    """Pictures and clips with their sources; those of clips are the systems of the manifest."""
    pictures = read_manifest(data / "image", source_column="source")
    return pictures + read_manifest(data / "video", source_column="system")


def read_scenes(items: Sequence[Item], *, teacher: Path, data: Path, folder: Path) -> list[Scene]:
    """All pictures and frames with their labels, made once and kept in ``folder``."""
    index, store = folder / "scenes.json", folder / "pixels.bin"
    if not index.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _label_all(items, teacher=Teacher(teacher), data=data, index=index, store=store)
    content = np.memmap(store, np.uint8, "r")
    scenes = []
    for row in json.loads(index.read_text(encoding="utf-8")):
        height, width, start = row["height"], row["width"], row["start"]
        pixels = content[start : start + height * width * 3].reshape(height, width, 3)
        labels = Labels.from_lists(row["faces"])
        scenes.append(Scene(row["path"], row["source"], pixels, labels))
    return scenes


def _label_all(
    items: Sequence[Item], *, teacher: Teacher, data: Path, index: Path, store: Path
) -> None:
    rows: list[dict[str, Any]] = []
    start = 0
    with store.open("wb") as file:
        for item in tqdm(items, desc="labelling", mininterval=5):
            path = item.path.relative_to(data).as_posix()
            if path.startswith("video"):
                pictures = read_frames(item.path, count=FRAMES_IN_CLIP)
            else:
                pictures = iter([decode(item.path.read_bytes())[0]])
            for pixels in pictures:
                height, width = pixels.shape[:2]
                faces = teacher.label(pixels).to_lists()
                rows.append(
                    {"path": path, "source": item.source, "height": height, "width": width}
                    | {"start": start, "faces": faces}
                )
                file.write(np.ascontiguousarray(pixels).tobytes())
                start += height * width * 3
    with replaced(index) as partial:
        partial.write_text(json.dumps(rows) + "\n", encoding="utf-8")
