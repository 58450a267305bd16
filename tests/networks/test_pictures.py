"""The networks for pictures: what their residuals measure, and where they start."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepfake.networks import create
from deepfake.networks.pictures import HighPass, MobilePicture
from tests.media_files import scene


def to_batch(*pictures: np.ndarray) -> torch.Tensor:
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    return stacked / 127.5 - 1


def test_residuals_are_those_of_detail_and_not_of_slopes() -> None:
    slope = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    board = np.full((64, 64, 3), 90, np.uint8)
    board[::2, ::2] += 16
    board[1::2, 1::2] += 16
    found = HighPass()(to_batch(slope, board))
    assert found.shape == (2, 9, 62, 62)
    assert float(found[0].abs().max()) < 1e-5
    step = 10 * 16 / 2 / 127.5  # of a checkerboard each of the three leaves half the step, turned
    assert found[1].abs().numpy() == pytest.approx(step, rel=1e-4)


@torch.inference_mode()
def test_a_fresh_mobile_picture_is_undecided_and_reads_crops_of_any_size() -> None:
    torch.manual_seed(0)
    network = create("mobile_picture").eval()
    assert isinstance(network, MobilePicture)
    for side in (64, 96):
        logits = network(to_batch(scene(side, side, seed=1), scene(side, side, seed=2)))
        assert logits.shape == (2,)
        assert logits.abs().max() < 1
        assert torch.equal(logits[0], logits[1]), "its head starts at zero"


@torch.inference_mode()
def test_two_scales_are_the_mean_of_a_quarter_and_of_the_whole_at_half_its_size() -> None:
    torch.manual_seed(0)
    network = create("mobile_picture", scales=2).eval()
    assert isinstance(network, MobilePicture)
    torch.nn.init.normal_(network.trunk.classifier.weight)
    crops = to_batch(scene(128, 128, seed=1), scene(128, 128, seed=2))
    alone = network.alone()
    quarter = alone(crops[..., :64, :64])
    half = alone(torch.nn.functional.avg_pool2d(crops, 2))
    assert not torch.allclose(quarter, half, atol=1e-2)
    assert torch.allclose(network(crops), (quarter + half) / 2, atol=1e-5)
