from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from deepfake.content.faces import (
    MIN_SHARPNESS,
    MOST_FOUND,
    BundleFinder,
    Face,
    keep_best,
    open_finder,
    overlaps,
    sharpness,
    suppress,
    why_not_face,
)
from deepfake.engine.engine import Engine
from deepfake.engine.maps import read_map
from deepfake.errors import ModelError
from deepfake.preprocess import FacePreprocess
from deepfake.settings import Settings
from tests.bundles import paint_face
from tests.media_files import scene

UPRIGHT = ((80.0, 90.0), (120.0, 90.0), (100.0, 112.0), (84.0, 136.0), (116.0, 136.0))


def face(**values: object) -> Face:
    return Face(**{"box": (60, 60, 140, 160), "landmarks": UPRIGHT, "score": 0.9, **values})


@pytest.fixture
def finder(known_models: Path) -> BundleFinder:
    return BundleFinder(Engine(Settings(models_folder=known_models, threads=1)))


def test_faces_are_found_where_they_are_the_largest_first(finder: BundleFinder) -> None:
    pixels = paint_face(paint_face(scene(320, 200), row=2, column=2), row=4, column=8)
    faces = finder.find(pixels)
    assert len(faces) == 2
    boxes = sorted(one.box for one in faces)
    assert boxes[0] == pytest.approx((48, 48, 112, 112), abs=0.1)
    assert boxes[1] == pytest.approx((240, 112, 304, 176), abs=0.1)
    assert all(one.score > 0.9 for one in faces)
    assert faces[0].landmarks[0][0] < faces[0].landmarks[1][0]


def test_places_of_large_pictures_are_scaled_back(finder: BundleFinder) -> None:
    pixels = np.full((768, 1280, 3), 90, np.uint8)
    pixels[128:192, 256:320] = (255, 0, 90)
    (found,) = finder.find(pixels)
    assert found.box == pytest.approx((224, 96, 352, 224), abs=1)


def test_no_face_in_a_plain_picture(finder: BundleFinder) -> None:
    assert finder.find(np.full((64, 48, 3), 128, np.uint8)) == []


def test_map_is_read_in_pixels_of_the_picture() -> None:
    values = np.full((126, 15), -9.0, np.float32)
    place = 96 + 24  # the first cell of 32 pixels
    values[place] = [2.0, *np.log([0.5, 1.0, 0.75, 1.25]), *([0.25, -0.25] * 5)]
    (found,) = keep_best(read_map(values, rows=64, columns=96, zoom=2.0, least=0.5))
    assert found.box == pytest.approx((0, -32, 80, 112), abs=1e-3)
    assert found.landmarks[0] == pytest.approx((48, 16))
    assert found.score == pytest.approx(0.881, abs=1e-3)
    assert not keep_best(read_map(values, rows=64, columns=96, zoom=2.0, least=0.9))


def test_of_overlapping_boxes_the_best_is_kept() -> None:
    boxes = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [20, 0, 30, 10], [8, 0, 18, 10]], float)
    assert suppress(boxes, np.array([0.9, 0.8, 0.8, 0.1])) == [0, 2, 3]
    assert suppress(boxes, np.array([0.5, 0.6, 0.1, 0.2])) == [1, 3, 2]
    assert suppress(boxes[:0], np.zeros(0)) == []
    assert overlaps(boxes[0], boxes).tolist() == pytest.approx([1, 80 / 120, 0, 20 / 180])


def test_a_crowd_is_bounded() -> None:
    values = np.full((21 * 64, 15), -9.0, np.float32)
    values[: 16 * 64, 0] = 3.0
    values[: 16 * 64, 1:5] = -1.0
    found = keep_best(read_map(values, rows=256, columns=256, zoom=1.0, least=0.5))
    assert len(found) == MOST_FOUND


def test_yaw_grows_as_the_nose_nears_an_eye() -> None:
    assert face().yaw == 0
    turned = (*UPRIGHT[:2], (115.0, 112.0), *UPRIGHT[3:])
    assert face(landmarks=turned).yaw == pytest.approx(0.75)
    # the same, tilted
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    tilted = tuple(tuple(turn @ point) for point in turned)
    assert face(landmarks=tilted).yaw == pytest.approx(0.75)


def test_reasons_for_which_a_face_is_not_judged() -> None:
    crop = scene(64, 64)
    blurred = np.asarray(cv2.GaussianBlur(crop, (0, 0), 8))
    assert sharpness(blurred) < MIN_SHARPNESS < sharpness(crop)
    assert why_not_face(face(), crop) is None
    assert why_not_face(face(), blurred) == "face_blurred"
    assert why_not_face(face(box=(60, 60, 100, 160)), crop) == "face_too_small"
    turned = (*UPRIGHT[:2], (119.0, 112.0), *UPRIGHT[3:])
    assert why_not_face(face(landmarks=turned), crop) == "face_turned_away"


def test_a_file_that_is_no_face_model_is_named(known_models: Path, tmp_path: Path) -> None:
    path = tmp_path / "yunet.onnx"
    path.write_bytes(b"not a network")
    engine = Engine(Settings(models_folder=known_models, face_model=path))
    with pytest.raises(ModelError, match=r"yunet\.onnx: OpenCV cannot load it"):
        open_finder(engine)


@pytest.mark.parametrize("degrees", [0, 25, -70])
def test_aligned_faces_are_upright_and_of_one_size(degrees: float) -> None:
    align = FacePreprocess(side_pixels=100, span=4.0)
    turn = cv2.getRotationMatrix2D((150, 150), degrees, 1.7)
    points = np.array(UPRIGHT) @ turn[:, :2].T + turn[:, 2]
    placed = points @ align.transform(points)[:, :2].T + align.transform(points)[:, 2]
    assert placed[0, 1] == pytest.approx(placed[1, 1], abs=0.5)
    assert placed[1, 0] - placed[0, 0] == pytest.approx(25, abs=1.5)
    assert placed[2, 0] == pytest.approx(50, abs=1)
    canvas = np.zeros((400, 400, 3), np.uint8)
    for x, y in points:
        cv2.circle(canvas, (round(x), round(y)), 6, (255, 255, 255), -1)
    crop = align.crop(canvas, points)
    assert crop.shape == (100, 100, 3)
    for x, y in placed:
        assert crop[round(y), round(x)].mean() > 150
