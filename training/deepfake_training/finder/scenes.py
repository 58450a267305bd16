"""Training scenes of the face finder: faces of every size and pose on mosaics of the material."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from deepfake.content.faces import overlaps
from deepfake.preprocess import Pixels

from ..perturb import blur, colour, jpeg, limit_side, noise, rescale
from .labels import Floats, Labels, Scene

MIRRORED = [1, 0, 2, 4, 3]
"""Landmarks are named by the person's sides, so a mirror exchanges eyes and mouth corners."""
LEAST_SIDE, MOST_SIDE = 13.0, 600.0


@dataclass(frozen=True)
class SceneSettings:
    """Shares of scenes that are mosaics, get pasted faces, meet each kind of harm, and of draws
    that want a picture with a face, which is then at least ``smallest`` pixels large.
    """

    smallest: float = LEAST_SIDE
    mosaic: float = 0.45
    pasted: float = 0.3
    with_face: float = 0.7
    behind: float = 0.65
    mirrored: float = 0.5
    covered: float = 0.15
    dark: float = 0.15
    blurred: float = 0.2
    noisy: float = 0.12
    compressed: float = 0.6
    grey: float = 0.06


class SceneDrawer:
    """Draws labelled scenes at random. Sources count by the square root of how many files they
    have, the frames of a clip together as one file, and by their ``weights``.
    """

    def __init__(
        self, scenes: Sequence[Scene], settings: SceneSettings, *, weights: Mapping[str, float]
    ) -> None:
        self.settings = settings
        self._with_face = _Pool([s for s in scenes if s.labels.sure.any()], weights)
        self._without = _Pool([s for s in scenes if not len(s.labels)], weights)

    def draw(self, rng: np.random.Generator, *, height: int, width: int) -> tuple[Pixels, Labels]:
        """A scene (height, width, 3) and its faces in it; those hardly seen are not sure."""
        settings = self.settings
        pixels = _background(rng, height, width)
        parts: list[Labels] = []
        cells = _cells(rng, height, width) if rng.random() < settings.mosaic else None
        for top, left, rows, columns in cells or [(0, 0, height, width)]:
            cell, labels = self._fill(rng, rows, columns)
            pixels[top : top + rows, left : left + columns] = cell
            parts.append(_shift(labels, np.array([left, top])))
        labels = _join(parts)
        if rng.random() < settings.pasted:
            for _ in range(int(rng.integers(1, 4))):
                labels = self._paste(rng, pixels, labels)
        if rng.random() < settings.covered:
            _cover(rng, pixels, labels)
        return self.harm(rng, pixels), labels

    def harm(self, rng: np.random.Generator, pixels: Pixels) -> Pixels:
        """Light, colour, blur, noise and compression as pictures meet them."""
        chosen = self.settings
        if rng.random() < chosen.dark:
            pixels = light(pixels, gain=rng.uniform(0.1, 0.6), gamma=rng.uniform(0.8, 1.8))
            pixels = noise(pixels, sigma=rng.uniform(0, 6), seed=int(rng.integers(2**31)))
        elif rng.random() < 0.6:
            pixels = light(pixels, gain=rng.uniform(0.6, 1.6), gamma=rng.uniform(0.6, 1.5))
            if rng.random() < 0.3:
                pixels = colour(pixels, saturation=float(rng.uniform(0.3, 1.6)))
        if rng.random() < chosen.grey:
            pixels = colour(pixels, saturation=0.0)
        if rng.random() < chosen.blurred:
            if rng.random() < 0.5:
                pixels = blur(pixels, sigma=rng.uniform(0.5, 2.5))
            else:
                pixels = _smear(pixels, rng)
        if rng.random() < chosen.noisy:
            sigma = float(np.exp(rng.uniform(0.5, 3.0)))
            pixels = noise(pixels, sigma=sigma, seed=int(rng.integers(2**31)))
        if rng.random() < chosen.compressed:
            pixels = jpeg(pixels, quality=int(rng.integers(15, 96)))
        return pixels

    def _fill(self, rng: np.random.Generator, rows: int, columns: int) -> tuple[Pixels, Labels]:
        """One picture, turned and brought to a random size, on a cell."""
        if rng.random() < self.settings.with_face:
            scene = self._with_face.draw(rng)
            chosen = int(rng.choice(np.flatnonzero(scene.labels.sure)))
            size, centre = _size(scene.labels.boxes[chosen]), _centre(scene.labels.boxes[chosen])
            most = min(MOST_SIDE, 1.2 * min(rows, columns), 5 * size)
            least = min(self.settings.smallest, 0.9 * most)
            wanted = float(np.exp(rng.uniform(np.log(least), np.log(most))))
            scale, room = wanted / size, 0.3 * wanted
            goal = rng.uniform([room, room], np.maximum([columns - room, rows - room], room + 1))
        else:
            scene = self._without.draw(rng)
            height, width = scene.pixels.shape[:2]
            scale = float(np.exp(rng.uniform(np.log(0.3), np.log(3))) * rows / height)
            centre = rng.uniform([0, 0], [width, height])
            goal = np.array([columns, rows]) / 2
        turn = _draw_turn(rng)
        mirrored = rng.random() < self.settings.mirrored
        matrix = placement(centre, goal, scale=scale, degrees=turn, mirrored=mirrored)
        behind = None
        if rng.random() < self.settings.behind:
            other = self._without.draw(rng).pixels
            behind = np.asarray(cv2.resize(other, (columns, rows)), np.uint8)
        pixels = _warp(rng, scene.pixels, matrix, rows, columns, behind=behind)
        return pixels, carry(scene.labels, matrix, rows=rows, columns=columns)

    def _paste(self, rng: np.random.Generator, pixels: Pixels, labels: Labels) -> Labels:
        """One more face, cut out along a soft ellipse, where there is none."""
        rows, columns = pixels.shape[:2]
        scene = self._with_face.draw(rng)
        chosen = int(rng.choice(np.flatnonzero(scene.labels.sure)))
        box = scene.labels.boxes[chosen]
        most = min(140.0, 4 * _size(box))
        scale = float(np.exp(rng.uniform(np.log(LEAST_SIDE), np.log(most)))) / _size(box)
        goal = rng.uniform([0, 0], [columns, rows])
        mirrored = rng.random() < self.settings.mirrored
        matrix = placement(
            _centre(box), goal, scale=scale, degrees=_draw_turn(rng), mirrored=mirrored
        )
        all_of_it, only = scene.labels, [chosen]
        one = Labels(
            all_of_it.boxes[only],
            all_of_it.points[only],
            all_of_it.scores[only],
            all_of_it.sure[only],
        )
        moved = carry(one, matrix, rows=rows, columns=columns)
        wide = _grow(moved.boxes, 1.3)
        if not len(moved) or (overlaps(wide[0], _grow(labels.boxes, 1.3)) > 0).any():
            return labels
        face = _warp(rng, scene.pixels, matrix, rows, columns)
        shape = np.zeros(scene.pixels.shape[:2], np.uint8)
        centre, half = _centre(box), (box[2:] - box[:2]) * rng.uniform(0.62, 0.85)
        cv2.ellipse(shape, (centre.tolist(), (2 * half).tolist(), 0.0), (255,), -1)
        mask = cv2.warpAffine(shape, matrix, (columns, rows), flags=cv2.INTER_LINEAR)
        soft = cv2.blur(mask, (3, 3)).astype(np.float32)[..., None] / 255
        pixels[:] = (pixels + soft * (face.astype(np.float32) - pixels)).round().astype(np.uint8)
        return _join([labels, moved])


class _Pool:
    """Scenes drawn by source, then by file, then by frame."""

    def __init__(self, scenes: Sequence[Scene], weights: Mapping[str, float]) -> None:
        self._files: dict[str, dict[str, list[Scene]]] = {}
        for scene in scenes:
            self._files.setdefault(scene.source, {}).setdefault(scene.path, []).append(scene)
        self._sources = sorted(self._files)
        counts = [len(self._files[s]) ** 0.5 * weights.get(s, 1.0) for s in self._sources]
        self._shares = np.array(counts) / max(sum(counts), 1e-9)
        self._paths = {source: sorted(files) for source, files in self._files.items()}

    def draw(self, rng: np.random.Generator) -> Scene:
        source = self._sources[int(rng.choice(len(self._sources), p=self._shares))]
        paths = self._paths[source]
        frames = self._files[source][paths[int(rng.integers(len(paths)))]]
        return frames[int(rng.integers(len(frames)))]


def placement(
    centre: npt.ArrayLike, goal: npt.ArrayLike, *, scale: float, degrees: float, mirrored: bool
) -> Floats:
    """The affine matrix (2, 3) that brings ``centre`` to ``goal``, turned, scaled and, before that,
    mirrored left to right.
    """
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * turn @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    shift = np.asarray(goal) - linear @ np.asarray(centre)
    return np.hstack([linear, shift[:, None]])


def carry(labels: Labels, matrix: Floats, *, rows: int, columns: int) -> Labels:
    """Labels moved by ``matrix`` onto a canvas; faces that leave it are dropped.

    A box stays upright about its turned centre. One of which less than half is seen, or that is
    smaller than a detector can be asked for, is no longer sure.
    """
    linear, shift = matrix[:, :2], matrix[:, 2]
    scale = float(np.sqrt(abs(np.linalg.det(linear))))
    points = labels.points @ linear.T + shift
    if np.linalg.det(linear) < 0:
        points = points[:, MIRRORED]
    middle = (labels.boxes[:, :2] + labels.boxes[:, 2:]) / 2 @ linear.T + shift
    size = (labels.boxes[:, 2:] - labels.boxes[:, :2]) * scale
    turn = np.square(linear / scale)  # squares of cosine and sine: the face is taken as an ellipse
    half = np.sqrt(np.square(size) @ turn.T) / 2
    boxes = np.hstack([middle - half, middle + half])
    inside = np.clip(boxes, 0, [columns, rows, columns, rows])
    seen = (inside[:, 2:] - inside[:, :2]).prod(axis=1) / (4 * half.prod(axis=1)).clip(1e-6)
    sure = labels.sure & (seen >= 0.5) & (2 * np.sqrt(half.prod(axis=1)) >= LEAST_SIDE - 1)
    kept = seen > 0.02
    return Labels(boxes[kept], points[kept], labels.scores[kept], sure[kept])


def light(pixels: Pixels, *, gain: float, gamma: float) -> Pixels:
    """Other lighting: brightness to the power of ``gamma``, then times ``gain``."""
    table = (255 * gain * (np.arange(256) / 255) ** gamma).round().clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(pixels, table), np.uint8)


def _warp(
    rng: np.random.Generator,
    pixels: Pixels,
    matrix: Floats,
    rows: int,
    columns: int,
    *,
    behind: Pixels | None = None,
) -> Pixels:
    """``pixels`` on a canvas, averaged over areas first where they shrink; round them lies the
    picture ``behind``, or one colour.
    """
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if scale < 0.7 and rng.random() < 0.9:
        small = limit_side(pixels, side=max(2, round(max(pixels.shape[:2]) * scale * 1.2)))
        ratio = np.array(pixels.shape[1::-1]) / small.shape[1::-1]
        matrix = matrix.copy()
        matrix[:, 2] += matrix[:, :2] @ ((ratio - 1) / 2)
        matrix[:, :2] *= ratio
        pixels = small
    kind = rng.random()
    border = cv2.BORDER_REPLICATE if kind < 0.3 else cv2.BORDER_CONSTANT
    shade = 127 if kind < 0.65 else int(rng.integers(0, 256))
    if behind is not None:
        border = cv2.BORDER_TRANSPARENT
    moved = cv2.warpAffine(
        pixels, matrix, (columns, rows), dst=behind, flags=cv2.INTER_LINEAR, borderMode=border,
        borderValue=(shade, shade, shade),
    )  # fmt: skip
    return np.asarray(moved, np.uint8)


def _background(rng: np.random.Generator, height: int, width: int) -> Pixels:
    coarse = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _cells(rng: np.random.Generator, height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Top, left, rows and columns of two to nine cells that tile the scene."""
    across = np.array([0, *_cuts(rng, width), width])
    down = np.array([0, *_cuts(rng, height), height])
    return [
        (int(top), int(left), int(bottom - top), int(right - left))
        for top, bottom in pairwise(down)
        for left, right in pairwise(across)
    ]


def _cuts(rng: np.random.Generator, length: int) -> list[int]:
    count = 1 if rng.random() < 0.75 else 2
    return [round(length * (i + 1 + rng.uniform(-0.3, 0.3)) / (count + 1)) for i in range(count)]


def _cover(rng: np.random.Generator, pixels: Pixels, labels: Labels) -> None:
    """A patch of another place or of one colour over a part of some faces."""
    height, width = pixels.shape[:2]
    for box in labels.boxes[labels.sure]:
        if rng.random() < 0.4:
            continue
        sides = (box[2:] - box[:2]) * rng.uniform(0.2, 0.55, 2)
        corner = rng.uniform(box[:2] - sides / 2, box[2:] - sides / 2)
        left, top = np.clip(corner, 0, [width - 1, height - 1]).astype(int)
        end = np.clip(corner + sides + 1, [left + 1, top + 1], [width, height])
        right, bottom = end.astype(int)
        patch = pixels[top:bottom, left:right]
        other = rng.integers(0, [height - len(patch) + 1, width - patch.shape[1] + 1])
        source = pixels[other[0] : other[0] + len(patch), other[1] : other[1] + patch.shape[1]]
        patch[:] = source.copy() if rng.random() < 0.4 else rng.integers(0, 256, 3)


def _smear(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Motion blur along a random direction, or a picture that was made smaller and larger."""
    if rng.random() < 0.5:
        height, width = pixels.shape[:2]
        small = rescale(pixels, factor=float(rng.uniform(0.3, 0.8)))
        return np.asarray(cv2.resize(small, (width, height)), np.uint8)
    length = int(rng.integers(3, 12))
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, np.pi)
    along = np.outer(np.linspace(-0.5, 0.5, 4 * length), [np.cos(angle), np.sin(angle)])
    places = ((along + 0.5) * (length - 1)).round().astype(int)
    kernel[places[:, 1], places[:, 0]] = 1
    return np.asarray(cv2.filter2D(pixels, -1, kernel / kernel.sum()), np.uint8)


def _draw_turn(rng: np.random.Generator) -> float:
    kind = rng.random()
    if kind < 0.75:
        return float(rng.normal(0, 8))
    return float(rng.uniform(-30, 30) if kind < 0.95 else rng.uniform(-60, 60))


def _size(box: Floats) -> float:
    return float(np.sqrt((box[2:] - box[:2]).clip(1).prod()))


def _centre(box: Floats) -> Floats:
    return np.asarray((box[:2] + box[2:]) / 2, np.float64)


def _grow(boxes: Floats, factor: float) -> Floats:
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    return np.hstack([middle - factor * half, middle + factor * half])


def _shift(labels: Labels, offset: npt.NDArray[np.int64]) -> Labels:
    boxes = labels.boxes + np.tile(offset, 2)
    return Labels(boxes, labels.points + offset, labels.scores, labels.sure)


def _parts(labels: Labels) -> tuple[Floats, Floats, Floats, npt.NDArray[np.bool_]]:
    return labels.boxes, labels.points, labels.scores, labels.sure


def _join(parts: Sequence[Labels]) -> Labels:
    columns = zip(*(_parts(part) for part in parts), strict=True)
    return Labels(*(np.concatenate(column) for column in columns))
