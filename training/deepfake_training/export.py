"""From a trained network to a bundle on disk, checked against torch before it is kept."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from safetensors.torch import save_file
from torch import nn

from deepfake.bundle import Applicability, Bundle, Calibration, golden_batch, scale_batch
from deepfake.engine.backends import import_openvino, open_backend
from deepfake.errors import ModelError
from deepfake.files import replaced
from deepfake.preprocess import AudioPreprocess, FinderPreprocess, Preprocess
from deepfake.settings import Settings

from .metrics import FamilyRow
from .records import FileLogits, LongLogits

MAX_BUNDLE_BYTES = 15_000_000
PARITY = 1e-3


@dataclass(frozen=True)
class Trained:
    """What a recipe returns: the network, how to feed it, and its out-of-fold logits.

    ``network`` is in evaluation mode on the CPU. ``facts`` goes into the bundle and the card: seed,
    data hash, wall time, machine, settings and what was tried. ``recordings`` are long genuine ones
    with and without a synthetic insert, ``families`` accuracy by kind of synthesis, for the slots
    that have them.
    """

    network: nn.Module
    network_name: str
    network_options: dict[str, Any]
    preprocess: Preprocess
    records: Sequence[FileLogits]
    limits: Applicability
    facts: Mapping[str, Any]
    recordings: Sequence[LongLogits] = ()
    families: Sequence[FamilyRow] = ()


def write_bundle(
    trained: Trained,
    *,
    name: str,
    calibration: Calibration,
    metrics: dict[str, Any],
    folder: Path,
    slot: str | None = None,
) -> Bundle:
    """Write ``folder`` with weights, graph, golden inputs and ``bundle.json``; ``slot`` is by
    default what ``name`` begins with.

    Weights are rounded to fp16 in the safetensors file and the graph holds the same rounded
    values, so that all backends agree. Raises ``ModelError`` when a backend differs from torch by
    more than 1e-3 in score or the files are over 15 MB.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    network = _round_weights(trained.network).eval()
    save_file(
        {key: _halve(value) for key, value in network.state_dict().items()},
        partial / "model.safetensors",
    )
    (partial / "model.safetensors").chmod(0o644)
    golden = golden_inputs(trained.preprocess)
    batch = scale_batch(golden_batch(trained.preprocess, golden), trained.preprocess)
    any_size = isinstance(trained.preprocess, FinderPreprocess)
    export_onnx(network, batch, partial / "model.onnx", any_size=any_size)
    halve_graph(partial / "model.onnx")
    with torch.inference_mode():
        logits = network(torch.from_numpy(batch)).numpy()
    np.savez_compressed(partial / "golden.npz", input=golden, logits=logits)
    bundle = Bundle(
        name=name,
        slot=slot or name.rpartition("-")[0],
        network=trained.network_name,
        network_options=trained.network_options,
        preprocess=trained.preprocess,
        calibration=calibration,
        limits=trained.limits,
        files={
            path.name: {"sha256": _sha256(path), "precision": precision}
            for path, precision in (
                (partial / "model.onnx", "fp32 from weights stored in fp16"),
                (partial / "model.safetensors", "fp16"),
                (partial / "golden.npz", "fp32"),
            )
        },
        metrics=metrics,
        provenance=dict(trained.facts),
        licence="Apache-2.0",
        folder=partial,
    )
    bundle.write(partial)
    check_parity(bundle)
    size = sum(path.stat().st_size for path in partial.iterdir())
    if size > MAX_BUNDLE_BYTES:
        raise ModelError(f"bundle {name}: {size / 1e6:.1f} MB; the limit is 15 MB")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return replace(bundle, folder=folder)


def export_onnx(
    network: nn.Module, batch: np.ndarray[Any, Any], path: Path, *, any_size: bool = False
) -> None:
    """Export ``network`` with input ``batch`` (windows, …) and output ``logits`` (windows, …).

    ``any_size`` leaves height and width open, to multiples of 32.
    """
    example = torch.from_numpy(batch[:2])
    shape: dict[int, Any] = {0: torch.export.Dim("windows", min=1, max=4096)}
    if any_size:
        shape |= {
            2: 32 * torch.export.Dim("rows", max=64),
            3: 32 * torch.export.Dim("columns", max=64),
        }
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        input_names=["batch"],
        output_names=["logits"],
        dynamic_shapes=(shape,),
        opset_version=18,
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise ModelError("exporter of torch: returned no graph")
    model = program.model_proto
    for node in model.graph.node:  # stack traces name files of the machine that exported
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    model.ClearField("metadata_props")
    onnx.checker.check_model(model)
    with replaced(path) as written:
        written.write_bytes(model.SerializeToString())


def compile_graph(path: Path, *, threads: int, precision: str = "f32") -> Any:
    """A graph in OpenVINO as a callable; ``bf16`` is twice as fast where the processor has it."""
    config = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "ENABLE_CPU_PINNING": False,  # else all processes share one core
    }
    return import_openvino().Core().compile_model(path, "CPU", config)


def halve_graph(path: Path) -> None:
    """Store the weights of a graph in fp16, each widened by a node of its own: half the file, and
    the same numbers when they are at fp16 precision already. Runtimes widen them once, at loading.
    """
    model = onnx.load(path)
    casts = []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):  # what overflows differs, and stays as it is
            halved = values.astype(np.float16)
        if values.dtype != np.float32 or values.size < 64 or (halved != values).any():
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(halved, f"{name}.fp16"))
        casts.append(
            onnx.helper.make_node("Cast", [f"{name}.fp16"], [name], to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def golden_inputs(preprocess: Preprocess) -> np.ndarray[Any, Any]:
    """A seeded synthetic picture (uint8) or sound (int16) that exercises every window."""
    rng = np.random.default_rng(20240501)
    if not isinstance(preprocess, AudioPreprocess):
        side = 96 if isinstance(preprocess, FinderPreprocess) else preprocess.side_pixels
        height, width = 2 * side, 2 * side + side // 2
        down, across = np.mgrid[0:height, 0:width]
        waves = [np.sin(across / (9 + 5 * c) + c) * np.cos(down / (13 + 3 * c)) for c in range(3)]
        picture = 127 + 90 * np.stack(waves, axis=-1)
        picture[: height // 2] += rng.normal(0, 12, (height // 2, width, 1))
        return picture.clip(0, 255).astype(np.uint8)
    length = round(2.5 * preprocess.window_samples)
    seconds = np.arange(length) / preprocess.sample_rate
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * seconds)
    phase = 2 * np.pi * np.cumsum(pitch) / preprocess.sample_rate
    voiced = sum(np.sin(k * phase) / k for k in range(1, 25))
    sound = voiced * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * seconds)) + rng.normal(0, 0.02, length)
    loudest = float(np.abs(sound).max())
    return np.asarray(sound / loudest * 20000).astype(np.int16)


def check_parity(bundle: Bundle) -> None:
    """Every installed backend gives the golden scores; raises ``ModelError`` otherwise."""
    batch, logits = bundle.golden()
    for name in ("torch", "onnxruntime", "openvino"):
        backend = open_backend(bundle, settings=Settings(backend=name, device="cpu"))
        worst = bundle.calibration.largest_gap(backend.run(batch), logits)
        backend.close()
        if worst > PARITY:
            raise ModelError(f"bundle {bundle.name}: {name} differs from torch by {worst:.5f}")


def metrics_to_dict(**tables: Sequence[Any]) -> dict[str, Any]:
    """Tables of rows (dataclasses) as JSON values, NaN as None, 4 decimals."""

    def tidy(value: Any) -> Any:
        if isinstance(value, float):
            return None if math.isnan(value) else round(value, 4)
        return (
            {key: tidy(inner) for key, inner in value.items()} if isinstance(value, dict) else value
        )

    return {
        key: [{name: tidy(value) for name, value in asdict(row).items()} for row in rows]
        for key, rows in tables.items()
        if rows
    }


def _halve(value: torch.Tensor) -> torch.Tensor:
    return value.half().contiguous() if value.is_floating_point() else value.contiguous()


def _round_weights(network: nn.Module) -> nn.Module:
    """The network with every float at fp16 precision, still stored as fp32."""
    state = {
        key: value.half().float() if value.is_floating_point() else value
        for key, value in network.state_dict().items()
    }
    for key, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelError(f"weights {key}: too large for fp16")
    network.load_state_dict(state)
    return network


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
