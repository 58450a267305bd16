"""The recipe of both tiers on made pictures, and the parts that keep it honest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from deepfake_training.imagenet import FILE
from deepfake_training.known import Known, assign_folds, choose_files, draw_probabilities
from deepfake_training.manifests import Item
from deepfake_training.records import FileLogits
from deepfake_training.runs import make_bundle
from deepfake_training.studies import variety
from deepfake_training.wide import crops as crops_module
from deepfake_training.wide.bundles import add_quick, choose_settled, find_trunk, fit_share
from deepfake_training.wide.clip import load_clip
from deepfake_training.wide.crops import make_cropper
from deepfake_training.wide.cutouts import SIDE, build_cutouts, copied_elsewhere, perceptual_hash
from deepfake_training.wide.head import apply_head, join_heads, put_head
from deepfake_training.wide.material import group_of, read_known
from deepfake_training.wide.recipe import WideRecipe
from deepfake_training.wide.tokens import (
    CLIP_PREPROCESS,
    FAR,
    NEAR,
    halve,
    measure_tokens,
    plan_crops,
    read_tokens,
)
from deepfake_training.wide.tuned import mean_state
from PIL import Image
from safetensors.torch import load_file, save_file

from deepfake.bundle import WEIGHTS, Bundle
from deepfake.errors import ModelError
from deepfake.networks.clip import ClipPicture, ClipTokens
from deepfake.preprocess import ImagePreprocess
from deepfake.trust import registry
from deepfake.types import OperatingPoints
from tests.training.recipes import recipe

pytestmark = pytest.mark.usefixtures("shallow_trunk")
SOURCES = {"phone": 0, "camera": 0, "scanner": 0, "first": 1, "second": 1, "third": 1}

SETTINGS = {
    "slot": "image",
    "name": "image-7",
    "threads": 1,
    "workers": 1,
    "folds": 2,
    "material": ["image"],
    "trunk": "clip.onnx",
    "preprocess": {"side_pixels": 96, "max_windows": 4},
    "limits": {"min_side_pixels": 96},
    "tuned": {"crops": 48, "batch": 8, "seed": 1},
    "judging": {"genuine": 1, "synthetic": 1, "most": 3},
    "head": {"crops": 48, "penalty": 0.001, "seed": 1, "first": 1, "last": 1},
}


def picture(label: int, seed: int, *, height: int = 250, width: int = 260) -> np.ndarray:
    """Grain over slopes; a synthetic one has a grid of sixteen pixels instead of grain."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[0:height, 0:width]
    slopes = (
        90 + 60 * np.sin(down / rng.uniform(20, 60)) + 40 * np.cos(across / rng.uniform(20, 60))
    )
    fine = 70 * ((down % 16 < 8) ^ (across % 16 < 8)) if label else rng.normal(0, 12, slopes.shape)
    return np.repeat((slopes + fine).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``image`` with a manifest: six repositories, four files each, one of them not readable."""
    folder = tmp_path_factory.mktemp("wide")
    lines = ["path\tsha256\tlabel\tsource\trepo"]
    for place, (source, label) in enumerate(SOURCES.items()):
        for number in range(4):
            path = folder / "image" / f"{source}-{number}.{'png' if label else 'jpg'}"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(picture(label, 10 * place + number)).save(path)
            if source == "phone" and number == 3:
                path.write_bytes(path.read_bytes()[:200])
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            word = "fake" if label else "real"
            lines.append(f"{path.name}\t{sha256}\t{word}\t{source}\tsomebody/{source}")
    (folder / "image" / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fresh weights in the forms that published ones have."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    trunk = timm.create_model("mobilenetv2_100", pad_type="same").state_dict()
    save_file({key: value.contiguous() for key, value in trunk.items()}, folder / FILE)
    write_clip(folder / "clip.onnx", blocks=1)
    return folder


def write_clip(path: Path, *, blocks: int) -> None:
    rng = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {
        "vision_model.embeddings.patch_embedding.weight": rng.normal(0, 0.02, (768, 3, 16, 16)),
        "vision_model.embeddings.class_embedding": rng.normal(0, 0.2, 768),
        "vision_model.embeddings.position_embedding.weight": rng.normal(0, 0.03, (197, 768)),
        "vision_model.pre_layrnorm.weight": np.ones(768),
        "vision_model.pre_layrnorm.bias": np.zeros(768),
    }
    nodes = []
    for index in range(blocks):
        base = f"vision_model.encoder.layers.{index}"
        for norm in ("layer_norm1", "layer_norm2"):
            tensors[f"{base}.{norm}.weight"] = np.ones(768)
            tensors[f"{base}.{norm}.bias"] = np.zeros(768)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"):
            room = "mlp" if part.startswith("fc") else "self_attn"
            entering, leaving = (3072 if part == "fc2" else 768), (3072 if part == "fc1" else 768)
            tensors[f"{base}.{room}.{part}.bias"] = np.zeros(leaving)
            name = f"onnx::MatMul_{index}_{part}"
            tensors[f"{name}_quantized"] = rng.integers(90, 166, (entering, leaving), np.uint8)
            tensors[f"{name}_zero_point"] = np.full(leaving, 128, np.uint8)
            tensors[f"{name}_scale"] = np.full(leaving, 0.0008, np.float32)
            inputs = ["tokens", f"{name}_quantized", "zero", f"{name}_zero_point"]
            place = f"/vision_model/encoder/layers.{index}/{room}/{part}/MatMul_quant"
            nodes.append(onnx.helper.make_node("MatMulInteger", inputs, [f"{name}_out"], place))
    stored = [
        onnx.numpy_helper.from_array(v if v.dtype == np.uint8 else v.astype(np.float32), k)
        for k, v in tensors.items()
    ]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "clip", [], [], stored)), path)


def known(label: int, source: str, group: str, number: int = 0) -> Known:
    return Known(Item(Path(f"{source}-{number}"), label, source), group, 0)


def test_weights_in_eight_bits_are_read_back(weights: Path) -> None:
    network = load_clip(weights / "clip.onnx", first=1, last=1)
    graph = onnx.load(weights / "clip.onnx").graph
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    levels = stored["onnx::MatMul_0_fc1_quantized"].astype(np.float32) - 128
    assert np.allclose(network.blocks[0].widen.weight.detach().numpy(), levels.T * 0.0008)
    with pytest.raises(ModelError, match="cannot be read"):
        load_clip(weights / "none.onnx")


def test_features_are_the_class_token_and_statistics_of_the_patches_of_each_block() -> None:
    torch.manual_seed(0)
    network = ClipTokens(first=2, last=3).eval()
    crops = torch.randn(2, 3, 224, 224)
    kept: list[torch.Tensor] = []
    for block in network.blocks:
        block.register_forward_hook(lambda _block, _inputs, tokens: kept.append(tokens))
    with torch.inference_mode():
        found = network(crops)
    assert found.shape == (2, network.features) == (2, 4 * 768)
    assert torch.equal(found[:, 768:1536], kept[1][:, 1:].mean(1))
    assert torch.equal(found[:, 1536:2304], kept[2][:, 0])
    wider = ClipTokens(first=2, last=3, spread=True).eval()
    wider.load_state_dict(network.state_dict())
    with torch.inference_mode():
        more = wider(crops)
    assert more.shape == (2, wider.features) == (2, 6 * 768)
    assert torch.equal(more[:, :1536], found[:, :1536])
    spread = kept[1][:, 1:].std(1, correction=0)
    torch.testing.assert_close(more[:, 1536:2304], spread, atol=1e-3, rtol=1e-3)
    assert ClipPicture(first=1, last=1)(crops).shape == (2,)


def test_two_heads_are_one_on_both_scales() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = ClipPicture(first=1, last=1, scales=2).eval()
    features = network.trunk.features
    near, far = (
        (
            rng.normal(0, 1, features).astype(np.float32),
            rng.uniform(0.5, 1, features).astype(np.float32),
            rng.normal(0, 0.1, features).astype(np.float32),
            float(rng.normal()),
        )
        for _ in range(2)
    )
    put_head(network, join_heads(near, far))
    crops = CLIP_PREPROCESS.scale(rng.integers(0, 256, (3, 448, 448, 3), np.uint8))
    with torch.inference_mode():
        logits = network(torch.from_numpy(crops)).numpy()
        seen = [
            network.trunk(torch.from_numpy(np.ascontiguousarray(one))).numpy()
            for one in (crops[..., :224, :224], halve(crops))
        ]
        alone = network.alone()(torch.from_numpy(np.ascontiguousarray(crops[..., :224, :224])))
    parts = [apply_head(one, head) for one, head in zip(seen, (near, far), strict=True)]
    assert logits == pytest.approx(np.mean(parts, axis=0), abs=1e-4)
    middle = (near[3] + far[3]) / 2 - near[3]
    assert alone.numpy() == pytest.approx(parts[0] + middle, abs=1e-4)


def test_groups_are_repositories_and_folds_hold_both_classes() -> None:
    item = Item(Path("a"), 0, "openalpr-us", {"repo": "openalpr/benchmarks"})
    assert group_of(item) == "openalpr/benchmarks"
    assert group_of(Item(Path("a"), 1, "taef2_recon", {"repo": "x/y"})) == "bsds500"
    members = [(f"g{n}", 0) for n in range(6) for _ in range(5)]
    members += [(f"s{n}", 1) for n in range(6) for _ in range(3)]
    homes = assign_folds(members, folds=3)
    for label in "gs":
        assert {fold for group, fold in homes.items() if group[0] == label} == {0, 1, 2}


def test_sources_and_groups_count_by_the_root_of_their_files() -> None:
    pictures = [known(0, "many", "a", n) for n in range(16)] + [
        known(0, "few", "b", n) for n in range(4)
    ]
    pictures += [known(1, "one", "c")]
    chance = draw_probabilities(pictures)
    assert chance[:20].sum() == pytest.approx(0.5)
    assert chance[:16].sum() / chance[16:20].sum() == pytest.approx(2)
    assert chance[20] == pytest.approx(0.5)


def is_mirrored(crop: np.ndarray) -> bool:
    """Whether its last rows repeat earlier ones backwards."""
    side = len(crop)
    return any(
        np.array_equal(crop[place:], crop[2 * place - side : place][::-1])
        for place in range(side // 2, side)
    )


def test_cutouts_and_crops_of_readable_files(data: Path, tmp_path: Path) -> None:
    pictures = read_known([data / "image"], folds=2)
    assert len(pictures) == 24
    cutouts = build_cutouts(pictures, tmp_path, seed=1, workers=1)
    assert len(cutouts.files) == 23, "small files give one each, the broken one none"
    assert cutouts.pixels.shape[1:] == (SIDE, SIDE, 3)
    assert {int(q) > 0 for q in cutouts.quality} == {True, False}
    cropper = make_cropper(cutouts, pictures, ImagePreprocess(side_pixels=160))
    for number in (0, 20):
        some = [cropper.augmented(number, np.random.default_rng(seed)) for seed in (1, 1, 2)]
        assert some[0].shape == (160, 160, 3)
        assert np.array_equal(some[0], some[1])
        assert not np.array_equal(some[0], some[2])
    again = build_cutouts(pictures, tmp_path, seed=1, workers=1)
    assert np.array_equal(again.pixels, cutouts.pixels)


def test_some_crops_show_a_picture_smaller_than_themselves(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = read_known([data / "image"], folds=2)
    cutouts = build_cutouts(pictures, tmp_path, seed=1, workers=1)
    cropper = make_cropper(cutouts, pictures, ImagePreprocess(side_pixels=32))

    def mirrored() -> int:
        crops = [cropper.augmented(0, np.random.default_rng(seed)) for seed in range(30)]
        return sum(map(is_mirrored, crops))

    usual = mirrored()
    monkeypatch.setattr(crops_module, "SMALL", 1.0)
    assert mirrored() == 30
    monkeypatch.setattr(crops_module, "SMALL", 0.0)
    assert mirrored() < usual < 30


def test_near_copies_have_near_hashes() -> None:
    one = picture(0, 3)
    small = np.asarray(Image.fromarray(one).resize((130, 125)))
    assert (perceptual_hash(one) ^ perceptual_hash(small)).bit_count() <= 6
    other = perceptual_hash(picture(0, 4))
    assert (perceptual_hash(one) ^ other).bit_count() > 12
    hashes = [perceptual_hash(one), other, other ^ 7, perceptual_hash(one), 0, 0]
    folds = np.array([0, 0, 1, 0, 0, 1])
    found = copied_elsewhere(np.array(hashes, np.uint64), folds)
    assert found.tolist() == [False, True, True, False, False, False]


@pytest.mark.usefixtures("traced_graphs")
def test_a_stopped_run_of_tokens_goes_on(data: Path, weights: Path, tmp_path: Path) -> None:
    pictures = read_known([data / "image"], folds=2)
    cutouts = build_cutouts(pictures, tmp_path / "cutouts", seed=1, workers=1)
    trunk = load_clip(weights / "clip.onnx", first=1, last=1)

    def measure(folder: Path, crops: int, scale: str = NEAR) -> np.ndarray:
        return measure_tokens(
            trunk,
            pictures,
            cutouts,
            graph=tmp_path / "clip.onnx",
            folder=folder,
            scale=scale,
            crops=crops,
            threads=1,
            seed=1,
        ).values

    whole = measure(tmp_path / "whole", 24)
    measure(tmp_path / "parts", 8)
    assert np.array_equal(measure(tmp_path / "parts", 24), whole)
    far = measure(tmp_path / "far", 8, FAR)
    assert far.shape == whole[:8].shape
    assert not np.array_equal(far, whole[:8])
    tokens = read_tokens(pictures, folder=tmp_path / "whole", crops=24, seed=1)
    assert sorted(tokens.files) == list(range(24)), "every file once before any twice"
    plan = plan_crops(pictures, crops=48, seed=1)
    assert all(sum(c for f, c in plan if f == file) == 1 for file in range(24))


def test_the_mean_of_networks_is_taken_of_every_weight() -> None:
    one, other = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    other.weight.data.fill_(3)
    other.running_mean.fill_(4)
    mean = mean_state([one, other])
    assert mean["weight"].tolist() == [2, 2]
    assert mean["running_mean"].tolist() == [2, 2]
    assert mean["num_batches_tracked"].dtype == torch.int64


def test_files_of_a_source_that_are_judged_are_bounded() -> None:
    pictures = [known(0, "many", "a", n) for n in range(9)] + [
        known(1, "few", "b", n) for n in range(2)
    ]
    chosen = choose_files(pictures, most=(3, 1), seed=1)
    assert [pictures[n].source for n in chosen].count("many") == 3
    assert [pictures[n].source for n in chosen].count("few") == 1


def record(label: int, source: str, logit: float) -> FileLogits:
    return FileLogits("a", label, source, source, 0, "clean", (logit,))


def test_the_quick_tier_counts_where_it_helps() -> None:
    rng = np.random.default_rng(0)
    labels = [number % 2 for number in range(400)]
    own = [
        record(label, f"s{label}{n // 2 % 4}", float(rng.normal(label, 1.0)))
        for n, label in enumerate(labels)
    ]
    told = [float(rng.normal(label, 1.0)) for label in labels]
    assert fit_share(own, told) == pytest.approx(1.0, abs=0.35)
    assert fit_share(own, rng.normal(0, 1, 400).tolist()) < 0.3
    assert add_quick(own, told, share=2.0)[0].logits[0] == pytest.approx(
        own[0].logits[0] + 2 * told[0], abs=1e-4
    )


def test_limits_send_on_what_the_quick_tier_cannot_tell() -> None:
    labels = np.array([0, 1] * 100)
    clear = np.where(labels == 1, 0.95, 0.05)
    quick = clear.copy()
    quick[:60] = 0.5
    quick[60:70] = 0.85
    points = OperatingPoints(authentic=0.3, suspicious=0.8, synthetic=0.9)
    settled = choose_settled(quick, clear, labels, points=points, loss=0.01)
    assert settled.holds([0.05])
    assert settled.holds([0.95])
    assert not settled.holds([0.5])
    assert not settled.holds([0.85]), "suspicious is no last word"
    useless = choose_settled(np.full(200, 0.5), clear, labels, points=points, loss=0.01)
    assert not useless.holds([0.5])


@pytest.mark.usefixtures("traced_graphs")
@pytest.mark.slow
def test_from_files_to_two_tiers_that_answer_together(
    data: Path, weights: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    two_scales = {"scales": 2, "preprocess": {"side_pixels": 192, "max_windows": 4}}
    made = recipe(WideRecipe, SETTINGS | two_scales)
    runs = tmp_path / "runs"
    make_bundle(made, data=data, weights=weights, models=models, runs=runs)
    assert (runs / "image-7" / "failures.png").stat().st_size > 1000
    assert (runs / "image-7" / "large" / "metrics.json").exists()
    registry.activate(models, "image-7")
    active = registry.activate(models, "image-7-large")
    assert {slot: bundle.name for slot, bundle in active.items()} == {
        "image": "image-7",
        "image-large": "image-7-large",
    }
    assert active["image"].network_options == {"scales": 2}
    full = Bundle.read(models / "image-7-large")
    full.verify()
    assert find_trunk(full.folder, full.network_options) == full.folder / WEIGHTS
    assert find_trunk(full.folder, full.network_options | {"last": 2}) is None
    assert find_trunk(tmp_path / "none", full.network_options) is None
    assert full.extra_files() == [] == Bundle.read(models / "image-7").extra_files()
    for name in ("image-7", "image-7-large"):
        card = (models / name / "README.md").read_text(encoding="utf-8")
        assert "(roc.png)" in card
        assert "| poster | 4 |" in card
    assert full.calibration.quick is not None
    apart = full.provenance["AUC of single crops"]
    assert sorted(apart) == ["both", "far", "near"]
    assert min(apart.values()) > 0.9
    rows = [r for r in full.metrics["sources"] if r["view"] == "clean" and r["label"]]
    assert [row["auc"] for row in rows] == pytest.approx([1, 1, 1], abs=0.15)


@pytest.mark.slow
def test_every_variant_is_judged_on_what_it_did_not_see(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variety, "GENUINE", (1, 20))
    monkeypatch.setattr(variety, "LEAST_FILES", 2)
    made = recipe(WideRecipe, SETTINGS)

    def compare() -> list[variety.Row]:
        return variety.compare(made, data=data, weights=weights, runs=tmp_path, crops=16, fold=1)

    rows = compare()
    names = [row.variant for row in rows]
    assert names == [
        *("all", "1 genuine sources", "older material alone", "without pairs"),
        *("fixed trunk", "shrunk", "both by one network", "all and shrunk"),
    ]
    folder = tmp_path / "image-7" / "variety-1-16"
    alone, shrunk = (variety.read_said(folder / f"{name}.npz") for name in ("all", "shrunk"))
    assert (alone.files == shrunk.files).all()
    pictures = read_known([data / "image"], folds=2)
    labels = np.array([float(pictures[file].label) for file in alone.files])
    assert rows[-1].auc_plain == variety.auc(labels, alone.plain + shrunk.plain)
    assert [row.genuine_sources for row in rows[:2]] == [2, 1]
    assert rows[0].systems == rows[1].systems
    fixed = load_file(tmp_path / "image-7" / "variety-1-16" / "fixed-trunk.safetensors")
    first = load_file(weights / FILE)["blocks.3.0.conv_pw.weight"]
    assert torch.equal(fixed["trunk.blocks.3.0.conv_pw.weight"], first)
    assert "| fixed trunk | 2 |" in variety.table(rows)
    monkeypatch.setattr(variety, "tune_network", None)
    assert compare() == rows, "what is done is not done again"
