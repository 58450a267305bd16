"""Static int8 quantisation of a bundle's network: quantise-dequantise nodes, int8 weights with a
scale for each channel, and the ranges that activations have on files of the user.

The first six learnt convolutions stay in fp32: they hold at most 1 % of the weights, and 8 bits
there change scores most. So does what is fixed mathematics: of sounds the spectrum up to the
logarithm and its normalisation, whose range no 8 bits hold, of clips the differences between frames
and their logarithm, and of faces the branch on high-pass residuals, which is small and slower in
8 bits.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ..bundle import Bundle, scale_batch
from ..errors import SettingsError
from ..preprocess import Batch, Floats
from .samples import Sample

WINDOWS_PER_FILE = 4
MOST_WINDOWS = 1000
LEAST_FILES = 20
FIRST_CONVOLUTIONS = 6


def quantise(
    bundle: Bundle, network: onnx.ModelProto, samples: Iterable[Sample], seen: set[str]
) -> onnx.ModelProto:
    """The network in int8, with the ranges that ``samples`` give; their hashes go to ``seen``.

    At most four windows of a file are taken, evenly spread. Raises ``SettingsError`` for fewer than
    20 files that can be judged.
    """
    batches = _gather(samples, seen)
    if len(batches) < LEAST_FILES:
        raise SettingsError(
            f"calibration set: {len(batches)} of its files could be judged",
            hint=f"give at least {LEAST_FILES}, better some hundred, like those to be judged",
        )

    arrays = (scale_batch(batch, bundle.preprocess) for batch in batches)
    return quantise_network(network, arrays, kept=kept_nodes(bundle, network))


def quantise_network(
    network: onnx.ModelProto,
    arrays: Iterable[Floats],
    *,
    kept: set[str],
    operators: Sequence[str] | None = None,
) -> onnx.ModelProto:
    """The network with quantise-dequantise nodes and int8 weights, a scale for each channel.

    ``arrays`` are inputs of the network that give the ranges of activations, ``kept`` names of
    nodes that stay in fp32, ``operators`` the kinds that do not (None: every kind that can).
    """
    from onnxruntime import quantization

    left = iter(arrays)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Floats] | None:
            array = next(left, None)
            return None if array is None else {"batch": array}

    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)  # it advises a step that these graphs do not need
    try:
        with tempfile.TemporaryDirectory(prefix="deepfake-") as name:
            source, goal = Path(name) / "source.onnx", Path(name) / "goal.onnx"
            source.write_bytes(network.SerializeToString())
            quantization.quantize_static(
                source,
                goal,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=operators,
                nodes_to_exclude=sorted(kept),
            )
            return onnx.load(goal)
    finally:
        root.setLevel(level)


def kept_nodes(bundle: Bundle, network: onnx.ModelProto) -> set[str]:
    """Names of the nodes that stay in fp32: see the module."""
    fixed, nodes = _fixed_nodes(bundle, network), network.graph.node
    learnt = [
        index
        for index, node in enumerate(nodes)
        if node.op_type == "Conv" and node.name not in fixed
    ]
    first = learnt[FIRST_CONVOLUTIONS] if len(learnt) > FIRST_CONVOLUTIONS else 0
    return fixed | {node.name for node in nodes[:first]}


def _fixed_nodes(bundle: Bundle, network: onnx.ModelProto) -> set[str]:
    nodes = network.graph.node
    front = {name for node in nodes if node.op_type == "Log" for name in node.output}
    if bundle.slot == "audio":
        return _before(network, front) | _after(network, front, until="Conv")
    constants = {one.name: one for one in network.graph.initializer}
    if bundle.slot == "video":
        before = _before(network, front)
        return {
            node.name
            for node in nodes
            if node.name in before
            and node.op_type not in ("Conv", "Clip", "Relu")
            and not (node.op_type == "Add" and not set(node.input) & set(constants))
        }
    clipped: set[str] = set()
    residuals: set[str] = set()
    for node in nodes:
        if node.op_type == "Clip" and node.input[1] in constants:
            low = float(numpy_helper.to_array(constants[node.input[1]]))
            if low < 0:  # residuals have both signs, what ReLU6 leaves has one
                clipped |= set(node.output)
                residuals |= {node.name, *(n.name for n in nodes if node.input[0] in n.output)}
    return residuals | _after(network, clipped)


def _before(network: onnx.ModelProto, values: set[str]) -> set[str]:
    """Nodes that the values come from."""
    found, wanted = set(), set(values)
    for node in reversed(network.graph.node):
        if wanted & set(node.output):
            found.add(node.name)
            wanted |= set(node.input)
    return found


def _after(network: onnx.ModelProto, values: set[str], *, until: str = "") -> set[str]:
    """Nodes that the values reach before something else joins them, or an operator ``until``."""
    constant = {one.name for one in network.graph.initializer} | {""}
    found, reached = set(), set(values)
    for node in network.graph.node:
        own = reached & set(node.input)
        if own and set(node.input) <= reached | constant and node.op_type != until:
            found.add(node.name)
            reached |= set(node.output)
    return found


def _gather(samples: Iterable[Sample], seen: set[str]) -> list[Batch]:
    batches: list[Batch] = []
    for sample in samples:
        seen.add(sample.sha256)
        if sum(map(len, batches)) >= MOST_WINDOWS:
            continue
        count = len(sample.batch)
        chosen = np.linspace(0, count - 1, min(WINDOWS_PER_FILE, count)).round().astype(int)
        batches.append(sample.batch[chosen])
    return batches
