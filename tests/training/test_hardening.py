"""Adversarial training: what misleads a network, and the quick form of its study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from deepfake_training.adversarial import Hardening, mislead_half
from deepfake_training.own.material import Source
from deepfake_training.studies import hardening
from torch import nn

from deepfake.commands.cli import main
from deepfake.errors import SettingsError
from deepfake.preprocess import ImagePreprocess, PixelScale
from tests.training import own_media

SCALE = PixelScale()
LEVEL = 2 / 255


class Sum(nn.Module):
    """A logit that rises with every value: the worst change is known."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return batch.mean(dim=(1, 2, 3))


@pytest.mark.parametrize("norms", [("linf",), ("l2",), ("linf", "l2")])
def test_every_other_pair_is_led_away_from_its_goal_within_bounds(norms: tuple[str, ...]) -> None:
    batch, goal = torch.zeros(16, 3, 8, 8), (torch.arange(16) % 2).float()
    network = Sum().train()
    wanted = Hardening(levels=4.0, norms=norms)

    def mislead(step: int) -> torch.Tensor:
        return mislead_half(network, batch, goal, hardening=wanted, scale=SCALE, seed=(1, step))

    changed = mislead(0)
    assert network.training, "the mode is left as it was"
    change = (changed - batch) / LEVEL
    kept = torch.arange(16) // 2 % 2 == 1
    assert (change[kept] == 0).all()
    sizes = change[~kept].square().mean(dim=(1, 2, 3)).sqrt()
    assert change.abs().max() <= 4.0 + 1e-4 or "l2" in norms
    assert sizes.max() <= 4.0 + 1e-4
    if norms == ("l2",):
        torch.testing.assert_close(sizes, torch.ones(8))
    means = change[~kept].mean(dim=(1, 2, 3))
    assert ((means < 0) == (goal[~kept] == 1)).all()
    assert torch.equal(changed, mislead(0))
    assert not torch.equal(changed, mislead(1))


def test_nothing_leaves_the_range_of_pixels() -> None:
    batch = torch.ones(4, 3, 8, 8)
    wanted = Hardening(levels=8.0)
    goal = torch.zeros(4)
    changed = mislead_half(Sum(), batch, goal, hardening=wanted, scale=SCALE, seed=(1,))
    assert changed.max() <= 1


def test_without_levels_nothing_changes_and_norms_are_checked() -> None:
    batch = torch.zeros(4, 3, 8, 8)
    same = mislead_half(Sum(), batch, torch.zeros(4), hardening=Hardening(), scale=SCALE, seed=(1,))
    assert same is batch
    with pytest.raises(SettingsError, match="norm 'l7': unknown"):
        Hardening(norms=("l7",))


class Brightness(nn.Module):
    """How bright crops are, in grey levels."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.mean(dim=(1, 2, 3)) / LEVEL


@pytest.mark.parametrize(("brighter", "share"), [(3, 1.0), (20, 0.0)])
def test_what_an_attack_can_do_is_what_is_counted(brighter: int, share: float) -> None:
    plan = hardening.Plan(judged=4, attacked=2, gradient_steps=4, queries=20)
    exhibits = [
        hardening.Exhibit(np.full((40, 48, 3), 100 + brighter * label, np.uint8), label)
        for label in (0, 1, 0, 1, 0, 1)
    ]
    preprocess = ImagePreprocess(side_pixels=32, max_windows=2)
    row = hardening.judge("bright", Brightness(), preprocess, exhibits, plan)
    assert (row.clean, row.found, row.attacked) == (1.0, 3, 2)
    assert row.linf == share
    assert row.l2 == 0.0, "one grey level is not enough"
    assert row.square in (0.0, share)
    assert (row.median_queries is None) is (row.square == 0.0)


def test_sources_are_held_out_whole() -> None:
    sources = [
        Source(f"{label}-{number}", label, (Path(f"{label}/{number}"),))
        for label in (0, 1)
        for number in range(6)
    ]
    known, held = hardening.split_sources(sources)
    assert len(held) == 4
    assert sorted(one.label for one in held) == [0, 0, 1, 1]
    assert not {one.name for one in known} & {one.name for one in held}


def read_rows(output: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in output.splitlines()]
    return [row for row in rows if len(row) == 10][2:]


def test_the_quick_study_has_a_row_for_each_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deepfake.networks.create", own_media.create_tiny)
    models = tmp_path / "models"
    models.mkdir()
    own_media.make_start(models, "image")
    for label, synthetic in (("genuine", False), ("synthetic", True)):
        for source in ("one", "two", "three"):
            folder = tmp_path / label / source
            folder.mkdir(parents=True)
            for seed in range(4):
                content = own_media.picture(10 * len(source) + seed, synthetic=synthetic)
                (folder / f"{source}-{seed}.png").write_bytes(content)
    (tmp_path / "genuine" / "one" / "broken.png").write_bytes(b"none")
    line = [
        "study", "hardening", "--genuine", str(tmp_path / "genuine"), "--synthetic",
        str(tmp_path / "synthetic"), "--work", str(tmp_path / "work"), "--quick", "--models",
        str(models), "--threads", "1",
    ]  # fmt: skip
    assert main(line) == 0
    output, errors = capsys.readouterr()
    assert "broken.png" in errors
    rows = read_rows(output)
    assert [row[0] for row in rows] == [
        "as shipped",
        "tuned on, nothing else",
        "adversarial, linf",
        "adversarial, linf and l2",
        "dropout 0.5",
        "weight decay 0.2",
        "label smoothing 0.1",
        "no averaging",
    ]
    for row in rows:
        assert 0 <= float(row[1]) <= 1
        assert int(row[4]) <= 1
    assert main(line) == 0
    assert read_rows(capsys.readouterr().out) == rows, "what is finished is kept, with its seconds"
