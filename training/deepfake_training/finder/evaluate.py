"""How the face finder compares with its teacher on sources that training never saw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from deepfake.bundle import Bundle
from deepfake.content.faces import keep_best, overlaps
from deepfake.engine.backends import open_backend
from deepfake.engine.maps import read_map
from deepfake.preprocess import FinderPreprocess, Pixels
from deepfake.settings import Settings

from ..files import read_lines, write_lines
from ..perturb import noise, web
from .labels import Labels, Scene
from .scenes import light

LEAST_STORED = 0.1
LEAST_PIXELS = 48
BANDS = ((16, 32), (32, 48), (48, 96), (96, 200), (200, 10_000))
CROP_SIDE, MOST_CROPS = 128, 96
MOST_FALSE = 0.035
"""Most false positives a picture on the validation sources, over all views."""


def dark(pixels: Pixels) -> Pixels:
    """A fifth of the light, and the noise of a sensor that lacks it."""
    return noise(light(pixels, gain=0.2, gamma=1.2), sigma=2.5, seed=1)


FINDER_VIEWS: dict[str, Callable[[Pixels], Pixels]] = {"clean": np.copy, "web": web, "dark": dark}


@dataclass(frozen=True)
class Detections:
    """What was found in one view of one scene, and what the teacher finds in the clean picture;
    both in pixels of the view.
    """

    part: str
    path: str
    source: str
    view: str
    number: int
    labels: Labels
    found: Labels


def detect_all(bundle: Bundle, scenes: Sequence[Scene], *, part: str) -> Iterator[Detections]:
    """Every scene in every view, through the exported graph and ``FinderPreprocess``."""
    preprocess = bundle.preprocess
    assert isinstance(preprocess, FinderPreprocess)
    threads = max(1, cv2.getNumThreads())
    backend = open_backend(bundle, settings=Settings(backend="openvino", threads=threads))
    for number, scene in enumerate(tqdm(scenes, desc=f"finding, {part}", mininterval=5)):
        for view, change in FINDER_VIEWS.items():
            pixels = change(scene.pixels)
            batch, zoom = preprocess(pixels)
            rows, columns = batch.shape[1:3]
            values = backend.run(batch)[0]
            places = read_map(values, rows=rows, columns=columns, zoom=zoom, least=LEAST_STORED)
            faces = keep_best(places)
            found = Labels.from_lists(
                [[*face.box, *face.points.ravel(), face.score, 1.0] for face in faces]
            )
            labels = scale_labels(scene.labels, pixels.shape[1] / scene.pixels.shape[1])
            yield Detections(part, scene.path, scene.source, view, number, labels, found)
    backend.close()


def scale_labels(labels: Labels, ratio: float) -> Labels:
    return Labels(labels.boxes * ratio, labels.points * ratio, labels.scores, labels.sure)


def write_detections(path: Path, detections: Iterable[Detections]) -> None:
    """JSON lines, replaced in one step."""
    write_lines(
        path,
        (
            {**vars(one), "labels": one.labels.to_lists(), "found": one.found.to_lists()}
            for one in detections
        ),
    )


def read_detections(path: Path) -> list[Detections]:
    lists = ("labels", "found")
    return [
        Detections(**{**row, **{name: Labels.from_lists(row[name]) for name in lists}})
        for row in read_lines(path)
    ]


@dataclass(frozen=True)
class Match:
    """One sure face of the teacher: its size, the best score among what overlaps it by half (0 for
    none), and the mean error of that one's landmarks in parts of the distance of the eyes.
    """

    size: float
    score: float
    error: float


def match(one: Detections) -> list[Match]:
    matches = []
    labels = one.labels
    for box, points in zip(labels.boxes[labels.sure], labels.points[labels.sure], strict=True):
        size = float(np.sqrt((box[2:] - box[:2]).prod()))
        close = np.zeros(0, int)
        if len(one.found):
            close = np.flatnonzero(overlaps(box, one.found.boxes) >= 0.5)
        if not len(close):
            matches.append(Match(size, 0.0, float("nan")))
            continue
        best = close[np.argmax(one.found.scores[close])]
        eyes = max(float(np.hypot(*(points[1] - points[0]))), 1e-6)
        error = float(np.hypot(*(one.found.points[best] - points).T).mean()) / eyes
        matches.append(Match(size, float(one.found.scores[best]), error))
    return matches


def false_positives(one: Detections) -> list[int]:
    """Indexes of what was found where the teacher sees no face at any scale, not even an unsure
    one: none that it overlaps by 0.3, and no unsure one around its centre.
    """
    indexes = []
    unsure = one.labels.boxes[~one.labels.sure]
    for index, box in enumerate(one.found.boxes):
        centre = (box[:2] + box[2:]) / 2
        around = ((centre > unsure[:, :2]) & (centre < unsure[:, 2:])).all(axis=1)
        if around.any():
            continue
        if not len(one.labels) or overlaps(box, one.labels.boxes).max() < 0.3:
            indexes.append(index)
    return indexes


def choose_least(detections: Sequence[Detections]) -> float:
    """The least score, in steps of 0.01, with which the validation sources get at most 0.035 false
    positives a picture; at least 0.2.
    """
    false = [one.found.scores[index] for one in detections for index in false_positives(one)]
    scores, allowed = sorted(false, reverse=True), int(MOST_FALSE * len(detections))
    least = float(scores[allowed]) + 0.01 if len(scores) > allowed else 0.0
    return round(max(0.2, least), 2)


def measure(detections: Sequence[Detections], *, least: float) -> dict[str, Any]:
    """Tables by view, by source (clean) and by size of the face (by view), as JSON values."""
    views = list(dict.fromkeys(one.view for one in detections))
    clean = [one for one in detections if one.view == views[0]]
    sources = sorted({one.source for one in clean})
    return {
        "views": [
            {"view": view} | _row([one for one in detections if one.view == view], least=least)
            for view in views
        ],
        "sources": [
            {"source": source, "view": view}
            | _row([o for o in detections if (o.source, o.view) == (source, view)], least=least)
            for source in sources
            for view in views
        ],
        "sizes": [
            {"pixels": f"{low}–{high}" if high < 10_000 else f"> {low}", "view": view}
            | _band([one for one in detections if one.view == view], low, high, least=least)
            for low, high in BANDS
            for view in views
        ],
    }


def _row(detections: Sequence[Detections], *, least: float) -> dict[str, Any]:
    false = [
        1
        for one in detections
        for index in false_positives(one)
        if one.found.scores[index] >= least
    ]
    band = _band(detections, LEAST_PIXELS, 10_000, least=least)
    return {"pictures": len(detections), **band} | {
        "false_positives": len(false),
        "false_positives_a_picture": round(len(false) / len(detections), 4),
    }


def _band(
    detections: Sequence[Detections], low: float, high: float, *, least: float
) -> dict[str, Any]:
    """Recall and landmark error of faces of at least ``low`` and less than ``high`` pixels."""
    faces = [face for one in detections for face in match(one) if low <= face.size < high]
    found = [face for face in faces if face.score >= least]
    errors = np.array([face.error for face in found])
    return {
        "faces": len(faces),
        "recall": round(len(found) / len(faces), 4) if faces else None,
        "landmark_error": round(float(errors.mean()), 4) if found else None,
        "landmark_error_median": round(float(np.median(errors)), 4) if found else None,
    }


def draw_false_positives(
    detections: Sequence[Detections],
    scenes: Sequence[Scene],
    *,
    least: float,
    path: Path,
) -> None:
    """A contact sheet of what was found in clean pictures where the teacher sees nothing."""
    crops: list[Pixels] = []
    side = CROP_SIDE
    for one in detections:
        if one.view != "clean":
            continue
        for index in false_positives(one):
            if one.found.scores[index] < least or len(crops) == MOST_CROPS:
                continue
            pixels, box = scenes[one.number].pixels, one.found.boxes[index]
            middle, half = (box[:2] + box[2:]) / 2, 0.75 * float((box[2:] - box[:2]).max())
            matrix = np.hstack([np.eye(2) * side / (2 * half), np.full((2, 1), side / 2)])
            matrix[:, 2] -= matrix[:, :2] @ middle
            crops.append(np.asarray(cv2.warpAffine(pixels, matrix, (side, side)), np.uint8))
    columns = 12
    empty = np.zeros((side, side, 3), np.uint8)
    crops += [empty] * (columns - len(crops) % columns)
    rows = [np.hstack(crops[start : start + columns]) for start in range(0, len(crops), columns)]
    cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])
