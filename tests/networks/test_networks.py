"""The speech networks: lengths, gradients, export, and what their features do not hear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepfake.errors import ModelError
from deepfake.networks import create
from deepfake.networks.speech import LogSpectrum, SpeechNet

RATE = 16000
SMALL = {"stages": 2, "dense": 8}
EVERY: list[tuple[str, dict[str, Any]]] = [
    ("spectrogram_mobilenet", SMALL),
    ("spectrogram_mobilenet", {**SMALL, "smooth_bins": 9}),
    ("spectrogram_mobilenet", {**SMALL, "fft": 1024, "merge": 4, "smooth_bins": 8}),
]
every_network = pytest.mark.parametrize(("name", "options"), EVERY)


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


def settle(name: str, options: dict[str, Any]) -> torch.nn.Module:
    """A network in evaluation mode whose batch norms know the sounds, so that rows differ."""
    torch.manual_seed(0)
    network = create(name, **options)
    with torch.no_grad():
        for _ in range(15):
            network(voices(6, seconds=1.0))
    return network.eval()


@every_network
def test_any_length_from_one_second(name: str, options: dict[str, Any]) -> None:
    network = settle(name, options)
    for seconds in (1.0, 1.2, 2.0, 4.0):
        with torch.inference_mode():
            logits = network(voices(3, seconds=seconds))
        assert logits.shape == (3,)
        assert torch.isfinite(logits).all()
        assert logits.std() > 1e-4


@every_network
def test_a_row_does_not_depend_on_its_batch(name: str, options: dict[str, Any]) -> None:
    network, batch = settle(name, options), voices(4, seconds=1.2)
    with torch.inference_mode():
        together = network(batch)
        for row in range(4):
            torch.testing.assert_close(
                network(batch[row : row + 1])[0], together[row], atol=1e-4, rtol=0
            )


@every_network
def test_gradient_reaches_every_parameter_in_mixed_precision(
    name: str, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    network = create(name, **options).to(memory_format=torch.channels_last)
    assert isinstance(network, SpeechNet)
    assert any("trunk." in key for key, _ in network.named_parameters())
    features = network.features(voices(4, seconds=1.2))
    assert features.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        logits = network.judge(features)
    logits.float().square().sum().backward()
    for key, value in network.named_parameters():
        assert value.grad is not None, key
        assert torch.isfinite(value.grad).all(), key
        if value.ndim > 1:
            assert value.grad.abs().max() > 0, key


@every_network
def test_training_hides_rows_and_spans(name: str, options: dict[str, Any]) -> None:
    network = create(name, **options)
    assert isinstance(network, SpeechNet)
    network.hidden_share = 1.0
    features = network.features(voices(1, seconds=2.0))
    assert features.shape[:3] == (1, 1, network.rows)
    torch.manual_seed(1)
    ones = torch.ones_like(features).expand(200, -1, -1, -1)
    hidden = 1 - network._hide(ones)
    assert 0.1 < hidden.mean() < 0.5
    assert (hidden[:, 0, -1].mean(dim=1) == 1).float().mean() > 0.2  # as a telephone
    spans = hidden.amin(dim=(1, 2)).sum(dim=1)
    assert 0 < spans.max() < network.hidden_frames
    network.eval()
    with torch.inference_mode():
        torch.testing.assert_close(network.judge(features), network.classify(features))


@every_network
def test_other_backends_agree(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    import onnxruntime
    from deepfake_training.export import export_onnx

    network, batch = settle(name, options), voices(3, seconds=1.2)
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


@every_network
def test_level_is_not_heard(name: str, options: dict[str, Any]) -> None:
    network, batch = settle(name, options), voices(3, seconds=1.2)
    with torch.inference_mode():
        expected = network(batch)
        for gain in (0.7, 1.4):
            moved = (network(gain * batch) - expected).abs().max()
            assert moved < 0.1 * expected.std()


def equalise(sound: torch.Tensor) -> torch.Tensor:
    """12 dB more at the top than at the bottom, in one broad sweep."""
    spectrum = torch.fft.rfft(sound)
    decibels = torch.linspace(-6, 6, spectrum.shape[-1])
    return torch.fft.irfft(spectrum * 10 ** (decibels / 20), n=sound.shape[-1])


@pytest.mark.parametrize("smooth_bins", [8, 15])
def test_smooth_means_keep_a_line_and_lose_an_equaliser(smooth_bins: int) -> None:
    torch.manual_seed(0)
    time = torch.arange(2 * RATE) / RATE
    sound = torch.randn(1, 2 * RATE) * 0.04 * (1 + 0.5 * torch.sin(2 * torch.pi * 3 * time))
    lined = sound + 0.02 * torch.sin(2 * torch.pi * 3000 * time)
    row = 3000 * 512 // RATE - 1
    gone, kept = LogSpectrum(), LogSpectrum(smooth_bins=smooth_bins)
    assert gone(lined)[0, 0, row].mean().abs() < 1e-3
    means = kept(lined)[0, 0].mean(dim=1)
    assert means[row] > 0.7
    assert means[row] > 3 * means[:250].abs().median()
    inner = slice(smooth_bins, 256 - smooth_bins)
    moved = (kept(equalise(sound)) - kept(sound))[0, 0, inner].mean(dim=1)
    assert moved.abs().max() < 0.01  # of 12 dB, which are 0.92 here
    assert (kept(2 * sound) - kept(sound)).abs().mean() < 1e-3


def test_smooth_means_follow_the_bands_and_default_to_none() -> None:
    sound = voices(2, seconds=1.0)
    plain = LogSpectrum(merge=2)(sound)
    torch.testing.assert_close(plain.mean(dim=3), torch.zeros(2, 1, 128), atol=1e-4, rtol=0)
    torch.testing.assert_close(LogSpectrum(merge=2, smooth_bins=1)(sound), plain)
    assert LogSpectrum(merge=2, smooth_bins=4)(sound).shape == plain.shape


@pytest.mark.parametrize(("fft", "merge", "rows"), [(512, 2, 128), (1024, 2, 256), (1024, 4, 128)])
def test_finer_bins_stay_at_their_frequency(fft: int, merge: int, rows: int) -> None:
    network = create("spectrogram_mobilenet", stages=1, dense=8, fft=fft, merge=merge)
    spectrum = network.features
    assert isinstance(spectrum, LogSpectrum)
    assert network.rows == spectrum.rows == rows
    time = torch.arange(RATE) / RATE
    tone = torch.sin(2 * torch.pi * 5000 * time) * (time > 0.5)
    assert spectrum(tone[None]).shape[2] == rows
    loudest = int(spectrum(tone[None])[0, 0, :, -1].argmax())
    assert abs((loudest + 0.5) / rows * 8000 - 5000) < 8000 / rows


def test_unknown_networks_are_named() -> None:
    with pytest.raises(ModelError, match=r"'nothing': unknown; known: .*spectrogram_mobilenet"):
        create("nothing")
