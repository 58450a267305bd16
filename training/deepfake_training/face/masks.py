"""Masks of a face and of its parts, drawn from five landmarks.

Shapes are drawn on a mean face whose eyes are one apart (x to the person's left, y down, the middle
of the eyes at 0) and laid on the landmarks by the best affine map, so that they turn with the head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from deepfake.content.faces import Face
from deepfake.preprocess import Pixels

from .data import eye_distance

Mask = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

MEAN_FACE = np.array([(-0.5, 0.0), (0.5, 0.0), (0.0, 0.56), (-0.41, 1.15), (0.41, 1.15)])
_LEFT_HULL = [(0.45, -0.66), (0.88, -0.4), (1.0, 0.2), (0.93, 0.85), (0.7, 1.4), (0.35, 1.78)]
_LEFT_LOWER = [(0.55, 0.62), (0.85, 0.9), (0.68, 1.4), (0.35, 1.78)]
OUTER = ((0.0, 0.55), (1.45, 1.85))
"""Centre and radii of an ellipse that no mask goes beyond."""
WHOLE = ("hull", "ellipse", "top", "bottom", "right", "left")
PARTS = ("mouth", "lower", "right_eye", "left_eye", "eyes", "nose", "eyes_nose", "nose_mouth")


def _ellipse(centre: tuple[float, float], radii: tuple[float, float]) -> Floats:
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.asarray(np.array(centre) + around * np.array(radii))


def _cut(outline: Floats, *, axis: int, most: float) -> Floats:
    """A convex outline with what lies beyond ``most`` along an axis pressed onto that line."""
    cut = outline.copy()
    cut[:, axis] = np.minimum(cut[:, axis], most)
    return cut


def _mirror(side: Sequence[tuple[float, float]], *, top: float, bottom: float) -> Floats:
    """A closed outline from its half on the person's left and its ends in the middle."""
    other = [(-x, y) for x, y in reversed(side)]
    return np.array([(0.0, top), *side, (0.0, bottom), *other])


HULL = _mirror(_LEFT_HULL, top=-0.6, bottom=1.88)
"""Brows, temples and jaw."""
_EYES = [_ellipse((x, -0.03), (0.38, 0.27)) for x in (-0.5, 0.5)]
_NOSE = _ellipse((0.0, 0.45), (0.34, 0.45))
_MOUTH = _ellipse((0.0, 1.15), (0.62, 0.36))
OUTLINES: Mapping[str, list[Floats]] = {
    "hull": [HULL],
    "ellipse": [_ellipse((0.0, 0.6), (0.95, 1.3))],
    "top": [_cut(HULL, axis=1, most=0.45)],
    "bottom": [_cut(HULL * [1, -1], axis=1, most=-0.35) * [1, -1]],
    "right": [_cut(HULL, axis=0, most=0.1)],
    "left": [_cut(HULL * [-1, 1], axis=0, most=0.1) * [-1, 1]],
    "mouth": [_MOUTH],
    "lower": [_mirror(_LEFT_LOWER, top=0.5, bottom=1.88)],
    "right_eye": _EYES[:1],
    "left_eye": _EYES[1:],
    "eyes": _EYES,
    "nose": [_NOSE],
    "eyes_nose": [
        *(_ellipse((x, 0.0), (0.38, 0.26)) for x in (-0.5, 0.5)),
        _ellipse((0.0, 0.4), (0.36, 0.5)),
    ],
    "nose_mouth": [_NOSE, _MOUTH],
}


def draw_mask(
    face: Face, shape: tuple[int, int], rng: np.random.Generator, *, kind: str, softness: float
) -> Mask:
    """A mask (height, width) in 0…1 of one of ``WHOLE`` or ``PARTS``, its outline bent at random
    and its edge softened over about ``softness`` eye distances.
    """
    outlines = _bend(OUTLINES[kind], rng, parts=kind in PARTS)
    frame = lay_mean_face(face)
    mask = np.zeros(shape, np.float32)
    for outline in outlines:
        cv2.fillPoly(mask, [np.round(_lay(outline, frame)).astype(np.int32)], (1.0,))
    sigma = max(0.5, softness * eye_distance(face) / 2)
    # a little inwards, so that the soft edge stays on the face
    thick = 2 * int(sigma * 0.5) + 1
    mask = np.asarray(cv2.erode(mask, np.ones((thick, thick), np.uint8)), np.float32)
    soft = np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), np.float32)
    highest = float(soft.max())
    return soft / np.float32(highest) * face_limit(face, shape) if highest > 0.2 else mask


def face_limit(face: Face, shape: tuple[int, int]) -> Mask:
    """1 where a face and its outline can be, 0 elsewhere."""
    limit = np.zeros(shape, np.float32)
    outline = _lay(_ellipse(*OUTER), lay_mean_face(face))
    cv2.fillPoly(limit, [np.round(outline).astype(np.int32)], (1.0,))
    return limit


def lay_mean_face(face: Face) -> Floats:
    """The affine map (2, 3) from the mean face to the picture, by least squares."""
    points = np.hstack([MEAN_FACE, np.ones((5, 1))])
    return np.asarray(np.linalg.lstsq(points, face.points, rcond=None)[0].T, np.float64)


def paste(target: Pixels, source: Pixels, mask: Mask) -> Pixels:
    """``source`` where the mask is 1, ``target`` (unchanged) where it is 0, mixed between."""
    weight = mask[..., None]
    mixed = target + weight * (source.astype(np.float32) - target)
    return mixed.round().clip(0, 255).astype(np.uint8)


def _bend(outlines: list[Floats], rng: np.random.Generator, *, parts: bool) -> list[Floats]:
    """The same random size, shift and smooth wobble for all outlines of a mask."""
    size = rng.uniform(0.85, 1.2, 2) if parts else rng.uniform(0.8, 1.1, 2)
    shift = rng.normal(0, 0.04, 2)
    waves = [(rng.normal(0, 0.05) / order, rng.uniform(0, 2 * np.pi)) for order in (1, 2, 3)]
    bent = []
    for outline in outlines:
        centre = outline.mean(axis=0)
        points = _refine(outline) - centre
        angles = np.arctan2(points[:, 1], points[:, 0])
        swell = 1 + sum(a * np.cos((k + 2) * angles + p) for k, (a, p) in enumerate(waves))
        bent.append(points * size * swell[:, None] + centre + shift)
    return bent


def _refine(outline: Floats) -> Floats:
    """The closed outline with its corners cut off twice (Chaikin 1974)."""
    for _ in range(2):
        after = np.roll(outline, -1, axis=0)
        pairs = np.stack([0.75 * outline + 0.25 * after, 0.25 * outline + 0.75 * after], axis=1)
        outline = pairs.reshape(-1, 2)
    return outline


def _lay(outline: Floats, frame: Floats) -> Floats:
    return np.asarray(outline @ frame[:, :2].T + frame[:, 2])
