"""The bank of couples, and the fit of a network of the ``face`` slot to it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from deepfake_training.face.couples import Bank, build_bank
from deepfake_training.face.fit import (
    CropFitSettings,
    FaceOptions,
    fit,
    load_stages,
    low_features,
)
from deepfake_training.face.recipe import CoupleLoss, LossShares
from deepfake_training.imagenet import FILE
from safetensors.torch import load_file, save_file

from deepfake.errors import ModelError
from deepfake.networks.faces import FaceNet
from deepfake.preprocess import FacePreprocess

OPTIONS = FaceOptions(stages=2, residual=True)
PREPROCESS = FacePreprocess(side_pixels=64)


def new_network(seed: int) -> FaceNet:
    torch.manual_seed(seed)
    return FaceNet(**asdict(OPTIONS))


def draw(number: int) -> tuple[Any, ...]:
    """A couple whose halves differ in one corner."""
    rng = np.random.default_rng(number)
    genuine = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    forged, mask = genuine.copy(), np.zeros((10, 10), np.uint8)
    forged[:16, :16], mask[:2, :2] = 255, 255
    fold = number % 3
    return [genuine, forged], ("camera", f"method {fold}"), (fold, fold, 2 - fold), mask


def drawer(couples: int, **key: Any) -> Any:
    return SimpleNamespace(couples=couples, side=64, cells=10, draw=draw, key=key)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    trunk = timm.create_model("mobilenetv2_100", pad_type="same")
    save_file(trunk.state_dict(), folder / FILE)
    return folder


def test_what_a_fold_must_not_see_leaves_with_it(tmp_path: Path) -> None:
    bank = build_bank(drawer(9), folder=tmp_path)
    assert bank.names == ("camera", "method 0", "method 1", "method 2")
    assert bank.without(None).tolist() == list(range(9))
    assert bank.without(0).tolist() == [1, 4, 7], "of fold 2 the third is of fold 0"
    assert bank.without(1).tolist() == [0, 2, 3, 5, 6, 8]


def test_an_interrupted_bank_goes_on_to_the_same_crops(tmp_path: Path) -> None:
    whole = build_bank(drawer(8, seed=5), folder=tmp_path / "whole")
    build_bank(drawer(8, seed=5), folder=tmp_path / "cut")
    facts = tmp_path / "cut" / "couples.jsonl"
    facts.write_text("\n".join(facts.read_text().splitlines()[:4]) + "\n")
    asked: list[int] = []

    def watched(number: int) -> tuple[Any, ...]:
        asked.append(number)
        return draw(number)

    again = drawer(8, seed=5)
    again.draw = watched
    resumed = build_bank(again, folder=tmp_path / "cut")
    assert asked == [3, 4, 5, 6, 7]
    np.testing.assert_array_equal(whole.crops, resumed.crops)
    np.testing.assert_array_equal(whole.masks, resumed.masks)
    np.testing.assert_array_equal(whole.sources, resumed.sources)
    again.key = {"seed": 6}
    build_bank(again, folder=tmp_path / "cut")
    assert asked[5:] == list(range(8)), "other settings draw it anew"


def test_imagenet_weights_reach_the_network(weights: Path, tmp_path: Path) -> None:
    network = new_network(1)
    load_stages(network, weights)
    trunk = timm.create_model("mobilenetv2_100", pad_type="same")
    trunk.load_state_dict(load_file(weights / FILE))
    batch = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        hidden = trunk.eval().blocks[:5](trunk.bn1(trunk.conv_stem(batch)))
        torch.testing.assert_close(network.eval().high(network.low(batch)), hidden)
    with pytest.raises(ModelError, match="cannot be read"):
        load_stages(network, tmp_path)
    save_file({"conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / FILE)
    with pytest.raises(ModelError, match="lack"):
        load_stages(network, tmp_path)


def test_a_fit_tunes_the_late_stages_only_and_goes_on_from_its_checkpoint(
    weights: Path, tmp_path: Path
) -> None:
    bank: Bank = build_bank(drawer(9), folder=tmp_path / "bank")
    first = new_network(1)
    load_stages(first, weights)
    before = {key: value.clone() for key, value in first.state_dict().items()}
    features = low_features(first, bank, preprocess=PREPROCESS)
    assert features.shape == (9, 2, 32, 8, 8)

    def tune(network: FaceNet) -> dict[str, torch.Tensor]:
        return fit(
            network,
            bank,
            features,
            fold=None,
            preprocess=PREPROCESS,
            settings=CropFitSettings(epochs=1, couples_in_batch=3),
            checkpoint=tmp_path / "fit.checkpoint",
            objective=CoupleLoss(bank, LossShares(ranking=1.0, pointing=1.0)),
        ).state_dict()

    tuned = tune(first)
    for key, value in before.items():
        assert torch.equal(tuned[key], value) == key.startswith("low."), key
    resumed = tune(new_network(9))
    for key, value in tuned.items():
        assert torch.equal(resumed[key], value), key
