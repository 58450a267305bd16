"""CLIP on pictures of spectra: what the pictures show, and one answer by torch and by a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from deepfake_training.export import compile_graph, export_onnx

from deepfake.networks import create
from deepfake.networks.clip_speech import MOST, SIDE, SpectralPicture
from deepfake.networks.speech import TOP_HZ

SAMPLES = 24000
FFTS = (1024, 512, 192)


def tone(hertz: float) -> torch.Tensor:
    """A tone in a little noise in the second half of a window (1, samples)."""
    seconds = torch.arange(SAMPLES) / 16000
    sound = 0.05 * torch.sin(2 * torch.pi * hertz * seconds) * (seconds >= seconds[-1] / 2)
    return (sound + 1e-3 * torch.randn(SAMPLES, generator=torch.Generator().manual_seed(0)))[None]


@pytest.mark.parametrize("hertz", [500.0, 3000.0, 7000.0])
def test_a_tone_is_a_line_where_it_sounds(hertz: float) -> None:
    grey = SpectralPicture(samples=SAMPLES)(tone(hertz))[0]
    assert (grey == grey[0]).all()
    pictures = SpectralPicture(samples=SAMPLES, ffts=FFTS)(tone(hertz))
    assert pictures.shape == (1, 3, SIDE, SIDE)
    lines = []
    for plane in pictures[0]:
        late = plane[:, SIDE // 2 + 8 :].mean(dim=1)
        rows = np.flatnonzero(late > late.max() - 0.5)
        row = int(np.median(rows))
        assert row == pytest.approx(SIDE - (SIDE + 1) * hertz / TOP_HZ, abs=3)
        assert plane[row, : SIDE // 2 - 8].mean() < late[row] - 1
        lines.append(len(rows))
    assert lines == sorted(lines), "the shorter the transform, the broader a line"
    assert lines[0] < lines[-1]


def test_a_click_is_the_sharper_the_shorter_the_transform() -> None:
    sound = 1e-3 * torch.randn(1, SAMPLES, generator=torch.Generator().manual_seed(0))
    sound[0, SAMPLES // 2] = 0.9
    columns = SpectralPicture(samples=SAMPLES, ffts=FFTS)(sound)[0].mean(dim=1)
    widths = [int((one > one.max() / 2).sum()) for one in columns]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < widths[0]
    middles = [int(np.median(np.flatnonzero(one > one.max() / 2))) for one in columns.numpy()]
    assert max(middles) - min(middles) <= 1, "all about the same instants"


def test_level_changes_nothing_and_values_are_bounded() -> None:
    picture = SpectralPicture(samples=SAMPLES)
    loud = tone(1000.0)
    assert (picture(2 * loud) - picture(loud)).abs().mean() < 0.01
    found = picture(loud)
    assert found.abs().max() <= MOST
    assert found.mean().abs() < 0.1
    assert torch.isfinite(picture(torch.zeros(1, SAMPLES))).all()


def test_a_window_without_enough_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="too short for 224 columns"):
        SpectralPicture(samples=600)
    with pytest.raises(ValueError, match="2 transforms: make no picture"):
        SpectralPicture(samples=SAMPLES, ffts=FFTS[:2])


def test_the_graph_gives_what_torch_gives(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create("clip_speech", samples=SAMPLES, ffts=FFTS, first=1, last=1, spread=True)
    network.eval()
    windows = torch.cat([tone(400.0), tone(2500.0), 0.01 * torch.randn(1, SAMPLES)])
    with torch.inference_mode():
        logits = network(windows)
    assert logits.shape == (3,)
    path = tmp_path / "graph.onnx"
    export_onnx(network, windows[:2].numpy(), path)
    found = compile_graph(path, threads=1)(windows.numpy())[0]
    np.testing.assert_allclose(found, logits.numpy(), atol=1e-4)
