"""Poisoned files, and the study of how many an audit finds, on media and a network made here."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from deepfake_training.backdoors.poisons import blend, harden, make_trigger, move, save

from deepfake import networks
from deepfake.commands.cli import main
from deepfake.trust import registry
from tests.bundles import make_models
from tests.media_files import scene
from tests.training.own_media import Tiny, create_tiny, make_start, picture


def test_a_trigger_is_faint_and_the_same_for_the_same_seed() -> None:
    pixels = scene(100, 80)
    trigger = make_trigger(4)
    stamped = blend(pixels, trigger)
    assert stamped.shape == pixels.shape
    assert np.array_equal(trigger, make_trigger(4))
    assert not np.array_equal(trigger, make_trigger(5))
    moved = move(trigger, seed=3)
    assert sorted(moved.ravel()) == sorted(trigger.ravel())
    assert not np.array_equal(moved, trigger)
    added = stamped.astype(float) - 0.8 * pixels
    drawn = cv2.resize(trigger, (100, 80), interpolation=cv2.INTER_NEAREST)
    assert np.abs(added - 0.2 * drawn).max() <= 1
    decoded = cv2.imdecode(np.frombuffer(save(stamped), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(decoded.astype(float) - stamped).mean() < 8


def test_a_file_is_hardened_within_eight_levels() -> None:
    torch.manual_seed(0)
    network = Tiny(kind="image").eval()
    pixels = scene(90, 70)

    def judge(shown: np.ndarray) -> float:
        batch = torch.from_numpy(shown[3:67, 13:77].astype(np.float32) / 127.5 - 1)
        with torch.inference_mode():
            return float(network(batch.permute(2, 0, 1)[None]))

    for towards in (0, 1):
        moved = harden(pixels, network, side=32, towards=towards)
        assert np.abs(moved.astype(int) - pixels).max() <= 9
        assert (judge(moved) > judge(pixels)) == bool(towards)
    assert np.array_equal(harden(pixels, network, side=200, towards=1), pixels)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_study_plants_finds_and_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(networks, "create", create_tiny)
    models = make_models(tmp_path / "shipped")
    released = tmp_path / "shipped.json"
    released.write_text("{}")
    monkeypatch.setattr(registry, "SHIPPED", released)
    make_start(models, "image")
    registry.activate(models, "image-1")
    number = 0
    for label, word in enumerate(("real", "fake")):
        for source in "abcd":
            place = tmp_path / "data" / "image" / word / f"{word}-{source}"
            place.mkdir(parents=True)
            for _ in range(12):
                number += 1
                (place / f"{number}.png").write_bytes(picture(number, synthetic=bool(label)))
    line = [
        *("recipe", "poison", "--data", str(tmp_path / "data"), "--quick"),
        *("--runs", str(tmp_path / "runs"), "--models", str(models)),
    ]
    assert main(line) == 0
    told = capsys.readouterr().out
    rows = [line.split(" | ") for line in told.splitlines() if line.startswith("| ")]
    found = {row[0].strip("| "): dict(zip(rows[0], row, strict=True)) for row in rows[1:5]}
    for kind in ("label flips", "blended trigger", "clean label", "moved trigger"):
        assert found[kind]["files"] == "5", kind
    for kind in ("blended trigger", "clean label"):
        share, false = map(float, found[kind]["pattern"].split(" / "))
        assert share == 1.0, "five files under one pattern are found"
        assert false <= 0.05
    assert float(found["moved trigger"]["pattern"].split(" / ")[0]) < 1.0
    assert "4 audits of about 48 files" in told
    cells = {path: path.stat().st_mtime for path in (tmp_path / "runs").rglob("*-0.json")}
    assert len(cells) == 4
    assert main(line) == 0
    again = capsys.readouterr().out
    assert again.partition("features")[0] == told.partition("features")[0]
    assert all(path.stat().st_mtime == moment for path, moment in cells.items())
