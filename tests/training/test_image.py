"""Couples of pictures, and the recipe for frames end to end on a few synthetic ones."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from deepfake_training.image import bank as image_bank
from deepfake_training.image import data as image_data
from deepfake_training.image import fakes as image_fakes
from deepfake_training.image.autoencoder import Autoencoder, load_autoencoder
from deepfake_training.image.couples import CopySettings, make_pairs
from deepfake_training.image.decoders import UPSAMPLERS
from deepfake_training.image.fit import (
    CropFitSettings,
    PictureOptions,
    fit,
    low_features,
    new_network,
    separate,
)
from deepfake_training.imagenet import FILE
from deepfake_training.manifests import Item
from deepfake_training.video import frame
from PIL import Image
from safetensors.torch import load_file, save_file

from deepfake.errors import ModelError
from deepfake.networks.pictures import PictureNet
from deepfake.preprocess import ImagePreprocess
from tests.training.recipes import recipe

SOURCES = {"camera-a": 0, "camera-b": 0, "maker-a": 1, "maker-b": 1}
FOLDS = [["camera-a", "maker-a"], ["camera-b", "maker-b"]]


def scene(seed: int, *, size: tuple[int, int] = (120, 136)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[0 : size[0], 0 : size[1]]
    waves = [np.sin(across / rng.uniform(3, 30) + down / rng.uniform(5, 40)) for _ in range(3)]
    grain = rng.normal(0, 3, (*size, 3))
    return (128 + 80 * np.stack(waves, axis=-1) + grain).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    rows = ["path\tsha256\tlabel\tsource"]
    for number, (source, label) in enumerate([*SOURCES.items(), ("lfw_faceswap", 1)]):
        kind = "fake" if label else "real"
        folder = data / "image" / kind / source
        folder.mkdir(parents=True)
        for index in range(3):
            path = folder / f"{index}.jpg"
            pixels = scene(10 * number + index)
            if label:
                pixels = pixels // 16 * 16
            Image.fromarray(pixels).save(path, quality=80)
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            rows.append(f"{path.relative_to(data / 'image')}\t{sha256}\t{kind}\t{source}")
    (data / "image" / "manifest.tsv").write_text("\n".join(rows) + "\n")
    return data


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_file(Autoencoder().state_dict(), folder / "taef2.safetensors")
    trunk = timm.create_model("mobilenetv2_100", pad_type="same")
    save_file(trunk.state_dict(), folder / "mobilenetv2_100_imagenet1k.safetensors")
    return folder


def test_the_recipe_for_frames_scores_every_file_by_a_model_that_never_saw_it_and_goes_on(
    material: Path, weights: Path, tmp_path: Path
) -> None:
    config = {
        "threads": 1,
        "folds": FOLDS,
        "preprocess": {"side_pixels": 64, "max_windows": 2},
        "fakes": {"seed": 1, "decoder_steps": 2, "adversarial_steps": 4},
        "bank": {"couples": 40, "seed": 1, "aligned": 0.3},
        "network": {"stages": 0, "residual": True},
        "fit": {"epochs": 1, "couples_in_batch": 2},
        "limits": {"min_side_pixels": 64},
    }
    made = recipe(frame.FrameRecipe, config)
    trained = frame.train(made, data=material, weights=weights, output=tmp_path)
    unseen = [record for record in trained.records if not record.heard]
    keys = {(record.path, record.view) for record in unseen}
    assert len(keys) == len(unseen) == 12 * 4
    for record in unseen:
        assert record.source in FOLDS[record.fold]
        assert record.label == SOURCES[record.source]
        assert record.group == "+".join(FOLDS[record.fold])
    for record in trained.records:
        if record.heard:
            assert record.source not in FOLDS[record.fold]
            assert not record.label
    assert isinstance(trained.network, PictureNet)
    assert not trained.network.training
    assert trained.facts["couples"] == 40
    assert trained.facts["aligned_couples"] > 0
    stored = {path: path.stat().st_mtime_ns for path in tmp_path.glob("**/*.safetensors")}
    assert len(stored) >= 3 + 2
    again = frame.train(made, data=material, weights=weights, output=tmp_path)
    assert list(again.records) == list(trained.records)
    for path, stamp in stored.items():
        assert path.stat().st_mtime_ns == stamp, f"{path.name} was made again"


def test_what_a_fold_must_not_see_leaves_with_it() -> None:
    bank = image_bank.Bank(
        crops=np.zeros((400, 2, 1, 1, 3), np.uint8),
        folds=np.repeat([[0, 0], [1, 1], [1, image_bank.RESERVED], [2, 2]], 100, axis=0),
        sources=np.zeros((400, 2), np.int64),
        aligned=np.zeros(400, bool),
        names=("a",),
    )
    assert len(bank.without(0)) == 200
    assert len(bank.without(None)) == 400


def test_copies_by_a_published_autoencoder_leave_with_its_files(tmp_path: Path) -> None:
    photo = scene(1, size=(128, 128))
    pictures = [
        image_data.Picture(
            item=Item(Path("a"), label, source, {"sha256": "1" * 64}),
            pixels=photo,
            quality=0,
            group="",
            fold=fold,
        )
        for fold, (source, label) in enumerate([("camera-a", 0), ("taef2_recon", 1)])
    ]
    pair = image_fakes.Pair(photo, photo, 0, "taef2", "camera-a", 0, reserved=True)
    drawer = image_bank.Drawer(
        pictures,
        [pair],
        preprocess=ImagePreprocess(side_pixels=48),
        settings=image_bank.BankSettings(couples=2, seed=1, aligned=1.0),
    )
    assert drawer.draw(0)[2] == (0, 1, image_bank.RESERVED)


def test_bank_never_shows_a_fold_its_own_pictures(
    material: Path, weights: Path, tmp_path: Path
) -> None:
    pictures = image_data.read_pictures(material / "image", folds=FOLDS)
    settings = CopySettings(seed=1, decoder_steps=1, adversarial_steps=4)
    pairs = make_pairs(pictures, settings, weights=weights, output=tmp_path)
    assert {pair.maker for pair in pairs} == {"taef2", "adversarial", *UPSAMPLERS}
    drawer = image_bank.Drawer(
        pictures,
        pairs,
        preprocess=ImagePreprocess(side_pixels=48),
        settings=image_bank.BankSettings(couples=60, seed=3),
    )
    bank = image_bank.build_bank(drawer, folder=tmp_path / "bank")
    assert bank.aligned.any()
    assert not bank.aligned.all()
    for fold in (0, 1):
        kept = bank.without(fold)
        assert 0 < len(kept) < 60
        seen = {bank.names[index] for index in bank.sources[kept].ravel()}
        assert not seen & set(FOLDS[fold])
    assert len(bank.without(None)) == 60


def test_interrupted_bank_goes_on_to_the_same_crops(material: Path, tmp_path: Path) -> None:
    pictures = image_data.read_pictures(material / "image", folds=FOLDS)
    settings = image_bank.BankSettings(couples=8, seed=5)
    preprocess = ImagePreprocess(side_pixels=48)
    drawer = image_bank.Drawer(pictures, [], preprocess=preprocess, settings=settings)
    whole = np.array(image_bank.build_bank(drawer, folder=tmp_path / "whole").crops)
    image_bank.build_bank(drawer, folder=tmp_path / "cut")
    facts = tmp_path / "cut" / "facts.jsonl"
    facts.write_text("\n".join(facts.read_text().splitlines()[:4]) + "\n")
    resumed = image_bank.build_bank(drawer, folder=tmp_path / "cut")
    np.testing.assert_array_equal(whole, resumed.crops)
    assert len(resumed.aligned) == 8


def test_aligned_crops_share_their_place_and_history() -> None:
    photo = scene(1, size=(200, 200))
    fake = photo.copy()
    fake[90:110, 90:110] = 255
    pair = image_fakes.Pair(photo, fake, 0, "taef2", "camera-a", 0)
    picture = image_data.Picture(
        item=Item(Path("a"), 0, "camera-a"), pixels=photo, quality=90, group="", fold=0
    )
    drawer = image_bank.Drawer(
        [picture],
        [pair],
        preprocess=ImagePreprocess(side_pixels=64),
        settings=image_bank.BankSettings(couples=1, seed=1, aligned=1.0),
    )
    for number in range(12):
        (genuine, synthetic), sources, _, aligned = drawer.draw(number)
        assert aligned
        assert sources == ("camera-a", "taef2")
        different = np.abs(genuine.astype(int) - synthetic).max(axis=2) > 40
        assert different.mean() < 0.35


def test_mixing_lies_between_photo_and_fake() -> None:
    photo, fake = scene(1), scene(2)
    for mix in (image_fakes.mix_pixels, image_fakes.mix_frequencies):
        np.testing.assert_allclose(mix(photo, fake, share=1.0), fake, atol=1)
        half = mix(photo, fake, share=0.5).astype(float)
        assert 0 < np.abs(half - photo).mean() < np.abs(fake.astype(float) - photo).mean()


@pytest.mark.parametrize("quality", [30, 60, 75, 92, 99])
def test_jpeg_quality_is_read_from_the_file(quality: int) -> None:
    stream = io.BytesIO()
    Image.fromarray(scene(1)).save(stream, "JPEG", quality=quality)
    pixels, found = image_data.decode(stream.getvalue())
    assert abs(found - quality) <= 1
    assert pixels.shape == (120, 136, 3)
    png = io.BytesIO()
    Image.fromarray(scene(1)).save(png, "PNG")
    assert image_data.decode(png.getvalue())[1] == 0


def test_source_in_no_fold_is_refused(material: Path) -> None:
    with pytest.raises(ValueError, match="'camera-b': in no fold"):
        image_data.read_pictures(material / "image", folds=[["camera-a", "maker-a", "maker-b"]])


def test_caption_changes_part_of_a_photo() -> None:
    pixels = scene(4)
    drawn = image_bank.add_caption(pixels, np.random.default_rng(2))
    share = (drawn != pixels).any(axis=2).mean()
    assert drawn.shape == pixels.shape
    assert 0 < share < 1


def test_imagenet_weights_reach_the_network(weights: Path, tmp_path: Path) -> None:
    network = new_network(PictureOptions(stages=2, residual=False), weights=weights)
    trunk = timm.create_model("mobilenetv2_100", pad_type="same")
    path = weights / "mobilenetv2_100_imagenet1k.safetensors"
    trunk.load_state_dict(load_file(path))
    batch = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        hidden = trunk.eval().blocks[:5](trunk.bn1(trunk.conv_stem(batch)))
        torch.testing.assert_close(network.eval().high(network.low(batch)), hidden)
    options = PictureOptions(stages=2, residual=False)
    with pytest.raises(ModelError, match="cannot be read"):
        new_network(options, weights=tmp_path)
    save_file({"conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / FILE)
    with pytest.raises(ModelError, match="lack"):
        new_network(options, weights=tmp_path)


def test_autoencoder_keeps_odd_sizes_and_refuses_other_weights(
    weights: Path, tmp_path: Path
) -> None:
    pixels = scene(1, size=(35, 50))
    copy = load_autoencoder(weights / "taef2.safetensors").reconstruct(pixels)
    assert copy.shape == pixels.shape
    assert copy.dtype == np.uint8
    save_file({"encoder.0.bias": torch.zeros(64)}, tmp_path / "taef2.safetensors")
    with pytest.raises(ModelError, match=r"taef2\.safetensors: cannot be loaded"):
        load_autoencoder(tmp_path / "taef2.safetensors")


def test_fit_tunes_the_late_stages_only_and_goes_on_from_its_checkpoint(
    material: Path, weights: Path, tmp_path: Path
) -> None:
    pictures = image_data.read_pictures(material / "image", folds=FOLDS)
    preprocess = ImagePreprocess(side_pixels=64)
    drawer = image_bank.Drawer(
        pictures,
        [],
        preprocess=preprocess,
        settings=image_bank.BankSettings(couples=9, seed=2),
    )
    bank = image_bank.build_bank(drawer, folder=tmp_path / "bank")
    first = new_network(PictureOptions(stages=1, residual=True), weights=weights)
    before = {key: value.clone() for key, value in first.state_dict().items()}
    features = low_features(first, bank, preprocess=preprocess)
    assert features is not None
    assert features.shape == (9, 2, 32, 8, 8)

    def tune(network: PictureNet, checkpoint: Path) -> PictureNet:
        return fit(
            network,
            bank,
            features,
            fold=None,
            preprocess=preprocess,
            settings=CropFitSettings(epochs=1, couples_in_batch=3),
            checkpoint=checkpoint,
            objective=separate,
        )

    tuned = tune(first, tmp_path / "fit.checkpoint").state_dict()
    for key, value in before.items():
        same = torch.equal(tuned[key], value)
        assert same == key.startswith("low."), key
    fresh = new_network(PictureOptions(stages=1, residual=True), weights=weights, seed=9)
    resumed = tune(fresh, tmp_path / "fit.checkpoint").state_dict()
    for key, value in tuned.items():
        assert torch.equal(resumed[key], value), key
