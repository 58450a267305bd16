"""Weights of a large network in int8 that are stored once, for torch and for the graph alike.

Every linear layer that is named is stored as int8 with one scale for each output (symmetric), all
else in float32, in ``model.safetensors``. ``model.onnx`` is a few hundred kilobytes: its weights
are ONNX *external data*, places in that same file, each widened by a ``DequantizeLinear`` before
its product. Activations are never quantised.
"""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import nn

from deepfake.bundle import GRAPH, WEIGHTS
from deepfake.networks import INT8, SCALE
from deepfake.preprocess import Floats

from .export import export_onnx

MOST_INSIDE_BYTES = 2_000_000
"""What a graph may hold itself: its nodes, shapes and folded constants."""


class _Turned(nn.Module):
    """A linear layer whose weight lies as a product takes it (in, out): no graph turns it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().T.contiguous())
        self.bias = layer.bias

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        product = torch.matmul(hidden, self.weight)
        return product if self.bias is None else product + self.bias


def linear_weights(network: nn.Module, *, least: int = 65_536) -> list[str]:
    """Names of the weights of all linear layers with ``least`` numbers or more."""
    return [
        f"{name}.weight"
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and layer.weight.numel() >= least
    ]


def write_network(
    network: nn.Module, folder: Path, *, quantised: Sequence[str], batch: Floats
) -> nn.Module:
    """Write ``model.safetensors`` and ``model.onnx`` of a float32 network in evaluation mode.

    ``quantised`` names the weights of linear layers that become int8 (see :func:`linear_weights`);
    ``batch`` (windows, …), at least two windows in the network's range, is what the graph is traced
    with. Returns a copy of the network with the rounded weights, whose logits every backend must
    give: make the golden ones and the calibration with it. Raises ``ValueError`` for a name that is
    no linear layer's weight, ``RuntimeError`` where the graph would hold large constants itself.
    """
    rounded, turned = copy.deepcopy(network).float(), copy.deepcopy(network).float()
    tensors: dict[str, torch.Tensor] = {}
    for name in quantised:
        path, _, last = name.rpartition(".")
        layer = rounded.get_submodule(path) if last == "weight" else None
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"weight {name!r}: is not that of a linear layer")
        values, scale = round_weight(layer.weight.detach())
        tensors[name + INT8], tensors[name + SCALE] = values.T.contiguous(), scale
        layer.weight = nn.Parameter(values * scale[:, None])
        parent, _, own = path.rpartition(".")
        setattr(turned.get_submodule(parent), own, _Turned(layer))
    rest = {key: value for key, value in rounded.state_dict().items() if key not in quantised}
    tensors |= {key: value.contiguous().clone() for key, value in rest.items()}
    save_file(tensors, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)
    export_onnx(turned.eval(), batch, folder / GRAPH)
    _point_outside(folder / GRAPH, read_places(folder / WEIGHTS), quantised)
    return rounded.eval()


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
    path: Path, places: dict[str, tuple[str, list[int], int, int]], quantised: Sequence[str]
) -> None:
    """Replace the weights of a graph by references to where they lie in the safetensors file."""
    model = onnx.load(path)
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
    if inside > MOST_INSIDE_BYTES:
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
