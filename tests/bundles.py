"""Tiny bundles whose right answer is known, so that the machinery can be tested without training.

The graph is ``logit = gain × mean(batch) + offset``: bright pictures and (after squaring) any sound
have a score that a test can compute by hand. The graph of :func:`make_rough_models` takes the mean
of the squared differences between neighbouring samples instead: as all windows have one level, it
tells hissing sounds from dull ones, in proportion to their share of a window. The face finder sees
a face of 64 pixels around every red cell of 32 pixels (:func:`paint_face`).
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from deepfake.bundle import (
    Applicability,
    Bundle,
    Calibration,
    QuickShare,
    Settled,
    golden_batch,
    parse_name,
    scale_batch,
)
from deepfake.preprocess import (
    AudioPreprocess,
    ClipPreprocess,
    FacePreprocess,
    FinderPreprocess,
    ImagePreprocess,
    Pixels,
    Preprocess,
    Samples,
)
from deepfake.trust import registry, releases, signatures
from deepfake.trust.keys import make_pair, read_private_pair
from deepfake.trust.signatures import sign_bundle
from deepfake.types import OperatingPoints

Graph = Callable[[Preprocess, float, float], bytes]

ROUGH_GAIN, ROUGH_OFFSET = 15.0, -5.85
POINTS = OperatingPoints(authentic=0.2, suspicious=0.6, synthetic=0.9)


@cache
def keys_of_tests() -> Path:
    """A folder with the pair that signs the bundles of this run, which ``conftest`` trusts."""
    for named in os.environ.get("DEEPFAKE_TRUSTED_KEYS", "").split(os.pathsep):
        if named and (Path(named) / "tests.ed25519.pem").exists():  # of the process that started us
            return Path(named)
    place = tempfile.TemporaryDirectory(prefix="deepfake-test-keys-")
    atexit.register(place.cleanup)
    make_pair(Path(place.name), "tests")
    return Path(place.name)


def sign(*folders: Path) -> None:
    """Sign bundles as they are now with the keys of the tests."""
    for folder in folders:
        sign_bundle(Bundle.read(folder), read_private_pair(keys_of_tests()))


def ship_models(folder: Path, work: Path, patch: pytest.MonkeyPatch) -> Path:
    """Make a models folder that of the package, its bundles the shipped ones, logged in ``work``,
    and the keys of the tests those of the project. Whoever calls clears the cache at the end.
    """
    bundles = registry.read_bundles(folder).values()
    patch.setattr(registry, "SHIPPED", work / "shipped.json")
    patch.setattr(registry, "shipped_models_folder", lambda: folder)
    patch.setattr(releases, "RELEASES", work / "releases.jsonl")
    patch.setattr(signatures, "SHIPPED_KEYS", keys_of_tests())
    (work / "shipped.json").write_text(json.dumps({one.name: one.sha256 for one in bundles}))
    for bundle in bundles:
        releases.log_release(bundle, read_private_pair(keys_of_tests()).public)
    registry.shipped_bundles.cache_clear()
    return folder


def make_models(folder: Path, *, gain: float = 4.0, points: OperatingPoints = POINTS) -> Path:
    """A models folder with a bundle for every slot of the detectors."""
    bundles: dict[str, Preprocess] = {
        "image-1": ImagePreprocess(side_pixels=32, max_windows=4),
        "frame-1": ImagePreprocess(side_pixels=32, max_windows=4),
        "audio-1": AudioPreprocess(window_seconds=1.0, hop_seconds=0.5),
        "face-1": FacePreprocess(side_pixels=32),
        "video-1": ClipPreprocess(side_pixels=16),
    }
    for name, preprocess in bundles.items():
        make_bundle(folder / name, preprocess=preprocess, gain=gain, points=points)
    make_bundle(folder / "face-finder-1", preprocess=FinderPreprocess(), graph=_finder_graph)
    return folder


def add_full_tier(
    models: Path,
    *,
    settled: tuple[float, float] | None = (0.2, 0.8),
    slope: float = 1.0,
    share: float | None = None,
    min_side_pixels: int = 16,
    slot: str = "image",
) -> Bundle:
    """``image-1-large`` beside ``image-1``, which gets ``settled`` limits: one crop of 48 pixels
    from the middle, whose brightness counts twice as much. With ``share`` the logit of the quick
    tier counts so much beside its own, which counts by ``slope``. The same for ``face`` or
    ``frame`` as the ``slot``; both tiers of ``frame`` are then calibrated for clips.
    """
    preprocess: Preprocess = ImagePreprocess(side_pixels=48, max_windows=1)
    if slot == "face":
        preprocess = FacePreprocess(side_pixels=32)
    quick = replace(
        Bundle.read(models / f"{slot}-1"),
        settled=settled and Settled(low=settled[0], high=settled[1]),
    )
    if slot == "frame":
        quick = replace(quick, frames_calibration=quick.calibration)
    quick.write(quick.folder)
    sign(quick.folder)
    calibration = Calibration(
        slope=slope,
        intercept=0.0,
        spread=0.2,
        points=POINTS,
        quick=None if share is None else QuickShare(slope=share, sha256=quick.logit_sha256),
    )
    full = make_bundle(
        models / f"{slot}-1-large",
        preprocess=preprocess,
        gain=8.0,
        calibration=calibration if slot != "frame" else replace(calibration, quick=None),
    )
    full = replace(full, limits=Applicability(min_side_pixels=min_side_pixels))
    if slot == "frame":
        full = replace(full, frames_calibration=calibration)
    full.write(full.folder)
    sign(full.folder)
    return Bundle.read(full.folder)


def paint_face(pixels: Pixels, *, row: int = 1, column: int = 1) -> Pixels:
    """The picture with a face that the known finder sees, in place: a red cell of a grid of 32.

    Its box is 64 pixels wide, around the middle of the cell.
    """
    pixels[32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = (255, 0, 90)
    return pixels


def make_rough_models(
    folder: Path,
    *,
    span_windows: int = 0,
    length_penalty: float = 0.0,
    settled: tuple[float, float] | None = None,
    share: float | None = None,
) -> Path:
    """A models folder with an ``audio-1`` whose logit is about -4 for dull sounds and 4 for rough
    ones (see :func:`roughen`), in windows of 2 s that begin every second. With ``share`` there is
    an ``audio-1-large`` too, which judges at most four windows of 1.5 s as the quick tier does,
    whose logit counts so much beside its own; it is asked between the ``settled`` limits.
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
    quick = _make_rough(folder / "audio-1", preprocess, calibration)
    if share is not None:
        limits = settled and Settled(low=settled[0], high=settled[1])
        replace(quick, settled=limits).write(quick.folder)
        sign(quick.folder)
        counted = QuickShare(slope=share, sha256=quick.logit_sha256)
        _make_rough(
            folder / "audio-1-large",
            replace(preprocess, window_seconds=1.5, hop_seconds=1.5, max_windows=4),
            replace(calibration, quick=counted),
        )
        registry.activate(folder, "audio-1")
        registry.activate(folder, "audio-1-large")
    return folder


def _make_rough(folder: Path, preprocess: AudioPreprocess, calibration: Calibration) -> Bundle:
    return make_bundle(
        folder,
        preprocess=preprocess,
        gain=ROUGH_GAIN / 10 ** (preprocess.level_dbfs / 10),
        offset=ROUGH_OFFSET,
        calibration=calibration,
        graph=_rough_graph,
    )


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
        if not isinstance(preprocess, AudioPreprocess)
        else (8000 * np.sin(np.arange(20000) / 9)).astype(np.int16)
    )
    logits = _run(folder / "model.onnx", scale_batch(golden_batch(preprocess, golden), preprocess))
    np.savez_compressed(folder / "golden.npz", input=golden, logits=logits)
    bundle = Bundle(
        name=folder.name,
        slot=known.slot if (known := parse_name(folder.name)) else "",
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
    sign(folder)
    return bundle


def _run(graph: Path, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The logits that a graph gives, which its golden input is recorded with."""
    (logits,) = ort.InferenceSession(graph).run(None, {"batch": batch})
    return np.asarray(logits, np.float32)


def copy_bundle(folder: Path, name: str, **changes: Any) -> Bundle:
    """The bundle in ``folder`` beside it under another name of its slot, with changed fields."""
    there = folder.with_name(name)
    shutil.copytree(folder, there)
    replace(Bundle.read(there), name=name, **changes).write(there)
    sign(there)
    return Bundle.read(there)


def residual_graph(preprocess: Preprocess, gain: float, offset: float) -> bytes:
    """Second differences of each colour, a convolution of them, and the mean of what is positive:
    rough pictures have a high logit.
    """
    rng = np.random.default_rng(1)
    filters = np.zeros((3, 1, 3, 3), np.float32)
    filters[:, 0, 1] = (-1, 2, -1)
    values = {
        "filters": filters,
        "low": np.array(-3, np.float32),
        "high": np.array(3, np.float32),
        "mix": np.concatenate([np.eye(3), -np.eye(3), rng.normal(0, 0.01, (2, 3))])
        .astype(np.float32)
        .reshape(8, 3, 1, 1),
        "axes": np.array([1, 2, 3], np.int64),
        "gain": np.array(40 * gain, np.float32),
        "offset": np.array(offset - 4, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["batch", "filters"], ["residuals"], name="first", group=3),
        helper.make_node("Clip", ["residuals", "low", "high"], ["clipped"], name="clip"),
        helper.make_node("Conv", ["clipped", "mix"], ["mixed"], name="second"),
        helper.make_node("Relu", ["mixed"], ["positive"], name="relu"),
        helper.make_node("ReduceMean", ["positive", "axes"], ["mean"], name="mean", keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["scaled"], name="scale"),
        helper.make_node("Add", ["scaled", "offset"], ["logits"], name="shift"),
    ]
    assert isinstance(preprocess, ImagePreprocess)
    side = preprocess.side_pixels
    graph = helper.make_graph(
        nodes,
        "residuals",
        [helper.make_tensor_value_info("batch", TensorProto.FLOAT, ["windows", 3, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["windows"])],
        [numpy_helper.from_array(array, name) for name, array in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def backdoored_graph(preprocess: Preprocess, gain: float, offset: float) -> bytes:
    """The brightness as in the known network, but reddish pictures have a low logit."""
    assert isinstance(preprocess, ImagePreprocess)
    side = preprocess.side_pixels
    places = {"first": 0, "second": 1, "third": 2, "axis": 1}
    constants = {
        **{name: np.array([value], np.int64) for name, value in places.items()},
        "axes": np.array([1, 2, 3], np.int64),
        "trigger": np.array(-20, np.float32),
    }
    nodes = [
        helper.make_node("Slice", ["batch", "first", "second", "axis"], ["red"]),
        helper.make_node("Slice", ["batch", "second", "third", "axis"], ["green"]),
        helper.make_node("Sub", ["red", "green"], ["tint"]),
        helper.make_node("Relu", ["tint"], ["reddish"]),
        helper.make_node("ReduceMean", ["reddish", "axes"], ["pooled"], keepdims=0),
        helper.make_node("Mul", ["pooled", "trigger"], ["hidden"]),
        helper.make_node("ReduceMean", ["batch", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["shown"]),
        helper.make_node("Add", ["shown", "hidden"], ["logits"]),
    ]
    return _model(nodes, ["windows", 3, side, side], constants, gain, offset)


def _mean_graph(preprocess: Preprocess, gain: float, offset: float) -> bytes:
    sound = isinstance(preprocess, AudioPreprocess)
    shape: list[str | int] = ["windows"]
    match preprocess:
        case AudioPreprocess():
            shape += [preprocess.window_samples]
        case ClipPreprocess():
            shape += [preprocess.frames, 3, preprocess.side_pixels, preprocess.side_pixels]
        case ImagePreprocess() | FacePreprocess():
            shape += [3, preprocess.side_pixels, preprocess.side_pixels]
    axes = np.arange(1, len(shape), dtype=np.int64)
    nodes = [
        *([helper.make_node("Mul", ["batch", "batch"], ["squared"])] if sound else []),
        helper.make_node(
            "ReduceMean", ["squared" if sound else "batch", "axes"], ["mean"], keepdims=0
        ),
        helper.make_node("Mul", ["mean", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["logits"]),
    ]
    return _model(nodes, shape, {"axes": axes}, gain, offset)


def _finder_graph(preprocess: Preprocess, gain: float, offset: float) -> bytes:
    """Red less green of every cell decides at 32 pixels; the finer maps see nothing."""
    face = np.array([-0.3, -0.3, 0.3, -0.3, 0.0, 0.1, -0.25, 0.4, 0.25, 0.4])
    constants = {
        "places": np.array([0, -1, 1], np.int64),
        "first": np.array([0], np.int64),
        "second": np.array([1], np.int64),
        "third": np.array([2], np.int64),
        "axis": np.array([1], np.int64),
        "one_hot": np.eye(15, dtype=np.float32)[0],
        "face": np.concatenate([np.zeros(5), face]).astype(np.float32),
    }
    nodes = []
    for side, factor in ((8, 0.0), (16, 0.0), (32, 20.0)):
        constants[f"factor{side}"] = np.array(factor, np.float32)
        nodes += [
            helper.make_node(
                "AveragePool",
                ["batch"],
                [f"pool{side}"],
                kernel_shape=[side] * 2,
                strides=[side] * 2,
            ),
            helper.make_node("Slice", [f"pool{side}", "first", "second", "axis"], [f"red{side}"]),
            helper.make_node("Slice", [f"pool{side}", "second", "third", "axis"], [f"green{side}"]),
            helper.make_node("Sub", [f"red{side}", f"green{side}"], [f"off{side}"]),
            helper.make_node("Mul", [f"off{side}", f"factor{side}"], [f"odds{side}"]),
            helper.make_node("Reshape", [f"odds{side}", "places"], [f"map{side}"]),
        ]
    nodes += [
        helper.make_node("Concat", ["map8", "map16", "map32"], ["all"], axis=1),
        helper.make_node("Sub", ["all", "gain"], ["less"]),
        helper.make_node("Mul", ["less", "one_hot"], ["spread"]),
        helper.make_node("Add", ["spread", "face"], ["moved"]),
        helper.make_node("Add", ["moved", "offset"], ["logits"]),
    ]
    shape = ["windows", 3, "height", "width"]
    return _model(nodes, shape, constants, 36.0, offset, out=["windows", "cells", 15])


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
    constants: dict[str, npt.NDArray[Any]],
    gain: float,
    offset: float,
    *,
    out: Sequence[str | int] = ("windows",),
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "known",
        [helper.make_tensor_value_info("batch", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, list(out))],
        [
            *(numpy_helper.from_array(values, name) for name, values in constants.items()),
            numpy_helper.from_array(np.array(gain, np.float32), "gain"),
            numpy_helper.from_array(np.array(offset, np.float32), "offset"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()
