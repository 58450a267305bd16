"""A full tier as a bundle: weights in int8 that are stored once, for torch and the graph alike.

Every linear layer that is named is stored as int8 with one scale for each output (symmetric), all
else in float32, in ``model.safetensors``. ``model.onnx`` is small: its weights are ONNX *external
data*, places in that same file, each widened by a ``DequantizeLinear`` before its product.
Activations are never quantised.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from safetensors.torch import load_file, save_file
from torch import nn

from deepfake.bundle import (
    GRAPH,
    HEAD,
    QUICK_TIERS,
    WEIGHTS,
    Bundle,
    Calibration,
    golden_batch,
    parse_name,
    scale_batch,
)
from deepfake.engine.backends import open_backend
from deepfake.networks import INT8, SCALE
from deepfake.preprocess import Floats
from deepfake.settings import Settings

from .export import PARITY, Trained, export_onnx, golden_inputs

MOST_BYTES = 95_000_000
MOST_INSIDE_BYTES = 2_000_000
"""What a graph may hold itself beside the buffers that are no weights, as the Fourier kernels of
speech: its nodes, shapes and folded constants.
"""


class _Turned(nn.Module):
    """A linear layer whose weight lies as a product takes it (in, out): no graph turns it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().T.contiguous())
        self.bias = layer.bias

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        product = torch.matmul(hidden, self.weight)
        return product if self.bias is None else product + self.bias


def write_full_bundle(
    trained: Trained,
    *,
    name: str,
    calibration: Calibration,
    metrics: dict[str, Any],
    quantised: Sequence[str],
    folder: Path,
    shared: Path | None = None,
) -> Bundle:
    """Write the bundle of a full tier, as ``image-3-large``, whose ``quantised`` weights are int8;
    ``shared`` as for :func:`write_network`.

    The calibration must read logits of the rounded network (see :func:`round_network`). Raises
    ``RuntimeError`` when a backend's logits differ from torch's by more than 1e-3 or the files are
    over 95 MB; ``folder`` is replaced only once all is well.
    """
    known = parse_name(name)
    if known is None or known.slot not in QUICK_TIERS:
        raise ValueError(f"bundle {name!r}: is not named as a full tier; as image-3-large")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    golden = golden_inputs(trained.preprocess)
    batch = scale_batch(golden_batch(trained.preprocess, golden), trained.preprocess)
    if len(batch) < 2:  # one window alone would be taken for the only number of windows
        batch = np.concatenate([batch, batch])
    rounded = write_network(
        trained.network, partial, quantised=quantised, batch=batch, shared=shared
    )
    windows = scale_batch(golden_batch(trained.preprocess, golden), trained.preprocess)
    with torch.inference_mode():
        logits = rounded(torch.from_numpy(windows)).numpy()
    np.savez_compressed(partial / "golden.npz", input=golden, logits=logits)
    precisions = {
        GRAPH: {"precision": "fp32 from weights in int8", "weights": WEIGHTS},
        WEIGHTS: {"precision": "int8 and fp32"},
        "golden.npz": {"precision": "fp32"},
    }
    if (partial / HEAD).exists():
        precisions[HEAD] = {"precision": "fp32"}
    bundle = Bundle(
        name=name,
        slot=known.slot,
        network=trained.network_name,
        network_options=trained.network_options,
        preprocess=trained.preprocess,
        calibration=calibration,
        limits=trained.limits,
        files={
            file: {"sha256": hashlib.sha256((partial / file).read_bytes()).hexdigest(), **facts}
            for file, facts in precisions.items()
        },
        metrics=metrics,
        provenance=trained.facts,
        licence="Apache-2.0",
        folder=partial,
    )
    bundle.write(partial)
    check_logits(bundle)
    if bundle.size_bytes > MOST_BYTES:
        size, most = bundle.size_bytes / 1e6, MOST_BYTES / 1e6
        raise RuntimeError(f"bundle {name}: {size:.1f} MB; the limit is {most:g} MB")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return replace(bundle, folder=folder)


def check_logits(bundle: Bundle) -> dict[str, float]:
    """How far the golden logits of each backend are from torch's; raises ``RuntimeError`` for more
    than 1e-3.
    """
    batch, logits = bundle.golden()
    gaps = {}
    for name in ("torch", "onnxruntime", "openvino"):
        backend = open_backend(bundle, settings=Settings(backend=name, device="cpu"))
        gaps[name] = float(np.abs(backend.run(batch) - logits).max())
        backend.close()
        if gaps[name] > PARITY:
            raise RuntimeError(
                f"bundle {bundle.name}: logits of {name} differ from torch's by {gaps[name]:.5f}"
            )
    return gaps


def linear_weights(network: nn.Module, *, least: int = 65_536) -> list[str]:
    """Names of the weights of all linear layers with ``least`` numbers or more."""
    return [
        f"{name}.weight"
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and layer.weight.numel() >= least
    ]


def write_network(
    network: nn.Module,
    folder: Path,
    *,
    quantised: Sequence[str],
    batch: Floats,
    shared: Path | None = None,
) -> nn.Module:
    """Write ``model.safetensors`` and ``model.onnx`` of a float32 network in evaluation mode.

    ``quantised`` names the weights of linear layers that become int8 (see :func:`linear_weights`);
    ``batch`` (windows, …), at least two windows in the network's range, is what the graph is traced
    with. Returns a copy of the network with the rounded weights, whose logits every backend must
    give: make the golden ones and the calibration with it. Raises ``ValueError`` for a name that is
    no linear layer's weight, ``RuntimeError`` where the graph would hold large constants itself.

    With ``shared``, the weights file of another network of the same shape, that file is taken as it
    is, byte for byte, so that whoever stores files by content has it once; what differs lies in
    ``head.safetensors``, and in the graph.
    """
    rounded, turned = round_network(network, quantised), copy.deepcopy(network).float()
    tensors: dict[str, torch.Tensor] = {}
    for name in quantised:
        path = name.removesuffix(".weight")
        layer = _linear(turned, name)
        values, scale = round_weight(layer.weight.detach())
        tensors[name + INT8], tensors[name + SCALE] = values.T.contiguous(), scale
        parent, _, own = path.rpartition(".")
        setattr(turned.get_submodule(parent), own, _Turned(layer))
    rest = {key: value for key, value in rounded.state_dict().items() if key not in quantised}
    tensors |= {key: value.contiguous().clone() for key, value in rest.items()}
    if shared is None:
        _save(tensors, folder / WEIGHTS)
    else:
        shutil.copyfile(shared, folder / WEIGHTS)
        known = load_file(shared)
        apart = {
            name: tensor
            for name, tensor in tensors.items()
            if name not in known or not torch.equal(known[name], tensor)
        }
        _save(apart, folder / HEAD)
    export_onnx(turned.eval(), batch, folder / GRAPH)
    places = read_places(folder / WEIGHTS)
    if shared is not None:
        places = {name: place for name, place in places.items() if name not in apart}
    stored = network.state_dict()
    fixed = sum(one.nbytes for name, one in network.named_buffers() if name not in stored)
    _point_outside(folder / GRAPH, places, quantised, most=MOST_INSIDE_BYTES + fixed)
    return rounded


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    save_file(tensors, path)
    path.chmod(0o644)


def round_network(network: nn.Module, quantised: Sequence[str]) -> nn.Module:
    """A copy in float32, in evaluation mode, with these weights as int8 and its scales have them.

    Raises ``ValueError`` for a name that is not a linear layer's weight.
    """
    rounded = copy.deepcopy(network).float().eval()
    for name in quantised:
        layer = _linear(rounded, name)
        values, scale = round_weight(layer.weight.detach())
        layer.weight = nn.Parameter(values * scale[:, None])
    return rounded


def _linear(network: nn.Module, name: str) -> nn.Linear:
    path, _, last = name.rpartition(".")
    layer = network.get_submodule(path) if last == "weight" else None
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"weight {name!r}: is not that of a linear layer")
    return layer


def round_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight (out, in) as int8 in -127…127, and the scale of each output (out,)."""
    scale = weight.abs().amax(dim=1) / 127
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale


def read_places(path: Path) -> dict[str, tuple[str, list[int], int, int]]:
    """Of every tensor of a safetensors file its type, shape, offset in the file and bytes."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return {
        name: (
            facts["dtype"],
            facts["shape"],
            8 + length + facts["data_offsets"][0],
            facts["data_offsets"][1] - facts["data_offsets"][0],
        )
        for name, facts in header.items()
    }


def _point_outside(
    path: Path,
    places: dict[str, tuple[str, list[int], int, int]],
    quantised: Sequence[str],
    *,
    most: int,
) -> None:
    """Replace the weights of a graph by references to where they lie in the safetensors file; it
    may keep ``most`` bytes itself.
    """
    model = onnx.load(path)
    if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise RuntimeError(
            "graph: takes one number of windows; take sizes in forward from shape, not from len()"
        )
    kept: list[onnx.TensorProto] = []
    widened: list[onnx.NodeProto] = []
    for tensor in model.graph.initializer:
        name = tensor.name
        if name in quantised:
            kept += [_outside(name + INT8, places), _outside(name + SCALE, places)]
            names = [name + INT8, name + SCALE]
            widened.append(helper.make_node("DequantizeLinear", names, [name], axis=1))
        elif name in places and list(tensor.dims) == places[name][1] and tensor.dims:
            kept.append(_outside(name, places))
        else:
            kept.append(tensor)
    lost = [name for name in quantised if name + INT8 not in {tensor.name for tensor in kept}]
    if lost:
        raise RuntimeError(f"weight {lost[0]!r}: the exported graph has none of that name")
    nodes = [*widened, *model.graph.node]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    inside = model.ByteSize()
    if inside > most:
        raise RuntimeError(f"graph: holds {inside / 1e6:.1f} MB itself, weights that were folded")
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(path)


def _outside(name: str, places: dict[str, tuple[str, list[int], int, int]]) -> onnx.TensorProto:
    kind, shape, offset, length = places[name]
    tensor = TensorProto(
        name=name,
        data_type={"I8": TensorProto.INT8, "F32": TensorProto.FLOAT}[kind],
        dims=shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", WEIGHTS), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor
