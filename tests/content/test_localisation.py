from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deepfake.content import localisation as localise
from deepfake.engine.engine import Engine
from deepfake.preprocess import Batch, ImagePreprocess, Pixels
from deepfake.settings import Settings
from deepfake.show import heatmaps as explain
from deepfake.types import Heatmap
from tests.bundles import make_bundle, residual_graph
from tests.media_files import scene


@pytest.fixture(params=[48, 64])
def texture_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine whose ``image`` bundle answers to fine texture, whatever its window."""
    preprocess = ImagePreprocess(side_pixels=request.param)
    make_bundle(tmp_path / "image-1", preprocess=preprocess, gain=0.4, graph=residual_graph)
    engine = Engine(Settings(models_folder=tmp_path, threads=1))
    yield engine
    engine.close()


def paste_texture(pixels: Pixels, *, top: int, left: int, height: int, width: int) -> localise.Mask:
    """A checkerboard of single pixels in the picture, in place; where it is."""
    region = np.zeros(pixels.shape[:2], bool)
    region[top : top + height, left : left + width] = True
    rows, columns = np.nonzero(region)
    board = np.where((rows + columns) % 2, 40, -40)[:, None]
    pixels[region] = np.clip(pixels[region] + board, 0, 255).astype(np.uint8)
    return region


def iou(some: localise.Mask, other: localise.Mask) -> float:
    return float((some & other).sum() / (some | other).sum())


@pytest.mark.parametrize(
    ("size", "place"),
    [
        ((421, 303), {"top": 30, "left": 251, "height": 131, "width": 150}),
        ((257, 480), {"top": 300, "left": 0, "height": 180, "width": 120}),
        ((700, 333), {"top": 170, "left": 90, "height": 140, "width": 160}),
    ],
)
def test_a_pasted_region_is_found_where_it_is(
    texture_engine: Engine, size: tuple[int, int], place: dict[str, int]
) -> None:
    pixels = scene(*size, seed=2)
    region = paste_texture(pixels, **place)
    height, width = region.shape
    shown = localise.heatmap(texture_engine, texture_engine.bundle("image"), pixels)
    grid = np.array(shown.values)
    row, column = np.unravel_index(grid.argmax(), grid.shape)
    highest = (row + 0.5) * height / grid.shape[0], (column + 0.5) * width / grid.shape[1]
    assert region[int(highest[0]), int(highest[1])]
    assert iou(localise.find_region(shown, width=width, height=height), region) > 0.65
    # The red of the overlay lies there too, to the pixel.
    drawn = explain.overlay(np.zeros_like(pixels), shown)[..., 0] > 75
    assert iou(drawn, region) > 0.65


def test_a_picture_without_a_region_has_none(texture_engine: Engine) -> None:
    pixels = scene(300, 200, noise=2.0)
    shown = localise.heatmap(texture_engine, texture_engine.bundle("image"), pixels)
    assert not localise.find_region(shown, width=300, height=200).any()


def test_large_pictures_are_looked_at_closer_where_it_matters(
    texture_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.full((3000, 4000, 3), 120, np.uint8)
    region = paste_texture(pixels, top=400, left=2500, height=700, width=900)
    scored, score = [], texture_engine.score

    def count(bundle: object, batch: Batch) -> object:
        scored.append(len(batch))
        return score(bundle, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(texture_engine, "score", count)
    shown = localise.heatmap(texture_engine, texture_engine.bundle("image"), pixels)
    assert localise.MOST_WINDOWS < sum(scored) <= 2 * localise.MOST_WINDOWS
    assert iou(localise.find_region(shown, width=4000, height=3000), region) > 0.7


@pytest.mark.parametrize(
    ("width", "height"), [(32, 32), (20, 500), (900, 700), (4000, 3000), (8000, 60)]
)
def test_windows_are_bounded_inside_and_cover_evenly(width: int, height: int) -> None:
    boxes = localise.dense_boxes(width, height, side=32)
    assert 1 <= len(boxes) <= localise.MOST_WINDOWS
    assert all(box.left + box.width <= width and box.top + box.height <= height for box in boxes)
    cells = localise.solve_cells(boxes, np.full(len(boxes), 1.5), width, height)
    assert max(cells.shape) <= localise.MOST_CELLS
    np.testing.assert_allclose(cells, 1.5, atol=1e-6)


def test_no_windows_are_added_where_nothing_stands_out() -> None:
    boxes = localise.dense_boxes(4000, 3000, side=64)
    flat = np.zeros((24, 32))
    assert localise.closer_boxes(flat, boxes, 4000, 3000, side=64) == []
    flat[5, 7] = 3.0
    assert localise.closer_boxes(flat + np.eye(24, 32), boxes, 4000, 3000, side=64)


def test_cells_are_finer_than_the_windows_that_they_come_from() -> None:
    boxes = localise.dense_boxes(320, 320, side=64)
    odds = np.array([3.0 if box.left + 32 >= 160 else -3.0 for box in boxes])
    cells = localise.solve_cells(boxes, odds, 320, 320)
    middle = cells[16]
    assert (middle[:13] < -1.5).all()
    assert (middle[19:] > 1.5).all()


def test_a_region_is_relative_to_its_own_picture() -> None:
    low = np.full((8, 8), 0.2)
    low[1:3, 5:7] = 0.6
    shown = Heatmap(name="image", values=tuple(tuple(row) for row in low))
    region = localise.find_region(shown, width=160, height=80)
    assert region.shape == (80, 160)
    assert region[20, 120]
    assert not region[60].any()
    assert not region[:, :80].any()
    faint = Heatmap(name="image", values=((0.5, 0.5, 0.55),))
    assert not localise.find_region(faint, width=30, height=10).any()
    sure = Heatmap(name="image", values=((0.0, 0.0, 0.0, 1.0),))
    assert localise.find_region(sure, width=40, height=10)[:, 35:].all()
