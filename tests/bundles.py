"""Tiny bundles whose right answer is known, so that the machinery can be tested without training.

The graph is ``logit = gain × mean(batch) + offset``: bright pictures and (after squaring) any sound
have a score that a test can compute by hand.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deepfake.bundle import Applicability, Bundle, Calibration
from deepfake.preprocess import AudioPreprocess, ImagePreprocess, Preprocess
from deepfake.types import OperatingPoints

POINTS = OperatingPoints(authentic=0.2, suspicious=0.6, synthetic=0.9)


def make_models(folder: Path, *, gain: float = 4.0, points: OperatingPoints = POINTS) -> Path:
    """A models folder with ``image-1`` and ``audio-1``."""
    image = ImagePreprocess(side_pixels=32, max_windows=4)
    audio = AudioPreprocess(window_seconds=1.0, hop_seconds=0.5)
    make_bundle(folder / "image-1", preprocess=image, gain=gain, points=points)
    make_bundle(folder / "audio-1", preprocess=audio, gain=gain, points=points)
    return folder


def make_bundle(
    folder: Path,
    *,
    preprocess: Preprocess,
    gain: float = 4.0,
    offset: float = 0.0,
    points: OperatingPoints = POINTS,
) -> Bundle:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(_mean_graph(preprocess, gain, offset))
    (folder / "README.md").write_text(f"# {folder.name}\n", encoding="utf-8")
    golden = (
        np.full((40, 40, 3), 200, np.uint8)
        if isinstance(preprocess, ImagePreprocess)
        else (8000 * np.sin(np.arange(20000) / 9)).astype(np.int16)
    )
    np.savez_compressed(folder / "golden.npz", input=golden, logits=np.zeros(1, np.float32))
    bundle = Bundle(
        name=folder.name,
        slot=folder.name.rpartition("-")[0],
        network="mean",
        network_options={},
        preprocess=preprocess,
        calibration=Calibration(slope=1.0, intercept=0.0, spread=0.2, points=points),
        limits=Applicability(min_side_pixels=16, min_seconds=0.4),
        files={
            path.name: {
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "precision": "fp32",
            }
            for path in (folder / "model.onnx", folder / "golden.npz")
        },
        metrics={},
        provenance={},
        licence="Apache-2.0",
        folder=folder,
    )
    bundle.write(folder)
    return bundle


def _mean_graph(preprocess: Preprocess, gain: float, offset: float) -> bytes:
    picture = isinstance(preprocess, ImagePreprocess)
    shape = ["windows", 3, 32, 32] if picture else ["windows", preprocess.window_samples]
    axes = [1, 2, 3] if picture else [1]
    before = [] if picture else [helper.make_node("Mul", ["batch", "batch"], ["squared"])]
    nodes = [
        *before,
        helper.make_node(
            "ReduceMean", ["batch" if picture else "squared", "axes"], ["mean"], keepdims=0
        ),
        helper.make_node("Mul", ["mean", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("batch", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["windows"])],
        [
            numpy_helper.from_array(np.array(axes, np.int64), "axes"),
            numpy_helper.from_array(np.array(gain, np.float32), "gain"),
            numpy_helper.from_array(np.array(offset, np.float32), "offset"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()
