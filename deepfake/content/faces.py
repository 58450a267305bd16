"""Faces: where they are, their five landmarks, and whether they are good enough to be judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..preprocess import FinderPreprocess, Pixels, shrink
from ..reasons import Code

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..engine.engine import Engine
    from ..engine.maps import FacePlaces

MIN_SIDE_PIXELS = 48
"""Least width of a face that is looked at, in pixels of the picture; a bundle may ask for more."""
MIN_SHARPNESS = 2.5
"""Least :func:`sharpness` of a face that is judged."""
MOST_FACES = 8
"""Most faces of one picture that are judged, the largest first."""
MOST_YAW = 0.75
"""Largest :attr:`Face.yaw` that is judged; beyond it one half of the face is hidden."""
OVERLAP = 0.3
MOST_FOUND = 100

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Face:
    """A face in pixels of its picture: ``box`` is left, top, right, bottom; ``landmarks`` are the
    eyes, the nose and the corners of the mouth (5, 2), those on the person's right first, which
    are left in an upright picture; ``score`` is P(face).
    """

    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]
    score: float

    @property
    def width(self) -> float:
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]

    @property
    def points(self) -> Floats:
        """The landmarks as an array (5, 2)."""
        return np.array(self.landmarks, np.float64)

    @property
    def yaw(self) -> float:
        """How far the nose is from the middle of the eyes towards one of them: 0 from the front,
        1 where nose and eye are in line.
        """
        eyes = self.points[:2]
        along = eyes[1] - eyes[0]
        length = max(float(np.hypot(*along)), 1e-6)
        off = float((self.points[2] - eyes.mean(axis=0)) @ along) / length
        return min(1.0, abs(off) / (length / 2))


class Finder(Protocol):
    """Finds faces in RGB pixels (height, width, 3), the largest first."""

    name: str

    def find(self, pixels: Pixels) -> list[Face]: ...

    def find_all(self, pictures: Sequence[Pixels]) -> list[list[Face]]:
        """The faces of each of several pictures of one size."""
        ...


class BundleFinder:
    """The ``face-finder`` bundle: a map of faces at every eighth, 16th and 32nd pixel."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._bundle: Bundle = engine.bundle("face-finder")
        self.name = self._bundle.name

    def find(self, pixels: Pixels) -> list[Face]:
        """Faces of at least about 16 pixels on the finder's canvas."""
        return self.find_all([pixels])[0]

    def find_all(self, pictures: Sequence[Pixels]) -> list[list[Face]]:
        preprocess = self._bundle.preprocess
        assert isinstance(preprocess, FinderPreprocess)
        entering = [preprocess(pixels) for pixels in pictures]
        batch, zoom = np.concatenate([one.batch for one in entering]), entering[0].zoom
        found = self._engine.find_faces(self._bundle, batch, zoom=zoom)
        return [largest_first(keep_best(places)) for places in found]


class YunetFinder:
    """A YuNet file of the user's own (Wu et al. 2023), run by OpenCV at 640 pixels at most.

    Raises ``ModelError`` when the file is not one.
    """

    def __init__(self, path: Path, *, least: float = 0.6) -> None:
        import cv2

        try:
            self._detector: Any = cv2.FaceDetectorYN.create(
                str(path), "", (320, 320), score_threshold=least
            )
        except cv2.error as error:
            raise ModelError(
                f"face model {path.name}: OpenCV cannot load it",
                hint="give a YuNet ONNX file, or leave Settings.face_model out",
            ) from error
        self.name = path.name

    def find(self, pixels: Pixels) -> list[Face]:
        height, width = pixels.shape[:2]
        scale = min(1.0, 640 / max(height, width))
        small = shrink(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
        self._detector.setInputSize((small.shape[1], small.shape[0]))
        found = self._detector.detect(np.ascontiguousarray(small[..., ::-1]))[1]
        faces = []
        for row in np.zeros((0, 15)) if found is None else found.astype(np.float64):
            box = np.array([row[0], row[1], row[0] + row[2], row[1] + row[3]]) / scale
            faces.append(_face(box, row[4:14].reshape(5, 2) / scale, float(row[14])))
        return largest_first(faces)

    def find_all(self, pictures: Sequence[Pixels]) -> list[list[Face]]:
        return [self.find(pixels) for pixels in pictures]


def open_finder(engine: Engine) -> Finder:
    """The finder of ``Settings.face_model``, or the shipped one; not to be shared by threads.

    Raises ``ModelError``.
    """
    own = engine.settings.face_model
    return YunetFinder(own) if own else BundleFinder(engine)


def keep_best(places: FacePlaces) -> list[Face]:
    """The faces at the places of a map: of those that overlap the most certain one (greedy
    non-maximum suppression).
    """
    scores, boxes, points = places
    return [
        _face(boxes[index], points[index], float(scores[index]))
        for index in suppress(boxes, scores)
    ]


def suppress(boxes: Floats, scores: Floats) -> list[int]:
    """Indexes of at most ``MOST_FOUND`` boxes (n, 4), the best first, that overlap no better one by
    more than ``OVERLAP`` of their union; ``scores`` (n,).

    Not ``cv2.dnn.NMSBoxes``: in some worker processes OpenCV 5 had no such function.
    """
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if len(kept) == MOST_FOUND:
            break
        if not kept or float(overlaps(boxes[index], boxes[kept]).max()) <= OVERLAP:
            kept.append(int(index))
    return kept


def overlaps(box: npt.ArrayLike, boxes: npt.ArrayLike) -> Floats:
    """Intersection over union of one box (4,) with each of ``boxes`` (n, 4)."""
    one, many = np.asarray(box, np.float64), np.asarray(boxes, np.float64)
    shared = np.clip(np.minimum(one[2:], many[:, 2:]) - np.maximum(one[:2], many[:, :2]), 0, None)
    area = shared.prod(axis=1)
    sizes = (many[:, 2:] - many[:, :2]).prod(axis=1) + (one[2:] - one[:2]).prod()
    return np.asarray(area / np.maximum(sizes - area, 1e-9), np.float64)


def largest_first(faces: Sequence[Face]) -> list[Face]:
    return sorted(faces, key=lambda face: -face.width * face.height)


def why_not_face(face: Face, crop: Pixels, *, least_pixels: float = MIN_SIDE_PIXELS) -> Code | None:
    """The reason code for which a face cannot be judged, or None when it can."""
    if face.width < least_pixels:
        return Code.FACE_TOO_SMALL
    if face.yaw > MOST_YAW:
        return Code.FACE_TURNED_AWAY
    if sharpness(crop) < MIN_SHARPNESS:
        return Code.FACE_BLURRED
    return None


def sharpness(crop: Pixels) -> float:
    """Root mean square of the Laplacian of the brightness of an aligned crop, in grey levels."""
    import cv2

    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return float(np.sqrt(np.mean(np.square(cv2.Laplacian(grey, cv2.CV_64F)))))


def _face(box: Floats, points: Floats, score: float) -> Face:
    left, top, right, bottom = (float(value) for value in box)
    return Face((left, top, right, bottom), tuple((float(x), float(y)) for x, y in points), score)
