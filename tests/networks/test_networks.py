"""The speech networks: lengths, gradients, export, and what their features do not hear."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch

from deepfake.errors import ModelError
from deepfake.networks import create
from deepfake.networks.speech import MobileSpeech, SpectralPlanes
from tests.shallow import shallow

RATE = 16000
by_band = pytest.mark.parametrize("by_band", [False, True])


def voice(seed: int, *, seconds: float) -> torch.Tensor:
    """A buzz of moving pitch and level in noise at -26 dBFS, float32 (samples,)."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    turns = np.cumsum(90 + 20 * seed + 30 * np.sin(2 * np.pi * rng.uniform(1, 3) * time)) / RATE
    buzz = sum(np.sin(2 * np.pi * k * turns) / k for k in range(1, 20))
    level = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(2, 4) * time)
    sound = buzz * level + rng.normal(0, 0.05, len(time))
    return torch.from_numpy((sound / sound.std() * 10 ** (-26 / 20)).astype(np.float32))


def voices(count: int, *, seconds: float) -> torch.Tensor:
    return torch.stack([voice(seed, seconds=seconds) for seed in range(count)])


def settle(*, by_band: bool) -> torch.nn.Module:
    """A network in evaluation mode whose batch norms know the sounds, so that rows differ."""
    torch.manual_seed(0)
    network = create("mobile_speech", by_band=by_band)
    with torch.no_grad():
        for _ in range(8):
            network(voices(4, seconds=1.0))
    return network.eval()


@by_band
def test_any_length_from_one_second(by_band: bool) -> None:
    network = settle(by_band=by_band)
    for seconds in (1.0, 1.2, 2.0, 4.0):
        with torch.inference_mode():
            logits = network(voices(3, seconds=seconds))
        assert logits.shape == (3,)
        assert torch.isfinite(logits).all()
        assert logits.std() > 1e-4


@by_band
def test_a_row_does_not_depend_on_its_batch(by_band: bool) -> None:
    network, batch = settle(by_band=by_band), voices(4, seconds=1.2)
    with torch.inference_mode():
        together = network(batch)
        for row in range(4):
            torch.testing.assert_close(
                network(batch[row : row + 1])[0], together[row], atol=1e-4, rtol=0
            )


def test_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    network = create("mobile_speech").to(memory_format=torch.channels_last)
    network(voices(4, seconds=1.2)).square().sum().backward()
    for key, value in network.named_parameters():
        assert value.grad is not None, key
        assert torch.isfinite(value.grad).all(), key
        if value.ndim > 1:
            assert value.grad.abs().max() > 0, key


def test_training_hides_bands_and_spans_and_use_nothing() -> None:
    network = create("mobile_speech")
    assert isinstance(network, MobileSpeech)
    torch.manual_seed(1)
    ones = torch.ones(400, 3, 96, 200)
    hidden = 1 - network._hide(ones)
    assert (hidden[:, 0] == hidden[:, 2]).all()
    untouched = (hidden.amax(dim=(1, 2, 3)) == 0).float().mean()
    assert 0.4 < untouched < 0.6
    assert 0.05 < hidden.mean() < 0.3
    assert (hidden[:, 0, -1].mean(dim=1) == 1).float().mean() > 0.1  # as a telephone
    spans = hidden[:, 0].amin(dim=1).sum(dim=1)
    assert 0 < spans.max() < network.HIDDEN_FRAMES
    assert (network.eval()._hide(ones) == 1).all()


@by_band
def test_other_backends_agree(tmp_path: Path, by_band: bool) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    import onnxruntime
    from deepfake_training.export import export_onnx

    with contextlib.nullcontext() if by_band else shallow():  # the planes differ, not the trunk
        network, batch = settle(by_band=by_band), voices(3, seconds=1.2)
    path = tmp_path / "model.onnx"
    export_onnx(network, batch.numpy(), path)
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert not operators & {"STFT", "DFT", "If", "Loop"}
    with torch.inference_mode():
        expected = network(batch).numpy()
    session = onnxruntime.InferenceSession(path)
    for rows in (3, 1):
        (logits,) = session.run(None, {"batch": batch[:rows].numpy()})
        np.testing.assert_allclose(logits, expected[:rows], atol=1e-4)
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(
        path, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )
    (logits,) = compiled([batch.numpy()]).values()
    np.testing.assert_allclose(logits, expected, atol=1e-3)


@by_band
def test_level_is_hardly_heard(by_band: bool) -> None:
    planes = SpectralPlanes(by_band=by_band)
    batch = voices(3, seconds=1.2)
    for gain in (0.7, 1.4):
        assert (planes(gain * batch) - planes(batch)).abs().mean() < 0.02


def test_every_plane_has_one_scale_and_by_band_every_band_its_mean() -> None:
    batch = voices(3, seconds=1.5)
    for planes in (SpectralPlanes()(batch), SpectralPlanes(by_band=True)(batch)):
        assert planes.shape == (3, 3, 96, 147)
        torch.testing.assert_close(planes.mean(dim=(2, 3)), torch.zeros(3, 3), atol=1e-4, rtol=0)
        torch.testing.assert_close(planes.std(dim=(2, 3)), torch.ones(3, 3), atol=1e-2, rtol=0)
    bands = planes[:, :2].mean(dim=3)
    torch.testing.assert_close(bands, torch.zeros(3, 2, 96), atol=1e-4, rtol=0)


def test_by_band_an_equaliser_is_not_heard() -> None:
    batch = voices(2, seconds=1.5)
    spectrum = torch.fft.rfft(batch)
    tilted = torch.fft.irfft(spectrum * 10 ** (torch.linspace(-6, 6, spectrum.shape[-1]) / 20))
    moved = {
        flag: float(
            (SpectralPlanes(by_band=flag)(tilted) - SpectralPlanes(by_band=flag)(batch))[:, :2]
            .abs()
            .mean()
        )
        for flag in (False, True)
    }
    assert moved[True] < 0.3 * moved[False]


@pytest.mark.parametrize("hertz", [300, 1000, 3000, 6000])
def test_bands_are_where_they_should_be(hertz: int) -> None:
    time = torch.arange(RATE) / RATE
    tone = torch.sin(2 * torch.pi * hertz * time)
    mel, equal, _ = SpectralPlanes()(tone[None])[0]
    assert (int(equal[:, 20].argmax()) + 1) / 97 * 7400 == pytest.approx(hertz, abs=80)
    top = 2595 * np.log10(1 + 7400 / 700)
    low = 2595 * np.log10(1 + 40 / 700)
    place = low + (int(mel[:, 20].argmax()) + 1) / 97 * (top - low)
    assert 700 * (10 ** (place / 2595) - 1) == pytest.approx(hertz, rel=0.05, abs=30)


def test_what_lies_above_the_top_is_not_heard() -> None:
    batch = voices(2, seconds=1.5)
    time = torch.arange(batch.shape[1]) / RATE
    hissed = batch + 0.02 * torch.sin(2 * torch.pi * 7800 * time)
    assert (SpectralPlanes()(hissed) - SpectralPlanes()(batch)).abs().mean() < 0.02


def test_unknown_networks_are_named() -> None:
    with pytest.raises(ModelError, match=r"'nothing': unknown; known: .*mobile_speech"):
        create("nothing")
