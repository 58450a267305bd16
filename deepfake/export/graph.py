"""A bundle's network with what stands around it put inside one ONNX graph, by surgery on the file.

==============  ==========================================  =====================================
slot            input                                       outputs beside ``logits``
==============  ==========================================  =====================================
image           ``crops`` uint8 (n, side, side, 3), RGB     ``scores`` (n,), ``score`` (1,)
face            ``crops`` uint8 (n, side, side, 3), RGB     ``scores`` (n,), ``score`` (1,)
video           ``bursts`` uint8 (n, frames, side, side, 3) ``scores`` (n,), ``score`` (1,)
audio           ``samples`` float32 (samples,) at 16 kHz    ``scores`` (n,), ``score`` (1,)
face-finder     ``canvas`` uint8 (1, height, width, 3)      none; ``logits`` (1, places, 15)
==============  ==========================================  =====================================

``scores`` is the calibrated P(synthetic) of each crop, face, burst or window, ``score`` that of the
picture, the clip or the sound. Inside are the normalisation of :mod:`deepfake.preprocess` and
:meth:`deepfake.bundle.Calibration.pool`; of sounds also the cut of silent ends, the windows and
their level; of faces the rule that reads several as one (:func:`deepfake.analyzers.face.highest`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..bundle import LEAST_SPANS, Bundle, Calibration
from ..errors import ModelError
from ..preprocess import (
    AudioPreprocess,
    ClipPreprocess,
    FacePreprocess,
    FinderPreprocess,
    ImagePreprocess,
)

Shape = tuple[int | str, ...]
NEVER = -1e9
"""A logit that no maximum takes."""


class Port(NamedTuple):
    """The input of a graph: its name, ONNX element type, shape, and what a person puts in."""

    name: str
    type: int
    shape: Shape
    text: str


def widen_weights(network: onnx.ModelProto) -> onnx.ModelProto:
    """The network with the weights that it stores in fp16 as plain fp32 ones: the same numbers,
    without a node that widens each.
    """
    halves = {
        one.name: one for one in network.graph.initializer if one.data_type == TensorProto.FLOAT16
    }
    widened = onnx.ModelProto()
    widened.CopyFrom(network)
    nodes = []
    for node in network.graph.node:
        if node.op_type == "Cast" and node.input[0] in halves:
            values = numpy_helper.to_array(halves[node.input[0]]).astype(np.float32)
            widened.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        else:
            nodes.append(node)
    plain = [one for one in widened.graph.initializer if one.name not in halves]
    del widened.graph.node[:], widened.graph.initializer[:]
    widened.graph.node.extend(nodes)
    widened.graph.initializer.extend(plain)
    return widened


def port_of(bundle: Bundle, *, single: bool = False) -> Port:
    """What a graph of ``bundle`` takes; ``single``: one window, of one fixed shape."""
    many: int | str = 1 if single else "windows"
    match bundle.preprocess:
        case AudioPreprocess() as sound if single:
            shape: Shape = (1, sound.window_samples)
            text = f"one window of mono sound at {sound.sample_rate} Hz in -1…1, of any level"
            return Port("window", TensorProto.FLOAT, shape, text)
        case AudioPreprocess() as sound:
            text = f"mono sound at {sound.sample_rate} Hz in -1…1, of any level"
            return Port("samples", TensorProto.FLOAT, ("samples",), text)
        case ImagePreprocess(side_pixels=side):
            text = f"RGB crops of {side} pixels at native resolution, spread over one picture"
            return Port("crops", TensorProto.UINT8, (many, side, side, 3), text)
        case FacePreprocess(side_pixels=side):
            text = f"the RGB faces of one picture, turned upright and brought to {side} pixels"
            return Port("crops", TensorProto.UINT8, (many, side, side, 3), text)
        case ClipPreprocess(side_pixels=side, frames=frames, step_seconds=step):
            text = f"RGB bursts of one clip in order: {frames} frames {step} s apart, {side} pixels"
            return Port("bursts", TensorProto.UINT8, (many, frames, side, side, 3), text)
        case FinderPreprocess(canvases=canvases):
            height, width = canvases[0] if single else ("height", "width")
            text = "an RGB picture at the left top of a canvas filled with 127, sides of 32 · k"
            return Port("canvas", TensorProto.UINT8, (1, height, width, 3), text)


def surround(bundle: Bundle, network: onnx.ModelProto, *, single: bool = False) -> onnx.ModelProto:
    """The graph of the module's table around ``network``, which maps ``batch`` to ``logits``.

    ``single`` gives one window of a fixed shape, without pooling and without any operator on
    shapes, for converters that need that. Raises ``ModelError`` when the network has other ends.
    """
    model = onnx.ModelProto()
    model.CopyFrom(network)
    ends = [[value.name for value in side] for side in (model.graph.input, model.graph.output)]
    if ends != [["batch"], ["logits"]]:
        raise ModelError(f"bundle {bundle.name}: its graph maps {ends[0]} to {ends[1]}")
    port, before, after = port_of(bundle, single=single), _Part("before"), _Part("after")
    _prepare(before, bundle, port, single=single)
    outputs = [model.graph.output[0]]
    if bundle.slot != "face-finder":
        scores = _score(after, bundle.calibration, "logits", "scores")
        outputs.append(_floats(scores, (1,) if single else ("windows",)))
        if not single:
            _pool(after, bundle)
            outputs.append(_floats("score", (1,)))
    if single:
        del outputs[0].type.tensor_type.shape.dim[:]
        outputs[0].CopyFrom(_floats("logits", _single_shape(port, bundle)))
    graph = helper.make_graph(
        [*before.nodes, *model.graph.node, *after.nodes],
        bundle.name,
        [helper.make_tensor_value_info(port.name, port.type, port.shape)],
        outputs,
        [*model.graph.initializer, *before.constants, *after.constants],
    )
    model.graph.CopyFrom(graph)
    model.producer_name, model.doc_string = "deepfake", port.text
    onnx.checker.check_model(model, full_check=True)
    return model


class _Part:
    """Nodes and constants that are added, with names of their own."""

    def __init__(self, prefix: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._prefix = prefix

    def node(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Add a node; returns the name of its first output."""
        name = f"{self._prefix}/{kind}_{len(self.nodes)}"
        names = [out or name, f"{name}/more"] if kind == "TopK" else [out or name]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return names[0]

    def constant(self, values: npt.ArrayLike, kind: Any) -> str:
        name = f"{self._prefix}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, kind), name))
        return name

    def number(self, value: float) -> str:
        return self.constant(value, np.float32)

    def whole(self, *values: int) -> str:
        """An int64 vector."""
        return self.constant(values, np.int64)


def _prepare(part: _Part, bundle: Bundle, port: Port, *, single: bool) -> None:
    """``batch`` from the input."""
    match bundle.preprocess:
        case AudioPreprocess() as sound:
            windows = port.name if single else _cut_windows(part, sound, port.name)
            _level(part, sound, windows)
        case ImagePreprocess(mean=mean, std=std):
            scale = 1 / (255 * np.array(std, np.float64))
            _normalise(part, port, scale=scale, offset=-np.array(mean) / np.array(std))
        case _:
            _normalise(part, port, scale=np.full(3, 1 / 127.5), offset=np.full(3, -1.0))


def _normalise(
    part: _Part, port: Port, *, scale: npt.NDArray[Any], offset: npt.NDArray[Any]
) -> None:
    axes = len(port.shape)
    pixels = part.node("Cast", port.name, to=TensorProto.FLOAT)
    scaled = part.node("Mul", pixels, part.constant(scale, np.float32))
    moved = part.node("Add", scaled, part.constant(offset, np.float32))
    order = [*range(axes - 3), axes - 1, axes - 3, axes - 2]
    part.node("Transpose", moved, out="batch", perm=order)


def _level(part: _Part, sound: AudioPreprocess, windows: str) -> None:
    squared = part.node("Mul", windows, windows)
    mean = part.node("ReduceMean", squared, part.whole(1), keepdims=1)
    rms = part.node("Max", part.node("Sqrt", mean), part.number(1e-6))
    gain = part.node("Div", part.number(10 ** (sound.level_dbfs / 20)), rms)
    part.node("Mul", windows, gain, out="batch")


def _cut_windows(part: _Part, sound: AudioPreprocess, samples: str) -> str:
    """Windows (n, samples) of the part between silent ends, as ``AudioPreprocess`` cuts them: the
    last one ends where the sound does, and a short sound is repeated to fill one.
    """
    first, last = _find_active(part, sound, samples)
    active = part.node("Slice", samples, first, last, part.whole(0))
    length, hop = sound.window_samples, round(sound.hop_seconds * sound.sample_rate)
    zero, one = part.constant(0, np.int64), part.constant(1, np.int64)
    count = part.node("Squeeze", part.node("Shape", active))
    spare = part.node("Sub", count, part.constant(length, np.int64))
    spare = part.node("Max", spare, zero)
    rounded = part.node("Add", spare, part.constant(hop - 1, np.int64))
    steps = part.node("Div", rounded, part.constant(hop, np.int64))
    order = part.node("Range", zero, part.node("Add", steps, one), one)
    starts = part.node("Mul", order, part.constant(hop, np.int64))
    starts = part.node("Min", starts, spare)
    within = part.constant(np.arange(length)[None], np.int64)
    places = part.node("Add", part.node("Unsqueeze", starts, part.whole(1)), within)
    return part.node("Gather", active, part.node("Mod", places, count), axis=0)


def _find_active(part: _Part, sound: AudioPreprocess, samples: str) -> tuple[str, str]:
    """First and last sample (1,) of what is not leading or trailing silence, in double precision
    as :meth:`deepfake.preprocess.AudioPreprocess.active` finds them from 40 ms upwards.
    """
    frame = sound.sample_rate // 50
    side, total = part.whole(frame), part.node("Shape", samples)
    count = part.node("Div", total, side)
    whole = part.node("Slice", samples, part.whole(0), part.node("Mul", count, side), part.whole(0))
    frames = part.node("Reshape", whole, part.whole(-1, frame))
    frames = part.node("Cast", frames, to=TensorProto.DOUBLE)
    power = part.node("ReduceMean", part.node("Mul", frames, frames), part.whole(1), keepdims=0)
    loudness = part.node("Log", part.node("Add", power, part.constant(1e-12, np.float64)))
    rising = part.node("TopK", loudness, count, axis=0, largest=0, sorted=1)
    most = part.node("Sub", count, part.whole(1))
    place = part.node("Cast", most, to=TensorProto.DOUBLE)
    place = part.node("Mul", place, part.constant(0.95, np.float64))
    below = part.node("Floor", place)
    index = part.node("Cast", below, to=TensorProto.INT64)
    low = part.node("Gather", rising, index, axis=0)
    above = part.node("Min", part.node("Add", index, part.whole(1)), most)
    high = part.node("Gather", rising, above, axis=0)
    share = part.node("Mul", part.node("Sub", high, low), part.node("Sub", place, below))
    depth = part.constant(sound.silence_db * math.log(10) / 10, np.float64)
    limit = part.node("Sub", part.node("Add", low, share), depth)
    loud = part.node("NonZero", part.node("Greater", loudness, limit))
    loud = part.node("Squeeze", loud, part.whole(0))
    start = part.node("ReduceMin", loud, part.whole(0), keepdims=1)
    end = part.node("ReduceMax", loud, part.whole(0), keepdims=1)
    end = part.node("Mul", part.node("Add", end, part.whole(1)), side)
    return part.node("Mul", start, side), part.node("Min", end, total)


def _score(part: _Part, calibration: Calibration, logits: str, out: str) -> str:
    """``Calibration.probability`` of every logit."""
    scaled = part.node("Mul", logits, part.number(calibration.slope))
    odds = part.node("Add", scaled, part.number(calibration.intercept))
    share, floor = part.node("Sigmoid", odds), calibration.floor
    return part.node("Clip", share, part.number(floor), part.number(1 - floor), out=out)


def _pool(part: _Part, bundle: Bundle) -> None:
    """``score`` (1,) of all windows together."""
    if bundle.slot == "face":
        _share_prior(part)
        return
    calibration, count = bundle.calibration, part.node("Shape", "logits")
    highest = "logits"
    if calibration.top_fraction < 1:
        exact = part.node("Cast", count, to=TensorProto.DOUBLE)
        exact = part.node("Mul", exact, part.constant(calibration.top_fraction, np.float64))
        most = part.node("Cast", part.node("Ceil", exact), to=TensorProto.INT64)
        highest = part.node("TopK", "logits", part.node("Max", most, part.whole(1)), axis=0)
    pooled = part.node("ReduceMean", highest, part.whole(0), keepdims=1)
    if calibration.span_windows:
        pooled = part.node("Max", pooled, _highest_span(part, calibration, count))
    _score(part, calibration, pooled, "score")


def _highest_span(part: _Part, calibration: Calibration, count: str) -> str:
    """The highest mean of adjacent windows less the penalty for many; never taken in a short file.

    What is appended to the logits keeps a file of fewer windows than a span from being empty.
    """
    span = calibration.span_windows
    ended = part.node("Concat", "logits", part.constant([NEVER] * span, np.float32), axis=0)
    line = part.node("Unsqueeze", ended, part.whole(0, 1))
    means = part.node("AveragePool", line, kernel_shape=[span], strides=[1])
    best = part.node("Reshape", part.node("ReduceMax", means, keepdims=0), part.whole(1))
    spans = part.node("Div", part.node("Cast", count, to=TensorProto.FLOAT), part.number(span))
    penalty = part.node("Mul", part.node("Log", spans), part.number(calibration.length_penalty))
    raised = part.node("Sub", best, penalty)
    short = part.node("Less", count, part.whole(LEAST_SPANS * span))
    return part.node("Where", short, part.constant([NEVER], np.float32), raised)


def _share_prior(part: _Part) -> None:
    """The score of the most suspicious face, the common prior shared between all of them."""
    best = part.node("ReduceMax", "scores", part.whole(0), keepdims=1)
    count = part.node("Cast", part.node("Shape", "scores"), to=TensorProto.FLOAT)
    one = part.number(1)
    odds = part.node("Div", part.node("Sub", one, best), best)
    against = part.node("Add", part.node("Mul", count, odds), one)
    part.node("Div", one, against, out="score")


def _single_shape(port: Port, bundle: Bundle) -> Shape:
    if bundle.slot != "face-finder":
        return (1,)
    height, width = (int(side) for side in port.shape[1:3])
    return (1, sum((height // cell) * (width // cell) for cell in (8, 16, 32)), 15)


def _floats(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
