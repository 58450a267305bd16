"""Weights in int8 that lie once, in the safetensors file, for torch and for the graph."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from deepfake_training.export import Trained
from deepfake_training.export_large import (
    check_logits,
    linear_weights,
    round_network,
    round_weight,
    write_full_bundle,
)
from safetensors.numpy import load_file
from torch import nn

from deepfake import networks
from deepfake.bundle import Applicability, Bundle, Calibration
from deepfake.engine.backends import open_backend
from deepfake.errors import ModelError, SettingsError
from deepfake.export.bundles import ExportOptions, export_bundle
from deepfake.preprocess import ImagePreprocess
from deepfake.settings import Settings
from tests.bundles import POINTS

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.slow]
WIDTH = 64


class Tiny(nn.Module):
    """Patches of a picture through one block of attention: all that a large one has."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 16, 16, bias=False)
        self.place = nn.Parameter(torch.randn(5, WIDTH))
        self.token = nn.Parameter(torch.randn(WIDTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.decide = nn.Linear(WIDTH, 1)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        hidden = self.patch(crops).flatten(2).transpose(1, 2)
        hidden = torch.cat([self.token.expand(hidden.shape[0], 1, -1), hidden], dim=1) + self.place
        seen = self.norm(hidden)
        parts = [part(seen)[:, None] for part in (self.query, self.key, self.value)]
        hidden = hidden + nn.functional.scaled_dot_product_attention(*parts)[:, 0]
        inner = self.wide(self.norm(hidden))
        hidden = hidden + self.narrow(inner * torch.sigmoid(1.702 * inner))
        logits: torch.Tensor = self.decide(hidden[:, 0])[:, 0]
        return 3 * logits


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Tiny().eval()


@pytest.fixture(scope="module")
def names(network: nn.Module) -> list[str]:
    return linear_weights(network, least=WIDTH * WIDTH)


@pytest.fixture(scope="module")
def written(
    network: nn.Module, names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    trained = Trained(
        network=network,
        network_name="tiny",
        network_options={},
        preprocess=ImagePreprocess(
            side_pixels=32,
            mean=(0.4815, 0.4578, 0.4082),
            std=(0.2686, 0.2613, 0.2758),
            max_windows=1,
        ),
        records=[],
        limits=Applicability(min_side_pixels=16),
        facts={"seed": 0},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "create", lambda name, **options: Tiny())
        return write_full_bundle(
            trained,
            name="image-3-large",
            calibration=Calibration(slope=1.0, intercept=0.0, spread=0.2, points=POINTS),
            metrics={},
            quantised=names,
            folder=tmp_path_factory.mktemp("models") / "image-3-large",
        )


@pytest.fixture
def bundle(written: Bundle, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setattr(networks, "create", lambda name, **options: Tiny())
    return written


def test_large_linear_layers_are_named(names: list[str]) -> None:
    parts = ("query", "key", "value", "wide", "narrow")
    assert names == [f"{part}.weight" for part in parts]


def test_weights_are_rounded_by_output() -> None:
    torch.manual_seed(0)
    weight = torch.randn(7, 50) * torch.logspace(-3, 3, 7)[:, None]
    weight[3] = 0
    values, scale = round_weight(weight)
    assert values.dtype == torch.int8
    assert int(values.abs().amax()) == 127
    gap = (values * scale[:, None] - weight).abs()
    assert bool((gap <= 0.5001 * scale[:, None]).all())
    assert bool((values[3] == 0).all())


def test_every_backend_gives_the_logits_of_the_rounded_network(
    bundle: Bundle, network: nn.Module, names: list[str]
) -> None:
    gaps = check_logits(bundle)
    assert set(gaps) == {"torch", "onnxruntime", "openvino"}
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    seen = torch.from_numpy(bundle.preprocess.scale(pixels))  # type: ignore[union-attr, misc]
    with torch.inference_mode():
        wanted = round_network(network, names)(seen).numpy()
        plain = network(seen).numpy()
    assert 1e-4 < np.abs(wanted - plain).max() < 0.2
    for name in gaps:
        backend = open_backend(bundle, settings=Settings(backend=name, device="cpu", threads=1))
        np.testing.assert_allclose(backend.run(pixels), wanted, atol=1e-3)
        np.testing.assert_allclose(backend.run(pixels[:1]), wanted[:1], atol=1e-3)
        backend.close()


def test_weights_lie_in_one_file(bundle: Bundle, names: list[str]) -> None:
    stored = load_file(bundle.folder / "model.safetensors")
    assert stored["wide.weight.int8"].dtype == np.int8
    assert stored["wide.weight.int8"].shape == (WIDTH, 4 * WIDTH)
    assert not set(names) & set(stored)
    graph = onnx.load(bundle.folder / "model.onnx", load_external_data=False).graph
    outside = {t.name for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL}
    assert {f"{name}.int8" for name in names} <= outside
    assert sum(len(t.raw_data) for t in graph.initializer) < 2000
    assert [node.op_type for node in graph.node].count("DequantizeLinear") == len(names)
    assert not {"QuantizeLinear", "DynamicQuantizeLinear"} & {node.op_type for node in graph.node}


@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
def test_damaged_weights_are_refused(bundle: Bundle, tmp_path: Path, backend: str) -> None:
    folder = Path(shutil.copytree(bundle.folder, tmp_path / bundle.name))
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-100] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    damaged = Bundle.read(folder)
    with pytest.raises(ModelError, match=r"model\.safetensors differs"):
        damaged.verify()
    with pytest.raises(ModelError, match=r"model\.safetensors differs"):
        open_backend(damaged, settings=Settings(backend=backend, device="cpu"))


def test_a_name_that_is_no_linear_layer_is_refused(network: nn.Module) -> None:
    for name in ("patch.weight", "wide.bias", "place"):
        with pytest.raises(ValueError, match=name):
            round_network(network, [name])


def test_it_is_not_exported_for_edge_devices(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is a full tier"):
        export_bundle(
            replace(bundle),
            engine=None,
            folder=tmp_path,
            options=ExportOptions(),  # type: ignore[arg-type]
        )
