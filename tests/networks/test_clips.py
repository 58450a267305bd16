"""The clip network: what it takes and gives, and that changes over time reach its description."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from deepfake_training.export import Trained, write_bundle

from deepfake import networks
from deepfake.bundle import Applicability, Calibration, scale_batch
from deepfake.engine.backends import open_backend
from deepfake.networks.clips import CHANGES, ClipNet, changes
from deepfake.preprocess import ClipPreprocess
from deepfake.settings import Settings
from deepfake.types import OperatingPoints


@pytest.fixture(scope="module")
def network() -> ClipNet:
    torch.manual_seed(1)
    made = networks.create("clip_net", width=8)
    assert isinstance(made, ClipNet)
    return made.eval()


def moving(count: int = 8, *, side: int = 64, speed: float = 3.0, seed: int = 0) -> torch.Tensor:
    """A burst (1, count, 3, side, side) of a pattern that moves to the right."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(0.1, 0.6, (3, 2))
    down, across = np.mgrid[0:side, 0:side]
    frames = [
        np.stack([np.sin(a * (across - speed * t) + b * down) for a, b in waves])
        for t in range(count)
    ]
    return torch.from_numpy(np.stack(frames)[None]).float()


@pytest.mark.parametrize("parts", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)])
def test_every_choice_of_parts_gives_one_logit_for_a_burst(parts: tuple[int, int, int]) -> None:
    look, motion, residual = map(bool, parts)
    made = ClipNet(look=look, motion=motion, residual=residual, width=8).eval()
    with torch.inference_mode():
        assert made(torch.cat([moving(), moving(seed=1)])).shape == (2,)


def test_bursts_of_one_batch_do_not_touch_each_other(network: ClipNet) -> None:
    bursts = torch.cat([moving(seed=seed) for seed in range(3)])
    with torch.inference_mode():
        together = network(bursts)
        alone = torch.cat([network(burst[None]) for burst in bursts])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_order_of_the_frames_counts(network: ClipNet) -> None:
    burst = moving()
    mixed = burst[:, [0, 4, 1, 6, 2, 7, 3, 5]]
    with torch.inference_mode():
        assert abs(float(network(burst) - network(mixed))) > 1e-4


def test_steady_motion_has_small_second_differences_and_a_flicker_large_ones() -> None:
    channels = 4
    steady = torch.arange(8.0)[None, :, None, None, None].expand(1, 8, channels, 8, 8)
    noise = torch.from_numpy(np.random.default_rng(2).standard_normal((1, 8, channels, 8, 8)))
    first, second = changes(steady)[0].split(channels, dim=1)[:2]
    assert float(first.mean()) == pytest.approx(0.0, abs=0.01)  # one a step, in logarithms
    assert float(second.max()) < -6
    first, second = changes(noise.float())[0].split(channels, dim=1)[:2]
    assert float((second - first).mean()) > 0.3


def test_frozen_part_shows_as_a_cell_without_change() -> None:
    rng = np.random.default_rng(3)
    maps = torch.from_numpy(rng.standard_normal((1, 8, 2, 16, 16))).float()
    frozen = maps.clone()
    frozen[:, :, :, :4, :4] = maps[:, :1, :, :4, :4]
    described = [changes(m)[0].split(2, dim=1) for m in (maps, frozen)]
    assert all(len(parts) == CHANGES for parts in described)
    assert float(described[0][3].max()) > -1
    assert float(described[1][3].max()) < -6
    torch.testing.assert_close(described[0][2], described[1][2], rtol=0.5, atol=0.5)


def test_fitting_leaves_the_trunk_as_it_is(network: ClipNet) -> None:
    kept = {
        id(p) for part in (network.low, network.middle, network.high) for p in part.parameters()
    }
    free = [p for p in network.parameters() if id(p) not in kept]
    assert sum(p.numel() for p in free) < 60_000


def test_bundle_of_it_gives_the_same_logits_in_every_backend(
    network: ClipNet, tmp_path: Path
) -> None:
    trained = Trained(
        network=network,
        network_name="clip_net",
        network_options={"width": 8},
        preprocess=ClipPreprocess(side_pixels=64),
        records=[],
        limits=Applicability(),
        facts={},
    )
    points = OperatingPoints(authentic=0.3, suspicious=0.6, synthetic=0.9)
    bundle = write_bundle(
        trained,
        name="video-7",
        calibration=Calibration(slope=1.0, intercept=0.0, spread=0.1, points=points),
        metrics={},
        folder=tmp_path / "video-7",
    )
    assert bundle.size_bytes < 9_000_000
    batch = ClipPreprocess(side_pixels=64)(
        [np.full((64, 64, 3), 20 * t, np.uint8) for t in range(8)]
    )
    many = np.concatenate([batch, batch[:, ::-1], batch])
    with torch.inference_mode():
        expected = network(torch.from_numpy(scale_batch(many, trained.preprocess))).numpy()
    backend = open_backend(bundle, settings=Settings(backend="openvino", device="cpu"))
    np.testing.assert_allclose(backend.run(many), expected, atol=2e-3)
    backend.close()
