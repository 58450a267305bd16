"""The chain that gradients follow gives what the detector itself gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from deepfake_training import perturb
from deepfake_training.attacks.chain import Chain, pool_windows
from deepfake_training.attacks.compression import compress_softly
from deepfake_training.attacks.distortion import measure_psnr
from deepfake_training.attacks.gradients import (
    Ball,
    attack_by_gradients,
    corner_mask,
    fit_universal,
    repeat_tile,
)

from deepfake.bundle import Bundle, Calibration, QuickShare
from deepfake.detector import Detector
from deepfake.errors import ModelError
from deepfake.preprocess import LEAST_OVERVIEW
from deepfake.settings import DetectOptions, Settings
from tests.bundles import POINTS, add_full_tier, make_bundle
from tests.media_files import scene, speech, wav_bytes

from .networks import PICTURES, SPEECH_AT_LARGE, make_derivable, make_derivable_models


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_derivable_models(tmp_path_factory.mktemp("derivable"))


@pytest.fixture(scope="module")
def detector(models: Path) -> object:
    settings = Settings(models_folder=models, backend="torch", device="cpu", threads=1)
    with Detector(settings) as detector:
        yield detector


def score(odds: torch.Tensor) -> float:
    return float(torch.sigmoid(odds.detach()))


@pytest.mark.parametrize("size", [(130, 90), (200, 40), (30, 26)])
def test_pictures_score_as_in_the_detector(detector: Detector, size: tuple[int, int]) -> None:
    pixels = scene(*size, seed=1)
    report = detector.detect(pixels, DetectOptions(stability=False))
    (found,) = [one for one in report.evidence if one.source == "image"]
    view = Chain(detector.engine.active, "image").view(pixels)
    assert view is not None
    (odds,) = view.odds(torch.from_numpy(pixels.astype(np.float32)), stable=False)
    assert found.score is not None
    # The detector rounds an overview, which the largest one has, to whole levels.
    gap = 1e-3 if min(size) > LEAST_OVERVIEW * PICTURES.side_pixels else 1e-4
    assert score(odds) == pytest.approx(found.score, abs=gap)
    assert len(view.odds(torch.from_numpy(pixels.astype(np.float32)))) == 2


def test_sounds_score_as_in_the_detector(detector: Detector) -> None:
    samples = speech(3.3)
    report = detector.detect(wav_bytes(samples))
    (found,) = [one for one in report.evidence if one.source == "audio"]
    heard = np.round(samples * 32767).astype(np.float32) / 32768
    view = Chain(detector.engine.active, "audio").view(heard)
    assert view is not None
    (odds,) = view.odds(torch.from_numpy(heard))
    assert found.score is not None
    assert score(odds) == pytest.approx(found.score, abs=2e-3)
    assert Chain(detector.engine.active, "audio").view(np.zeros(20000, np.float32)) is None


def test_the_full_tier_counts_the_quick_one_in(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    add_full_tier(folder, settled=None, share=0.5)
    make_derivable(folder, "image-1-large")
    full = Chain(
        Detector(Settings(models_folder=folder, backend="torch", threads=1)).engine.active, "image"
    )
    assert len(full.tiers) == 2
    pixels = torch.from_numpy(scene(96, 64).astype(np.float32))
    view = full.view(pixels.numpy())
    assert view is not None
    quick, both = view.odds(pixels, stable=False)
    assert quick != both
    only = Chain({"image": full.tiers[0].bundle}, "image").view(pixels.numpy())
    assert only is not None
    assert only.odds(pixels, stable=False)[0] == pytest.approx(float(quick), abs=1e-5)


def test_both_tiers_of_sounds_score_as_in_the_detector(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    make_bundle(folder / "audio-1-large", preprocess=SPEECH_AT_LARGE)
    counted = QuickShare(slope=0.7, sha256=Bundle.read(folder / "audio-1").logit_sha256)
    make_derivable(folder, "audio-1-large", quick=counted, slope=-2.0, intercept=1.0)
    samples = np.round(speech(3.3) * 32767).astype(np.float32) / 32768
    settings = Settings(models_folder=folder, backend="torch", device="cpu", threads=1)
    with Detector(settings) as detector:
        report = detector.detect(wav_bytes(samples), DetectOptions(effort="full"))
        (found,) = [one for one in report.evidence if one.source == "audio"]
        view = Chain(detector.engine.active, "audio").view(samples)
    assert found.bundle == "audio-1-large"
    assert found.score is not None
    assert view is not None
    signal = torch.from_numpy(samples).requires_grad_(True)
    quick, both = view.odds(signal)
    assert score(quick) == pytest.approx(found.details["quick_score"], abs=2e-3)
    assert score(both) == pytest.approx(found.score, abs=2e-3)
    (gradient,) = torch.autograd.grad(both, signal)
    assert float(gradient.abs().max()) > 0


def test_pooling_is_that_of_the_calibration() -> None:
    rng = np.random.default_rng(2)
    for span, top in ((0, 1.0), (0, 0.3), (2, 0.5), (3, 1.0)):
        calibration = Calibration(
            slope=1, intercept=0, spread=0.1, points=POINTS, top_fraction=top, span_windows=span,
            length_penalty=0.2,
        )  # fmt: skip
        for count in (1, 7, 24):
            logits = rng.normal(0, 2, count).astype(np.float32)
            pooled = float(pool_windows(torch.from_numpy(logits), calibration))
            assert pooled == pytest.approx(calibration.pool(logits), abs=1e-5)


def test_a_bundle_without_weights_is_told(known_models: Path) -> None:
    from deepfake.trust.registry import read_bundles

    with pytest.raises(ModelError, match="has no model"):
        Chain(read_bundles(known_models), "image")


@pytest.mark.parametrize("quality", [40, 75, 95])
def test_soft_jpeg_is_close_to_jpeg_and_has_gradients(quality: int) -> None:
    pixels = scene(90, 70, seed=5)
    entering = torch.from_numpy(pixels.astype(np.float32)).requires_grad_(True)
    soft = compress_softly(entering, quality=quality)
    soft.square().sum().backward()
    assert entering.grad is not None
    assert float(entering.grad.abs().mean()) > 1
    rounded = soft.detach().numpy().round().astype(np.uint8)
    coded = perturb.jpeg(pixels, quality=quality)
    near, far = measure_psnr(coded, rounded), measure_psnr(coded, pixels)
    assert near is not None
    assert far is not None
    assert near > far + 3


@pytest.mark.parametrize("synthetic", [True, False])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_moves_the_real_answer(detector: Detector, norm: str, synthetic: bool) -> None:
    pixels = scene(96, 64, seed=3)
    view = Chain(detector.engine.active, "image").view(pixels)
    assert view is not None
    ball = Ball(norm, 6.0 if norm == "linf" else 3.0)
    changed = attack_by_gradients(
        pixels.astype(np.float32), view, ball, synthetic=synthetic, steps=12,
        rng=np.random.default_rng(1),
    )  # fmt: skip
    difference = changed - pixels
    size = np.abs(difference).max() if norm == "linf" else np.sqrt(np.mean(difference**2))
    assert 0 < size <= ball.radius + 1e-3
    before = detector.detect(pixels, DetectOptions(stability=False)).probability
    after = detector.detect(
        changed.round().astype(np.uint8), DetectOptions(stability=False)
    ).probability
    assert before is not None
    assert after is not None
    assert (after < before - 0.05) if synthetic else (after > before + 0.05)


def test_a_patch_stays_in_its_corner(detector: Detector) -> None:
    pixels = scene(96, 64, seed=3).astype(np.float32)
    view = Chain(detector.engine.active, "image").view(pixels)
    mask = corner_mask(64, 96)
    assert view is not None
    assert 0.02 < mask.mean() < 0.06
    changed = attack_by_gradients(
        pixels, view, Ball("linf", 255.0, mask), synthetic=True, steps=3,
        rng=np.random.default_rng(1),
    )  # fmt: skip
    outside = mask[..., 0] == 0
    assert np.array_equal(changed[outside], pixels[outside])
    assert np.abs(changed - pixels).max() > 20


def test_a_universal_tile_moves_files_that_it_never_saw(detector: Detector) -> None:
    chain = Chain(detector.engine.active, "image")
    examples = []
    for seed in range(4):
        signal = scene(96, 64, seed=seed).astype(np.float32)
        view = chain.view(signal)
        assert view is not None
        examples.append((signal, view))
    tile = fit_universal(
        examples[:3], radius=8.0, synthetic=False, steps=30, rng=np.random.default_rng(1)
    )
    assert np.abs(tile).max() <= 8.0
    signal, view = examples[3]
    changed = np.clip(signal + repeat_tile(tile, signal.shape), 0, 255)
    before, after = (view.odds(torch.from_numpy(one))[0] for one in (signal, changed))
    assert after > before
