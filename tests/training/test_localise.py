from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from deepfake_training.manifests import Item
from deepfake_training.studies import composites
from deepfake_training.studies import localisation as localise

from deepfake.commands.cli import main
from deepfake.errors import SettingsError
from deepfake.preprocess import ImagePreprocess
from deepfake.types import Heatmap
from tests.bundles import make_bundle, residual_graph
from tests.media_files import image_bytes, scene


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Two bona fide sources and two of generated pictures, which have a texture of their own."""
    folder = tmp_path / "data" / "image"
    folder.mkdir(parents=True)
    rows, made = ["path\tlabel\tsource\tsha256"], []
    for number, (source, size) in enumerate(
        [("camera", (200, 150)), ("phone", (160, 160)), ("gan", (170, 180)), ("sdxl", (190, 140))]
    ):
        pixels, label = scene(*size, seed=number), int(number > 1)
        if label:
            board = np.indices(pixels.shape[:2]).sum(axis=0) % 2 * 120 - 60
            pixels = np.clip(pixels + board[..., None], 0, 255).astype(np.uint8)
        path = folder / f"{source}.png"
        path.write_bytes(image_bytes(pixels))
        rows.append(f"{path.name}\t{'fake' if label else 'real'}\t{source}\t{number}")
        made.append(Item(path, label, source))
    (folder / "manifest.tsv").write_text("\n".join(rows), encoding="utf-8")
    return made


def test_a_composite_is_the_photo_outside_its_region(items: list[Item]) -> None:
    for seed in range(8):
        made = composites.make_composite(items[0], items[2], rng=np.random.default_rng(seed))
        assert made.pixels.shape == made.before.shape == (150, 200, 3)
        assert 0.1 <= made.region.mean() <= 0.4
        far = cv2.dilate(made.region.astype(np.uint8), np.ones((19, 19), np.uint8)) == 0
        assert (made.pixels[far] == made.before[far]).all()
        well_inside = cv2.erode(made.region.astype(np.uint8), np.ones((9, 9), np.uint8)) == 1
        assert (made.pixels != made.before).any(axis=2)[well_inside].mean() > 0.9
        again = composites.make_composite(items[0], items[2], rng=np.random.default_rng(seed))
        assert (again.pixels == made.pixels).all()


def test_sources_take_turns(items: list[Item]) -> None:
    pairs = composites.draw_pairs([*items, items[0], items[0]], count=4, seed=1)
    assert [photo.source for photo, _ in pairs] == ["camera", "phone", "camera", "phone"]
    assert {fake.label for _, fake in pairs} == {1}
    control = composites.draw_pairs(items, count=4, seed=1, label=0)
    assert [(photo.source, other.source) for photo, other in control][:2] == [
        ("camera", "phone"),
        ("phone", "camera"),
    ]
    with pytest.raises(SettingsError, match="generated"):
        composites.draw_pairs(items[:2], count=1, seed=1)


def test_a_region_has_its_place_in_every_view(items: list[Item]) -> None:
    made = composites.make_composite(items[0], items[3], rng=np.random.default_rng(3))
    seen = made.seen("thumbnail")
    assert seen.region.shape == seen.pixels.shape[:2] == seen.before.shape[:2]
    shrunk = composites.fit(made.region, width=50, height=37)
    assert shrunk.mean() == pytest.approx(made.region.mean(), abs=0.03)


def test_iou_and_places_of_known_maps() -> None:
    left, right = np.zeros((40, 60), bool), np.zeros((40, 60), bool)
    left[:, :30], right[:, 20:50] = True, True
    assert localise.iou(left, right) == pytest.approx(0.2)
    assert localise.iou(left, left) == 1.0
    assert localise.iou(~(left | ~left), left) == 0.0
    row = (0.9,) * 3 + (0.1,) * 4
    shown = Heatmap(name="image", values=(row,))
    overlap, area, hit, marked = localise.place(shown, left)
    assert (overlap > 0.85, area > 0.97, hit, marked) == (True, True, 1.0, 1.0)
    assert localise.place(shown, ~left)[1:3] == pytest.approx((1 - area, 0.0))
    constant = Heatmap(name="image", values=((0.4, 0.4),))
    assert localise.place(constant, right) == (0.0, 0.5, 0.0, 0.0)


def test_the_command_tells_a_detector_from_maps_that_know_nothing(
    items: list[Item], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bundle(
        tmp_path / "models" / "image-1",
        preprocess=ImagePreprocess(side_pixels=32),
        gain=0.4,
        graph=residual_graph,
    )
    arguments = ["recipe", "localise", str(tmp_path / "models" / "image-1"), "--composites", "6"]
    folders = ["--data", str(items[0].path.parents[1]), "--runs", str(tmp_path / "runs")]
    assert main([*arguments, *folders, "--card"]) == 0
    assert "photo phone" in capsys.readouterr().out
    result = json.loads((tmp_path / "runs/localise/localise.json").read_text(encoding="utf-8"))
    clean = {
        row["map"]: row
        for row in result["overall"]
        if row["view"] == "clean" and row["source"] == "all generated"
    }
    assert clean["heat map"]["iou"] > 0.6
    assert clean["heat map"]["auc"] > 0.9
    assert clean["heat map"]["hit"] == 1.0
    for name in ("before pasting", "middle", "everything"):
        assert clean[name]["iou"] < 0.45
        assert clean[name]["auc"] < 0.8
    assert cv2.imread(str(tmp_path / "runs/localise/localise.png")).shape == (9 * 240, 720, 3)
    card = (tmp_path / "models/image-1/README.md").read_text(encoding="utf-8")
    assert "## Heat map" in card
    assert "--composites 6 --seed 1`" in card
    assert "| clean | all generated | 6 |" in card
