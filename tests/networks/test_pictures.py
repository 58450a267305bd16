"""The networks for pictures: what their statistics measure, and what they do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepfake.networks import create
from deepfake.networks.pictures import (
    ResidualStatistics,
    StatisticsNet,
    TrunkStatistics,
)
from tests.media_files import scene


def describe(statistics: torch.nn.Module, *pictures: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = statistics(to_batch(*pictures))
    return found


def to_batch(*pictures: np.ndarray) -> torch.Tensor:
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    return stacked / 127.5 - 1


def test_residual_statistics_are_sizes_in_grey_levels() -> None:
    flat = np.full((64, 64, 3), 90, np.uint8)
    board = flat.copy()
    board[::2, ::2] += 16
    board[1::2, 1::2] += 16
    found = describe(ResidualStatistics(), flat, board)
    assert found.shape == (2, 16)
    assert found[0, :4].numpy() == pytest.approx(np.log(0.02) * np.array([1, 1, 0.5, 0.5]), abs=0.6)
    inner = 2 * 16 * 60 * 60 / 64 / 64  # a Laplacian of a checkerboard, away from the edges
    assert float(torch.exp(found[1, 0])) == pytest.approx(inner, rel=0.2)
    assert (found[1] > found[0]).all()
    assert float(found[:, 4:].max()) <= 1.0


def test_residual_statistics_do_not_see_colours() -> None:
    grey = scene(96, 96, seed=1, noise=4.0)
    tint = grey.astype(np.float32)
    swing = np.random.default_rng(1).normal(0, 12, tint.shape[:2])
    tint[..., 0] += swing
    tint[..., 2] -= swing * 0.299 / 0.114
    before, after = describe(ResidualStatistics(), grey, tint.clip(0, 255).astype(np.uint8))
    assert len(before) == ResidualStatistics.features == 16
    assert float((before - after).abs().max()) < 0.6


def test_statistics_do_not_depend_on_the_place_of_things() -> None:
    torch.manual_seed(0)
    trunk = TrunkStatistics(stages=3).eval()
    pixels = scene(96, 96, seed=2)
    here = describe(trunk, pixels)
    there = describe(trunk, np.roll(pixels, 32, axis=1))
    assert here.shape == (1, trunk.features)
    assert trunk.features == 2 * (16 + 24 + 32)
    assert float((here - there).abs().mean()) < 0.1 * float(here.std())


def test_folded_normalisation_changes_nothing() -> None:
    torch.manual_seed(0)
    trunk = TrunkStatistics(stages=3)
    for _ in range(3):
        describe(trunk, scene(64, 64, seed=1), scene(64, 64, seed=2))
    before = describe(trunk.eval(), scene(64, 64, seed=3))
    trunk.fold()
    torch.testing.assert_close(describe(trunk, scene(64, 64, seed=3)), before)
    again = TrunkStatistics(stages=3, folded=True).eval()
    again.load_state_dict(trunk.state_dict())
    torch.testing.assert_close(describe(again, scene(64, 64, seed=3)), before)
    assert not any("running" in name for name in again.state_dict())


@torch.inference_mode()
def test_network_adds_the_logits_of_its_parts() -> None:
    parts = {"residual": {"hidden": 4}, "trunk": {"stages": 1, "hidden": 4}}
    torch.manual_seed(0)
    network = create("statistics_net", parts=parts).eval()
    assert isinstance(network, StatisticsNet)
    batch = to_batch(scene(64, 64, seed=1, noise=3.0), scene(64, 64, seed=2))
    both = network(batch)
    assert both.shape == (2,)
    network.heads["trunk"].share.fill_(0.0)
    alone = network(batch)
    statistics = network.statistics(batch)
    assert torch.allclose(alone, network.heads["residual"](statistics[:, :16]), atol=1e-6)
    assert not torch.allclose(alone, both)
