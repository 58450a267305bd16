from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from deepfake_training import quantise
from deepfake_training.manifests import list_labelled
from onnx import numpy_helper

from deepfake.bundle import Bundle
from deepfake.engine.backends import INT8_GRAPH, has_int8, open_backend
from deepfake.errors import ModelError, SettingsError
from deepfake.preprocess import ImagePreprocess
from deepfake.settings import Settings
from tests.bundles import make_bundle, residual_graph
from tests.media_files import image_bytes, scene

NEEDS_INT8 = pytest.mark.skipif(not has_int8(), reason="the processor has no int8 instructions")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    preprocess = ImagePreprocess(side_pixels=32, max_windows=4)
    return make_bundle(tmp_path / "image-1", preprocess=preprocess, graph=residual_graph, gain=1.0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Genuine pictures are smooth, synthetic ones rough."""
    folder = tmp_path / "data" / "image"
    folder.mkdir(parents=True)
    rows = ["path\tsha256\tlabel\tsource"]
    for index in range(40):
        label = ("real", "fake")[index % 2]
        noise = 2.0 if label == "real" else 12.0
        name = f"{index:02}.png"
        (folder / name).write_bytes(image_bytes(scene(96, 80, seed=index, noise=noise)))
        rows.append(f"{name}\t{index:064}\t{label}\tset {label}")
    (folder / "manifest.tsv").write_text("\n".join(rows) + "\n")
    return folder.parent


def run(model: onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(["logits"], {"batch": batch})[0])


def test_joined_groups_give_the_same_numbers(bundle: Bundle) -> None:
    network = onnx.load(bundle.folder / "model.onnx")
    joined = quantise.join_groups(network)
    assert [a.i for n in joined.graph.node if n.name == "first" for a in n.attribute] == [1]
    batch = np.random.default_rng(0).normal(0, 0.4, (3, 3, 32, 32)).astype(np.float32)
    np.testing.assert_allclose(run(joined, batch), run(network, batch), atol=1e-5)


def test_a_processor_that_cannot_measure_is_told_first(
    bundle: Bundle, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantise, "has_int8", lambda: False)
    with pytest.raises(SettingsError, match=r"what int8 costs cannot be measured.*AVX-VNNI"):
        quantise.quantise_bundle(bundle.folder, list_labelled(data / "image"))
    assert not (bundle.folder / INT8_GRAPH).exists()


@NEEDS_INT8
def test_a_bundle_gets_an_int8_graph_that_openvino_runs(bundle: Bundle, data: Path) -> None:
    rows = quantise.quantise_bundle(bundle.folder, list_labelled(data / "image"))
    assert [row.view for row in rows] == list(quantise.VIEWS)
    assert all(row.samples == 30 and row.before > 0.9 for row in rows[:1])
    again = Bundle.read(bundle.folder)
    again.verify()
    assert again.files[INT8_GRAPH]["precision"] == "int8"
    assert again.metrics["int8"][0]["view"] == "clean"
    card = (bundle.folder / "README.md").read_text()
    assert card.count("## int8") == 1
    kinds = {node.op_type for node in onnx.load(bundle.folder / INT8_GRAPH).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    pixels = scene(96, 80, seed=99, noise=8.0)
    batch = ImagePreprocess(side_pixels=32, max_windows=4)(pixels).batch
    logits = {}
    for precision in ("fp32", "auto"):
        backend = open_backend(
            again, settings=Settings(backend="openvino", device="cpu", precision=precision)
        )
        logits[backend.precision] = backend.run(batch)
        backend.close()
    assert set(logits) == {"fp32", "int8"}
    assert 0 < np.abs(logits["int8"] - logits["fp32"]).max() < 0.5


@NEEDS_INT8
def test_a_graph_that_loses_accuracy_is_not_kept(
    bundle: Bundle, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = onnx.load(bundle.folder / "model.onnx")
    for tensor in turned.graph.initializer:
        if tensor.name == "gain":
            tensor.CopyFrom(numpy_helper.from_array(np.array(-40, np.float32), "gain"))
    content = turned.SerializeToString()
    monkeypatch.setattr(quantise, "quantise_graph", lambda *values: content)
    before = json.loads((bundle.folder / "bundle.json").read_text())
    with pytest.raises(ModelError, match="costs too much"):
        quantise.quantise_bundle(bundle.folder, list_labelled(data / "image"))
    assert not (bundle.folder / INT8_GRAPH).exists()
    assert json.loads((bundle.folder / "bundle.json").read_text()) == before
