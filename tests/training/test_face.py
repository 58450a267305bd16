"""The face recipe on drawn faces, and the rules that keep its couples honest."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
import timm
import torch
from deepfake_training.face import bank as face_bank
from deepfake_training.face import data as face_data
from deepfake_training.face import fakes as face_fakes
from deepfake_training.face import masks as face_masks
from deepfake_training.face import recipe as face
from deepfake_training.face import views as face_views
from deepfake_training.face.couples import Bank, build_bank
from deepfake_training.face.fakes import Forger, Region
from deepfake_training.image.autoencoder import Autoencoder
from deepfake_training.imagenet import FILE
from deepfake_training.manifests import Item
from PIL import Image
from safetensors.torch import save_file

from deepfake.bundle import Applicability
from deepfake.content.faces import Face
from deepfake.networks.faces import FaceNet
from deepfake.preprocess import FacePreprocess, Pixels
from tests.training.recipes import recipe

pytestmark = pytest.mark.usefixtures("shallow_trunk", "traced_graphs")
LANDMARKS = ((70.0, 80.0), (110.0, 80.0), (90.0, 102.0), (74.0, 126.0), (106.0, 126.0))
FACE = Face((50.0, 40.0, 130.0, 160.0), LANDMARKS, 0.9)
SOURCES = {"press": 0, "camera": 0, "editor": 1, "talker": 1, "film": 0, "urban": 0}
FOLDS = [["press", "editor"], ["camera", "film", "talker"]]
METHODS = {"self_blend": 2.0, "swap": 1.0, "poisson_swap": 1.0, "mouth": 1.0}


def portrait(seed: int, *, size: tuple[int, int] = (200, 180)) -> Pixels:
    """An oval with eyes, nose and mouth where LANDMARKS are, with grain."""
    rng = np.random.default_rng(seed)
    canvas = np.full((*size, 3), rng.integers(40, 210, 3), np.uint8)
    skin = tuple(int(value) for value in rng.integers(90, 220, 3))
    dark = tuple(int(value) for value in rng.integers(10, 80, 3))
    cv2.ellipse(canvas, (90, 104), (42, 58), 0, 0, 360, skin, -1)
    for x, y in LANDMARKS[:2]:
        cv2.ellipse(canvas, (int(x), int(y)), (9, 5), 0, 0, 360, dark, -1)
    cv2.line(canvas, (90, 84), (90, 102), dark, 3)
    cv2.line(canvas, (74, 126), (106, 126), dark, 5)
    grain = rng.normal(0, 6, canvas.shape)
    return (canvas + grain).clip(0, 255).astype(np.uint8)


class DrawnFinder:
    """Finds the face of every drawn portrait, whose place is known."""

    name = "drawn"

    def __init__(self) -> None:
        self.asked = 0

    def find(self, pixels: Pixels) -> list[Face]:
        self.asked += 1
        return [FACE] if pixels.shape[0] >= 160 else []


def region(seed: int) -> Region:
    return Region(portrait(seed), FACE)


def portraits(count: int = 4) -> list[face_data.Portrait]:
    made = []
    for fold, source in enumerate(("press", "camera")):
        for number in range(count):
            item = Item(Path(f"{source}{number}"), 0, source, {"path": f"{source}/{number}.png"})
            pixels = portrait(10 * fold + number)
            made.append(face_data.Portrait(item, pixels, FACE, 0, 0, source, fold))
    return made


def drawer(
    *, couples: int = 6, left_out: dict[str, int] | None = None, **settings: Any
) -> face_bank.FaceDrawer:
    return face_bank.FaceDrawer(
        portraits(),
        Forger({"copy": lambda pixels: cv2.GaussianBlur(pixels, (3, 3), 0)}),
        left_out=left_out or {},
        preprocess=FacePreprocess(side_pixels=64),
        settings=face_bank.BankSettings(couples=couples, seed=1, methods=METHODS, **settings),
    )


@pytest.mark.parametrize("kind", [*face_masks.WHOLE, *face_masks.PARTS])
def test_masks_lie_on_the_face(kind: str) -> None:
    limit = face_masks.face_limit(FACE, (200, 180))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        mask = face_masks.draw_mask(FACE, (200, 180), rng, kind=kind, softness=0.1)
        assert mask.shape == (200, 180)
        assert 0.95 <= mask.max() <= 1.0
        assert not mask[limit == 0].any()
        assert mask[:20].sum() == mask[:, :20].sum() == mask[:, -20:].sum() == 0
        share = float((mask > 0.5).mean() / (limit > 0).mean())
        assert share < (0.35 if kind in face_masks.PARTS else 0.75)


def test_masks_of_parts_cover_their_landmarks() -> None:
    places = {"mouth": (90, 126), "nose": (90, 98), "right_eye": (70, 80), "left_eye": (110, 80)}
    for kind, (x, y) in places.items():
        rng = np.random.default_rng(0)
        mask = face_masks.draw_mask(FACE, (200, 180), rng, kind=kind, softness=0.05)
        assert mask[y, x] > 0.5
        others = [place for other, place in places.items() if other != kind]
        assert all(mask[down, across] < 0.5 for across, down in others)


@pytest.mark.parametrize("kind", ["self_blend", "swap", "twin", "mouth", "low_resolution"])
def test_forged_face_differs_from_its_genuine_one_only_under_the_mask(kind: str) -> None:
    forger = Forger({"copy": lambda pixels: 255 - pixels})
    for seed in range(6):
        rng = np.random.default_rng(seed)
        couple = forger.forge(region(1), region(2), region(3), rng, kind=kind)
        assert couple.genuine.shape == couple.forged.shape
        same = (couple.genuine == couple.forged).all(axis=2)
        assert same[couple.mask == 0].all()
        assert not same[couple.mask > 0.2].all()


def test_poisson_swap_brings_the_other_face_without_a_seam() -> None:
    rng = np.random.default_rng(3)
    couple = Forger({}).poisson_swap(region(1), region(2), region(1), rng, parts=0.0)
    inside = couple.mask > 0
    changed = np.abs(couple.forged.astype(int) - couple.genuine).max(axis=2)
    assert (changed[inside] > 3).mean() > 0.5
    assert changed[~cv2.dilate(couple.mask, np.ones((5, 5))).astype(bool)].mean() < 0.5
    np.testing.assert_array_equal(couple.genuine, region(1).pixels)


def test_whole_twin_is_the_decoded_picture() -> None:
    forger = Forger({"copy": lambda pixels: 255 - pixels})
    rng = np.random.default_rng(0)
    couple = forger.forge(region(1), region(2), region(1), rng, kind="whole_twin")
    np.testing.assert_array_equal(couple.forged, 255 - couple.genuine)
    assert couple.mask.min() == 1


def test_both_of_a_couple_go_through_one_history_and_one_crop() -> None:
    made = drawer()
    pixels = portrait(5)
    marked = pixels.copy()
    marked[118:134, 74:106] = (255, 0, 255)
    mask = np.zeros(pixels.shape[:2], np.float32)
    mask[118:134, 74:106] = 1
    for seed in range(8):
        rng = np.random.default_rng(seed)
        twice = face_fakes.Couple(pixels, pixels, np.zeros_like(mask))
        crops, cells = made.degrade(twice, FACE, rng)
        np.testing.assert_array_equal(*crops)
        assert not cells.any()
        rng = np.random.default_rng(seed)
        crops, cells = made.degrade(face_fakes.Couple(pixels, marked, mask), FACE, rng)
        gap = np.abs(crops[0].astype(float) - crops[1]).mean(axis=2)
        height = face_bank.MASK_CELLS
        seen = cv2.resize(gap, (height, height), interpolation=cv2.INTER_AREA)
        assert seen[cells > 128].min() > seen[cells == 0].mean() + 10


def test_landmarks_follow_a_flipped_and_shrunken_picture() -> None:
    pixels = np.zeros((200, 180, 3), np.uint8)
    for x, y in LANDMARKS:
        cv2.circle(pixels, (int(x), int(y)), 4, (255, 255, 255), -1)
    small = cv2.resize(pixels[:, ::-1], (90, 100), interpolation=cv2.INTER_AREA)
    moved = face_data.flip_face(face_data.move_face(FACE, scale=(0.5, 0.5)), width=90)
    assert all(small[round(y), round(x)].min() > 200 for x, y in moved.landmarks)
    assert moved.landmarks[0][0] < moved.landmarks[1][0]
    assert moved.width == FACE.width / 2


def test_region_keeps_the_face_and_the_border_of_its_picture() -> None:
    whole = portraits()[0]
    cut = face_bank.cut_region(whole, most_pixels=20)
    assert face_data.eye_distance(cut.face) == pytest.approx(20, abs=0.5)
    crop = FacePreprocess(side_pixels=48)
    near = crop.crop(cut.pixels, cut.face.points).astype(float)
    assert np.abs(near - crop.crop(whole.pixels, FACE.points)).mean() < 6
    tight = face_bank.move_border(Region(whole.pixels, FACE), np.random.default_rng(0))
    assert tight.pixels.shape != whole.pixels.shape
    across, down = np.floor(tight.face.points).astype(int).T
    assert (across >= 0).all()
    assert (down >= 0).all()
    assert (across < tight.pixels.shape[1]).all()
    assert (down < tight.pixels.shape[0]).all()


def test_fold_never_sees_its_faces_nor_a_method_that_it_leaves_out(tmp_path: Path) -> None:
    bank = build_bank(drawer(couples=60, left_out={"poisson_swap": 1}), folder=tmp_path)
    assert bank.masks.shape == (60, face_bank.MASK_CELLS, face_bank.MASK_CELLS)
    seen = {
        fold: {bank.names[index] for index in bank.sources[bank.without(fold)].ravel()}
        for fold in (None, 0, 1)
    }
    assert "poisson_swap" in seen[0]
    assert "poisson_swap" not in seen[1]
    assert {"press", "camera"} <= seen[None]
    assert "press" not in seen[0]
    assert "camera" not in seen[1]
    again = build_bank(drawer(couples=60, left_out={"poisson_swap": 1}), folder=tmp_path)
    np.testing.assert_array_equal(again.crops, bank.crops)


def test_donor_is_another_file_and_looks_the_same_way() -> None:
    made = drawer()
    rng = np.random.default_rng(0)
    for _ in range(20):
        donor = made.donor(made.portraits[0], rng)
        assert donor.item.path != made.portraits[0].item.path
        assert donor.fold == made.portraits[0].fold


def test_views_leave_out_faces_that_became_too_small() -> None:
    item = Item(Path("a"), 0, "press", {"path": "a.png"})
    large = np.tile(portrait(1), (4, 4, 1))
    one = face_data.Portrait(item, large, FACE, 0, 0, "press", 0)
    judge = SimpleNamespace(
        slot="face",
        preprocess=FacePreprocess(side_pixels=64),
        limits=Applicability(min_side_pixels=72),
    )
    views = face_views.view_portraits([one], judge=judge, cropped=["press"])
    names = [view.record.view for view in views]
    assert "clean" in names
    assert "thumbnail" not in names


def test_network_points_where_it_was_taught_and_exports_only_its_logit() -> None:
    torch.manual_seed(0)
    network = FaceNet(stages=2).eval()
    crops = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        logits, places = network.examine(crops, network.low(crops))
        assert torch.equal(network(crops), logits)
    assert logits.shape == (2,)
    assert places.shape == (2, 4, 4)
    numbers = np.zeros((1, 2), np.int64)
    masks = np.zeros((1, 10, 10), np.uint8)
    empty = np.zeros((1, 2, 64, 64, 3), np.uint8)
    bank = Bank(empty, numbers, numbers, ("a",), masks)
    with torch.inference_mode():
        hidden, targets = network.low(crops), torch.tensor([0.0, 1.0])
        losses = []
        for value in (0, 255):
            masks[:] = value
            objective = face.CoupleLoss(bank, face.LossShares(ranking=0.5, pointing=2.0))
            losses.append(float(objective(network, crops, hidden, np.zeros(1, int), targets)))
    judge = torch.nn.functional.binary_cross_entropy_with_logits
    above = torch.nn.functional.softplus(logits[0] - logits[1])
    expected = judge(logits, targets) + 0.5 * above + 2 * judge(places, torch.zeros(2, 4, 4))
    assert losses[0] == pytest.approx(float(expected), rel=1e-4)
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    rows = ["path\tsha256\tlabel\tsource"]
    clips = ["path\tsha256\tlabel\tsystem\tframes_decoded"]
    for number, (source, label) in enumerate(SOURCES.items()):
        kind = "fake" if label else "real"
        folder = data / ("video" if source in ("film", "talker") else "image") / kind / source
        folder.mkdir(parents=True)
        for index in range(2):
            pixels = portrait(10 * number + index)
            if source in ("film", "talker"):
                path = folder / f"{index}.mp4"
                write_clip(path, pixels)
            else:
                path = folder / f"{index}.png"
                Image.fromarray(pixels).save(path)
            name = path.relative_to(folder.parents[1])
            row = f"{name}\t{hashlib.sha256(path.read_bytes()).hexdigest()}\t{kind}\t{source}"
            if path.suffix == ".mp4":
                clips.append(f"{row}\t4")
            else:
                rows.append(row)
    (data / "image" / "manifest.tsv").write_text("\n".join(rows) + "\n")
    (data / "video" / "manifest.tsv").write_text("\n".join(clips) + "\n")
    return data


def write_clip(path: Path, pixels: Pixels) -> None:
    with av.open(path, "w") as sink:
        stream = sink.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = pixels.shape[1], pixels.shape[0], "yuv420p"
        for _ in range(4):
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        sink.mux(stream.encode(None))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_file(Autoencoder().state_dict(), folder / "taef2.safetensors")
    trunk = timm.create_model("mobilenetv2_100", pad_type="same")
    save_file(trunk.state_dict(), folder / FILE)
    return folder


def test_recipe_scores_every_face_by_a_model_that_never_saw_its_source(
    material: Path, weights: Path, tmp_path: Path
) -> None:
    config = {
        "threads": 1,
        "folds": FOLDS,
        "left_out": {"poisson_swap": 1},
        "cropped": ["press", "editor"],
        "outside": ["talker"],
        "loss": {"ranking": 1.0, "pointing": 1.0},
        "preprocess": {"side_pixels": 64},
        "fakes": {"seed": 1, "decoders": "own/decoders.safetensors", "decoder_steps": 1},
        "bank": {"couples": 12, "seed": 1, "methods": METHODS},
        "scenery": {
            "sources": ["urban"],
            "bank": {"couples": 4, "seed": 2, "methods": {"self_blend": 1.0}},
            "fit": {"epochs": 1, "couples_in_batch": 2},
        },
        "network": {"stages": 2, "residual": True},
        "fit": {"epochs": 1, "couples_in_batch": 2},
        "limits": {"min_side_pixels": 48},
    }
    output = tmp_path / "face-1"
    output.mkdir()
    finder = DrawnFinder()
    made = recipe(face.FaceRecipe, config)
    trained = face.train(made, data=material, weights=weights, output=output, finder=finder)
    keys = [(record.path, record.view) for record in trained.records]
    assert len(keys) == len(set(keys))
    for record in trained.records:
        assert len(record.logits) == 1
        if record.source.startswith("poisson"):
            assert (record.label, record.fold) == (1, 1)
        else:
            assert record.source in FOLDS[record.fold]
            assert record.label == SOURCES[record.source]
    assert not any(record.source == "urban" for record in trained.records)
    views = {s: {r.view for r in trained.records if r.source == s} for s in SOURCES}
    assert "cropped" in views["press"]
    assert "cropped" not in views["camera"]
    assert {"clean", "web"} <= views["film"]
    assert not views["talker"]
    told = [line.split(":")[0] for line in trained.facts["outside"]]
    assert {"talker, clean", "talker, crf_32", "talker, crf_40_360p"} <= set(told)
    assert any(record.source == "poisson_parts" for record in trained.records)
    assert not trained.network.training
    asked = finder.asked
    again = face.train(made, data=material, weights=weights, output=output, finder=finder)
    assert list(again.records) == list(trained.records)
    assert finder.asked == asked
