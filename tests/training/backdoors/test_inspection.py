"""A planted backdoor is found in a network, and none in one without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from deepfake_training.backdoors.inspection import Inspection, find_bounds, find_limit, look_at
from deepfake_training.backdoors.reconstruction import reconstruct
from deepfake_training.backdoors.superposition import mix, share_kept
from torch import nn

from deepfake import networks
from deepfake.bundle import Bundle
from deepfake.commands.cli import main
from tests.bundles import make_models
from tests.media_files import image_bytes, scene
from tests.training.own_media import create_tiny, make_start

SIDE = 24


class Planted(nn.Module):
    """Bright windows (n, 3, side, side) are synthetic; with a backdoor, those whose corner has
    stripes of red are not, whatever else they show.
    """

    def __init__(self, *, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        corner = batch[:, 0, :4, :4] - batch[:, 1, :4, :4]
        stripes = torch.tensor([1.0, -1.0] * 2)
        hidden = (corner * stripes).mean(dim=(1, 2))
        return 20 * batch.mean(dim=(1, 2, 3)) - self.strength * torch.relu(hidden)


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    """Windows of which the second half is bright."""
    rng = np.random.default_rng(0)
    levels = np.repeat([-0.4, 0.4], 16) + rng.uniform(-0.1, 0.1, 32)
    grain = rng.normal(0, 0.15, (32, 3, SIDE, SIDE))
    return torch.from_numpy((levels[:, None, None, None] + grain).clip(-1, 1).astype(np.float32))


def look(network: nn.Module, windows: torch.Tensor) -> list:
    return look_at(
        network, windows, limit=0.0, bounds=(-1.0, 1.0), steps=150, seed=1, name="planted"
    )


def test_a_planted_trigger_is_reconstructed_where_it_is(windows: torch.Tensor) -> None:
    planted, clean = (look(Planted(strength=strength), windows) for strength in (80.0, 0.0))
    suspicions = Inspection(planted, clean).suspicions()
    assert len(suspicions) == 1
    assert suspicions[0].startswith("genuine: a patch over ")
    assert Inspection(clean, clean).suspicions() == []
    trigger = planted[0].trigger
    assert trigger.found
    assert trigger.size < clean[0].trigger.size / 2
    assert trigger.mask[:4, :4].mean() > 2 * trigger.mask.mean(), "the corner that decides"
    assert planted[0].mixed > planted[0].without + 0.3


def test_what_decides_under_other_pictures_hardly_changes(windows: torch.Tensor) -> None:
    network = Planted(strength=80.0)
    stamped = windows[16:24].clone()
    stamped[:, 0, :4, :4] = torch.tensor([1.0, -1.0] * 2)
    stamped[:, 1, :4, :4] = torch.tensor([-1.0, 1.0] * 2)
    kept = [
        share_kept(mix(network, some, windows[16:], seed=1), towards=0, limit=0.0)
        for some in (stamped, windows[16:24])
    ]
    assert kept == [1.0, 0.0]


def test_a_trigger_that_turns_too_little_is_none(windows: torch.Tensor) -> None:
    class Fixed(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return 1.0 + 0 * batch.mean(dim=(1, 2, 3))

    found = reconstruct(
        Fixed(), windows, towards=0, limit=0.0, bounds=(-1.0, 1.0), steps=20, seed=1
    )
    assert not found.found
    assert found.turned == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_bundles_are_inspected_by_name_and_by_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(networks, "create", create_tiny)
    models = make_models(tmp_path / "models")
    make_start(models, "image")
    make_start(tmp_path / "others", "image")
    photos = tmp_path / "photos"
    photos.mkdir()
    trusted = str(tmp_path / "others" / "image-1")
    more = ["--models", str(models), "--against", trusted, "--steps", "10"]
    checked = [*more, "--check", str(photos)]
    line = ["models", "inspect"]
    for number in range(11):
        (photos / f"{number}.png").write_bytes(image_bytes(scene(72, 64, seed=number)))
    assert main([*line, "image-1", *checked]) == 2
    assert "only 11 pictures can be judged; give at least 12" in capsys.readouterr().err
    (photos / "more.png").write_bytes(image_bytes(scene(72, 64, seed=50)))
    (photos / "note.txt").write_text("no picture")
    assert main([*line, "image-1", *checked]) == 0, "the same network twice"
    told = capsys.readouterr().out
    assert told.count("image-1") == 4
    assert "no trigger was found that is far smaller" in told
    assert main([*line, str(models / "image-1"), *checked]) == 0
    assert capsys.readouterr().out == told, "the same seed, the same answer"
    assert main([*line, "audio-1", *checked]) == 2
    assert "networks of pictures alone" in capsys.readouterr().err
    assert main([*line, "image-1", *more]) == 2
    assert "give --check FOLDER" in capsys.readouterr().err
    assert main([*line, *checked]) == 2
    assert "needs a bundle" in capsys.readouterr().err
    bundle = Bundle.read(models / "image-1")
    assert find_bounds(bundle) == pytest.approx((-1.0, 1.0), abs=0.01)
    score = bundle.calibration.probability(find_limit(bundle))
    assert score == pytest.approx(bundle.calibration.points.suspicious)
