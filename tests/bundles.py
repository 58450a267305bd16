"""Tiny bundles whose right answer is known, so that the machinery can be tested without training.

The graph is ``logit = gain × mean(batch) + offset``: bright pictures and (after squaring) any sound
have a score that a test can compute by hand. The graph of :func:`make_rough_models` takes the mean
of the squared differences between neighbouring samples instead: as all windows have one level, it
tells hissing sounds from dull ones, in proportion to their share of a window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from deepfake.bundle import Applicability, Bundle, Calibration
from deepfake.preprocess import AudioPreprocess, ImagePreprocess, Preprocess, Samples
from deepfake.types import OperatingPoints

Graph = Callable[[Preprocess, float, float], bytes]

ROUGH_GAIN, ROUGH_OFFSET = 15.0, -5.85
POINTS = OperatingPoints(authentic=0.2, suspicious=0.6, synthetic=0.9)


def make_models(folder: Path, *, gain: float = 4.0, points: OperatingPoints = POINTS) -> Path:
    """A models folder with ``image-1`` and ``audio-1``."""
    image = ImagePreprocess(side_pixels=32, max_windows=4)
    audio = AudioPreprocess(window_seconds=1.0, hop_seconds=0.5)
    make_bundle(folder / "image-1", preprocess=image, gain=gain, points=points)
    make_bundle(folder / "audio-1", preprocess=audio, gain=gain, points=points)
    return folder


def make_rough_models(folder: Path, *, span_windows: int = 0, length_penalty: float = 0.0) -> Path:
    """A models folder with an ``audio-1`` whose logit is about -4 for dull sounds and 4 for rough
    ones (see :func:`roughen`), in windows of 2 s that begin every second.
    """
    preprocess = AudioPreprocess(window_seconds=2.0, hop_seconds=1.0)
    calibration = Calibration(
        slope=1.0,
        intercept=0.0,
        spread=0.2,
        points=POINTS,
        span_windows=span_windows,
        length_penalty=length_penalty,
    )
    power = 10 ** (preprocess.level_dbfs / 10)
    make_bundle(
        folder / "audio-1",
        preprocess=preprocess,
        gain=ROUGH_GAIN / power,
        offset=ROUGH_OFFSET,
        calibration=calibration,
        graph=_rough_graph,
    )
    return folder


def roughen(samples: Samples) -> Samples:
    """The same sound with its high frequencies raised, at the same level."""
    rough = np.diff(samples, prepend=samples[:1])
    return (rough * np.sqrt(np.mean(samples**2) / np.mean(rough**2))).astype(np.float32)


def make_bundle(
    folder: Path,
    *,
    preprocess: Preprocess,
    gain: float = 4.0,
    offset: float = 0.0,
    points: OperatingPoints = POINTS,
    calibration: Calibration | None = None,
    graph: Graph | None = None,
) -> Bundle:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes((graph or _mean_graph)(preprocess, gain, offset))
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
        calibration=calibration or Calibration(slope=1.0, intercept=0.0, spread=0.2, points=points),
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
    return _model(nodes, shape, {"axes": np.array(axes, np.int64)}, gain, offset)


def _rough_graph(preprocess: Preprocess, gain: float, offset: float) -> bytes:
    assert isinstance(preprocess, AudioPreprocess)
    count = preprocess.window_samples
    nodes = [
        helper.make_node("Slice", ["batch", "one", "end", "axes"], ["after"]),
        helper.make_node("Slice", ["batch", "zero", "last", "axes"], ["before"]),
        helper.make_node("Sub", ["after", "before"], ["steps"]),
        helper.make_node("Mul", ["steps", "steps"], ["squared"]),
        helper.make_node("ReduceMean", ["squared", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["logits"]),
    ]
    places = {"axes": 1, "zero": 0, "one": 1, "last": count - 1, "end": count}
    constants = {name: np.array([value], np.int64) for name, value in places.items()}
    return _model(nodes, ["windows", count], constants, gain, offset)


def _model(
    nodes: list[onnx.NodeProto],
    shape: list[str | int],
    constants: dict[str, npt.NDArray[np.int64]],
    gain: float,
    offset: float,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "known",
        [helper.make_tensor_value_info("batch", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["windows"])],
        [
            *(numpy_helper.from_array(values, name) for name, values in constants.items()),
            numpy_helper.from_array(np.array(gain, np.float32), "gain"),
            numpy_helper.from_array(np.array(offset, np.float32), "offset"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()
