"""The face finder's network: the layout of its map, and the shipped bundle on every backend."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepfake import networks
from deepfake.bundle import Bundle
from deepfake.engine.backends import installed_backends, open_backend
from deepfake.engine.maps import map_places, read_map
from deepfake.networks.finder import FaceFinder
from deepfake.preprocess import FinderPreprocess
from deepfake.settings import Settings, shipped_models_folder
from deepfake.trust.registry import read_bundles

SMALL = {"stem": 4, "channels": [4, 8, 8, 8], "width": 8}


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    made = networks.create("face_finder", **SMALL)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return made.eval()


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (256, 256)])
def test_map_has_a_row_for_every_place_of_read_map(
    network: torch.nn.Module, size: tuple[int, int]
) -> None:
    places, _ = map_places(*size)
    with torch.inference_mode():
        values = network(torch.zeros(2, 3, *size))
    assert values.shape == (2, len(places), 15)


def test_rows_of_the_map_follow_the_places(network: torch.nn.Module) -> None:
    """A mark in the picture changes the map most at the places near it, at every cell size."""
    picture = torch.zeros(1, 3, 256, 320)
    marked = picture.clone()
    x, y = 232, 72
    marked[..., y - 6 : y + 6, x - 6 : x + 6] = 1
    with torch.inference_mode():
        change = (network(marked) - network(picture))[0].abs().sum(dim=1).numpy()
    places, cells = map_places(256, 320)
    for cell in (8, 16, 32):
        chosen = np.flatnonzero(cells == cell)
        most = places[chosen[np.argmax(change[chosen])]]
        assert np.abs(most - [x, y]).max() <= 1.5 * cell


def test_fusing_keeps_the_function_and_leaves_no_normalisation(network: torch.nn.Module) -> None:
    assert isinstance(network, FaceFinder)
    fused = network.fuse()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused.modules())
    batch = torch.randn(2, 3, 96, 64)
    with torch.inference_mode():
        assert torch.allclose(fused(batch), network(batch), atol=1e-5)
    again = networks.create("face_finder", **fused.options)
    again.load_state_dict(fused.state_dict())


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundles(shipped_models_folder())["face-finder"]


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
def test_shipped_bundle_gives_its_golden_map_and_takes_every_canvas(
    bundle: Bundle, name: str
) -> None:
    if name not in installed_backends():
        pytest.skip(f"{name} is not installed")
    bundle.verify()
    assert isinstance(bundle.preprocess, FinderPreprocess)
    backend = open_backend(bundle, settings=Settings(backend=name, device="cpu", threads=1))
    batch, golden = bundle.golden()
    np.testing.assert_allclose(backend.run(batch), golden, atol=2e-3, rtol=1e-3)
    for rows, columns in bundle.preprocess.canvases:
        values = backend.run(np.zeros((1, rows, columns, 3), np.uint8))
        assert values.shape == (1, len(map_places(rows, columns)[0]), 15)
        assert np.isfinite(values).all()
    backend.close()


def test_shipped_bundle_sees_no_face_in_noise_and_waves(bundle: Bundle) -> None:
    preprocess, least = bundle.preprocess, bundle.calibration.points.synthetic
    assert isinstance(preprocess, FinderPreprocess)
    backend = open_backend(bundle, settings=Settings(backend="onnxruntime", threads=1))
    rng = np.random.default_rng(3)
    down, across = np.mgrid[0:360, 0:480]
    waves = 127 + 100 * np.sin(across / 23) * np.cos(down / 17)
    for picture in (rng.normal(127, 60, (360, 480, 3)), np.repeat(waves[..., None], 3, axis=2)):
        batch, zoom = preprocess(picture.clip(0, 255).astype(np.uint8))
        values = backend.run(batch)[0]
        rows, columns = batch.shape[1:3]
        assert not len(read_map(values, rows=rows, columns=columns, zoom=zoom, least=least).scores)
    backend.close()
