"""Bundles for edge devices: one graph with everything around the network inside, kept only when it
agrees with the bundle on files.

==============  ===================================================================================
format          what is written
==============  ===================================================================================
onnx            NAME.onnx, for ONNX Runtime and whatever else reads ONNX
onnx-int8       NAME-int8.onnx, its weights and activations in 8 bits where they can be
openvino        NAME.xml and NAME.bin, the intermediate representation of OpenVINO
tflite-ready    NAME-tflite.onnx, one window of one fixed shape in few operators, to be converted
==============  ===================================================================================
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..bundle import GRAPH, Bundle
from ..engine.backends import import_openvino
from ..errors import MissingDependency, ModelError, SettingsError
from ..preprocess import AudioPreprocess
from ..version import VERSION
from .samples import Expected, Labelled, Sample, SampleReader, expect, list_files, read_labels

if TYPE_CHECKING:
    import onnx

    from ..engine.engine import Engine

FORMATS = ("onnx", "onnx-int8", "openvino", "tflite-ready")
MOST_LOGIT_GAP = 1e-4
"""Largest difference of a logit, and of a score, from the bundle run as ever."""
MOST_HALF_GAP = 5e-3
"""Largest difference of a score where weights were rounded to 16 bits."""
MOST_AUC_LOSS = 0.01
"""Largest loss in area under the curve that int8 may cost."""
LEAST_LABELLED = 20
"""Fewest files of each label for which an area under the curve is worth comparing."""
BUNDLE_OPSET, LEAST_OPSET = 18, 13
TFLITE_OPERATORS = frozenset(
    {
        *("Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv"),
        *("Div", "Erf", "Gather", "Gemm", "Log", "Max", "Mul", "Pow", "ReduceMax"),
        *("ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Reshape", "Resize", "Sigmoid", "Slice"),
        *("Softmax", "Split", "Sqrt", "Sub", "Tanh", "Transpose", "Unsqueeze"),
    }
)
"""What a tflite-ready graph may hold; onnx2tf 1.29 turned each into TensorFlow Lite operators."""

Advance = Callable[[str, int, int], None]
"""Called with what is being done, how many files are done, and how many there are."""
Run = Callable[[npt.NDArray[Any]], dict[str, npt.NDArray[np.float32]]]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What to write and what to compare it with.

    ``check`` and ``calibrate`` are folders of media, ``labels`` a table of paths and 0 or 1; int8
    needs ``calibrate`` and labels, which may also be the folders ``genuine`` and ``synthetic`` of
    ``check``. ``opset`` converts the graph, ``half`` rounds weights of OpenVINO to 16 bits.
    """

    format: str = "onnx"
    opset: int | None = None
    half: bool = False
    check: Path | None = None
    labels: Path | None = None
    calibrate: Path | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise SettingsError(
                f"format {self.format!r}: unknown", hint=f"choose one of {', '.join(FORMATS)}"
            )
        int8 = self.format == "onnx-int8"
        for given, fits, flag, why in (
            (self.calibrate, int8, "--calibrate", "only int8 is calibrated"),
            (self.half or None, self.format == "openvino", "--half", "only OpenVINO has it"),
            (self.opset, self.format != "openvino", "--opset", "OpenVINO has none"),
        ):
            if given is not None and not fits:
                raise SettingsError(
                    f"option {flag}: not for format {self.format}; {why}", hint="leave it out"
                )
        if int8 and self.calibrate is None:
            raise SettingsError(
                "format onnx-int8: the ranges of the activations are not known",
                hint="give --calibrate FOLDER with some hundred files like those to be judged",
            )
        if int8 and self.labels is None and self.check is None:
            raise SettingsError(
                "format onnx-int8: what it costs cannot be measured without labelled files",
                hint="give --labels TSV, or --check FOLDER with genuine/ and synthetic/",
            )


class Gap(NamedTuple):
    """Largest differences of one file."""

    logit: float
    score: float | None


@dataclass
class Agreement:
    """How an export compares with its bundle; ``unread`` are files that could not be judged."""

    gaps: list[Gap] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)
    found: list[float] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)

    @property
    def logit_gap(self) -> float:
        return max(gap.logit for gap in self.gaps)

    @property
    def score_gap(self) -> float | None:
        return max((gap.score for gap in self.gaps if gap.score is not None), default=None)

    @property
    def areas(self) -> tuple[float, float]:
        """AUC of the bundle and of the export on the labelled files."""
        return area(self.labels, self.expected), area(self.labels, self.found)

    def changed_words(self, bundle: Bundle) -> float:
        """Share of the files that fall on another side of an operating point."""
        points = list(asdict(bundle.calibration.points).values())
        before, after = np.digitize(self.expected, points), np.digitize(self.found, points)
        return float((before != after).mean())


@dataclass(frozen=True)
class Exported:
    """The ``files`` that were kept, and how they compare."""

    files: tuple[Path, ...]
    agreement: Agreement


def export_bundle(
    bundle: Bundle,
    *,
    engine: Engine,
    folder: Path,
    options: ExportOptions,
    advance: Advance = lambda text, done, total: None,
) -> Exported:
    """Write one format of ``bundle`` into ``folder`` once it agrees with ``engine``.

    Raises ``ModelError`` with the numbers, and writes nothing, when it does not; ``SettingsError``
    for options or files that do not fit; ``MissingDependency`` without the extra ``edge``.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency("onnx", extra="edge") from error
    from .graph import surround, widen_weights
    from .quantise import quantise

    bundle.verify()
    if bundle.weights_of(GRAPH):
        raise SettingsError(
            f"bundle {bundle.name}: is a full tier, too large for what exports are made for",
            hint="export the quick one",
        )
    network = onnx.load_from_string(bundle.file_bytes("model.onnx"))
    if bundle.slot != "face-finder":
        network = widen_weights(network)
    seen: set[str] = set()
    if options.format == "onnx-int8":
        assert options.calibrate is not None
        if bundle.slot == "face-finder":
            raise SettingsError(
                f"bundle {bundle.name}: gives a map, whose loss no area under a curve tells",
                hint="choose another format",
            )
        reader = SampleReader(bundle, engine)
        files = list_files(options.calibrate)
        samples = _counted(reader.read(files), "calibrating", len(files), advance)
        network = quantise(bundle, network, samples, seen)
    single = options.format == "tflite-ready"
    if single:
        network = _fix_shapes(network, bundle)
    model = surround(bundle, network, single=single)
    if options.opset is not None:
        model = convert_opset(model, options.opset)
    if single:
        check_operators(model)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as name:
        partial = Path(name)
        _write(model, partial, bundle, options)
        run = open_export(partial, bundle)
        agreement = _compare(bundle, engine, run, options=options, seen=seen, advance=advance)
        _judge(agreement, bundle, options)
        kept = []
        for path in sorted(partial.iterdir()):
            path.chmod(0o644)
            kept.append(Path(shutil.move(path, folder / path.name)))
    return Exported(tuple(kept), agreement)


def area(labels: Sequence[int], scores: Sequence[float]) -> float:
    """Area under the receiver operating characteristic: how often a synthetic file scores above a
    genuine one, a tie counting half (Hanley and McNeil 1982).
    """
    kinds, values = np.array(labels), np.array(scores)
    synthetic, genuine = values[kinds == 1][:, None], values[kinds == 0][None]
    return float((synthetic > genuine).mean() + 0.5 * (synthetic == genuine).mean())


def convert_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The same graph in another operator set; raises ``ModelError`` where that cannot be had.

    Upwards by the converter of ``onnx``. Downwards it has no adapter for reductions, so that their
    axes are made attributes again here.
    """
    import onnx
    from onnx import version_converter

    try:
        if opset >= BUNDLE_OPSET:
            converted = version_converter.convert_version(model, opset)
        else:
            converted = _lower_opset(model, opset)
        onnx.checker.check_model(converted, full_check=True)
    except Exception as error:  # the converter raises whatever its C++ does
        why = re.sub(r"^\S+:\d+: ", "", (str(error).strip() or "no reason").splitlines()[-1])
        raise ModelError(
            f"opset {opset}: the graph cannot be converted from {BUNDLE_OPSET} ({why[:200]})",
            hint=f"leave --opset out, or choose one nearer to {BUNDLE_OPSET}",
        ) from error
    return converted


def _lower_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The graph as operator set ``opset`` writes it; attributes that it does not know are left out,
    and the comparison tells whether they mattered.
    """
    import onnx

    if opset < LEAST_OPSET:
        raise ValueError(f"{LEAST_OPSET} is the least")
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    constants = {one.name: one for one in model.graph.initializer}
    for node in lowered.graph.node:
        if node.op_type in ("ReduceMean", "ReduceMax", "ReduceMin") and len(node.input) > 1:
            axes = onnx.numpy_helper.to_array(constants[node.input.pop()]).tolist()
            node.attribute.append(onnx.helper.make_attribute("axes", axes))
        known = onnx.defs.get_schema(node.op_type, opset, node.domain).attributes
        kept = [one for one in node.attribute if one.name in known]
        del node.attribute[:]
        node.attribute.extend(kept)
    used = {name for node in lowered.graph.node for name in node.input}
    kept_constants = [one for one in lowered.graph.initializer if one.name in used]
    del lowered.graph.initializer[:]
    lowered.graph.initializer.extend(kept_constants)
    for one in lowered.opset_import:
        if not one.domain:
            one.version = opset
    return lowered


def check_operators(model: onnx.ModelProto) -> None:
    """Raise ``ModelError`` for operators outside of ``TFLITE_OPERATORS``."""
    strange = {node.op_type for node in model.graph.node} - TFLITE_OPERATORS
    if strange:
        raise ModelError(
            f"format tflite-ready: operators {', '.join(sorted(strange))} may not convert",
            hint="choose another format",
        )


def open_export(folder: Path, bundle: Bundle) -> Run:
    """What runs the one export in ``folder``: an array in, outputs by name."""
    graphs = list(folder.glob("*.onnx"))
    if graphs:
        return _open_onnx(graphs[0], bundle)
    compiled = (
        import_openvino()
        .Core()
        .compile_model(next(folder.glob("*.xml")), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    )
    names = [(name, index) for index, port in enumerate(compiled.outputs) for name in port.names]

    def run(array: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        found = compiled([array])
        return {name: found[index] for name, index in names}

    return run


def _open_onnx(path: Path, bundle: Bundle) -> Run:
    import onnxruntime

    from .graph import port_of

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    port = session.get_inputs()[0].name
    single = port_of(bundle, single=True)
    if session.get_inputs()[0].shape != list(single.shape):
        return lambda array: dict(zip(names, session.run(names, {port: array}), strict=True))

    def run(array: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        parts = [session.run(names, {port: array[i : i + 1]}) for i in range(len(array))]
        return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}

    return run


def graph_facts(bundle: Bundle, *, format: str, single: bool) -> dict[str, str]:
    """What goes into the file with the graph, as texts that any runtime can read."""
    from .graph import port_of

    return {
        "bundle": bundle.name,
        "slot": bundle.slot,
        "format": format,
        "licence": bundle.licence,
        "input": port_of(bundle, single=single).text,
        "points": json.dumps(asdict(bundle.calibration.points)),
        "calibration": json.dumps(asdict(bundle.calibration)),
        "preprocess": json.dumps(asdict(bundle.preprocess)),
        "limits": json.dumps(asdict(bundle.limits)),
        "bundle_sha256": bundle.sha256,
        "model_sha256": bundle.files["model.onnx"]["sha256"],
        "made_by": f"deepfake {VERSION}",
    }


def _write(model: onnx.ModelProto, folder: Path, bundle: Bundle, options: ExportOptions) -> None:
    import onnx

    facts = graph_facts(bundle, format=options.format, single=options.format == "tflite-ready")
    if options.format == "openvino":
        try:
            openvino = import_openvino()
        except ImportError as error:
            raise MissingDependency("openvino") from error

        graph = openvino.Core().read_model(model.SerializeToString(), b"")
        for key, text in facts.items():
            graph.set_rt_info(text, ["deepfake", key])
        openvino.save_model(
            graph, folder / f"{bundle.name}.xml", compress_to_fp16=bool(options.half)
        )
        return
    onnx.helper.set_model_props(model, facts)
    ends = {"onnx": "", "onnx-int8": "-int8", "tflite-ready": "-tflite"}
    path = folder / f"{bundle.name}{ends[options.format]}.onnx"
    path.write_bytes(model.SerializeToString())


def _fix_shapes(network: onnx.ModelProto, bundle: Bundle) -> onnx.ModelProto:
    """The network for one window of a fixed shape, with everything that is constant folded."""
    import onnx
    import onnxruntime

    from .graph import port_of

    shape = list(port_of(bundle, single=True).shape)
    if not isinstance(bundle.preprocess, AudioPreprocess):
        shape = [*shape[:-3], shape[-1], *shape[-3:-1]]
    fixed = onnx.ModelProto()
    fixed.CopyFrom(network)
    for dimension, length in zip(
        fixed.graph.input[0].type.tensor_type.shape.dim, shape, strict=True
    ):
        dimension.dim_value = length
    for dimension in fixed.graph.output[0].type.tensor_type.shape.dim:
        dimension.Clear()
    with tempfile.TemporaryDirectory(prefix="deepfake-") as name:
        path = Path(name) / "fixed.onnx"
        session = onnxruntime.SessionOptions()
        session.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        session.optimized_model_filepath = str(path)
        session.log_severity_level = 3
        onnxruntime.InferenceSession(
            fixed.SerializeToString(), session, providers=["CPUExecutionProvider"]
        )
        folded = onnx.load(path)
    kept = [one for one in folded.opset_import if not one.domain]
    del folded.opset_import[:]
    folded.opset_import.extend(kept)
    return folded


def _compare(
    bundle: Bundle,
    engine: Engine,
    run: Run,
    *,
    options: ExportOptions,
    seen: set[str],
    advance: Advance,
) -> Agreement:
    """Run both on every file; ``seen`` are hashes of files that must not be among them."""
    single = options.format == "tflite-ready"
    agreement, reader = Agreement(), SampleReader(bundle, engine, single=single)
    for sample in _samples(reader, bundle, options, advance):
        if sample.sha256 in seen:
            raise SettingsError(
                f"file {sample.name}: is in the calibration set as well",
                hint="measure on other files, best from other sources",
            )
        expected, found = expect(bundle, engine, sample.batch), run(sample.array)
        agreement.gaps.append(_gap(expected, found))
        if sample.label is not None and expected.score is not None and "score" in found:
            agreement.labels.append(sample.label)
            agreement.expected.append(expected.score)
            agreement.found.append(float(found["score"][0]))
    agreement.unread.update(reader.unread)
    if not agreement.gaps:
        raise SettingsError(
            f"bundle {bundle.name}: none of the files could be judged "
            f"({', '.join(sorted(agreement.unread))})",
            hint="give files of the kind and the size that it is for",
        )
    return agreement


def _samples(
    reader: SampleReader, bundle: Bundle, options: ExportOptions, advance: Advance
) -> Iterator[Sample]:
    files: list[Labelled] = []
    if options.check is not None:
        files += list_files(options.check)
    if options.labels is not None:
        files += read_labels(options.labels)
    if not files:
        yield from reader.golden()
        return
    yield from _counted(reader.read(files), "comparing", len(files), advance)


def _counted(
    samples: Iterable[Sample], text: str, total: int, advance: Advance
) -> Iterator[Sample]:
    for done, sample in enumerate(samples, start=1):
        advance(text, done, total)
        yield sample
    advance(text, total, total)


def _gap(expected: Expected, found: dict[str, npt.NDArray[np.float32]]) -> Gap:
    logits = found["logits"]
    if logits.shape != expected.logits.shape or not np.isfinite(logits).all():
        raise ModelError(
            f"export: gave logits of shape {logits.shape} where the bundle gave "
            f"{expected.logits.shape}, or a NaN"
        )
    score = None
    if expected.score is not None and "score" in found:
        score = abs(float(found["score"][0]) - expected.score)
    return Gap(float(np.abs(logits - expected.logits).max()), score)


def _judge(agreement: Agreement, bundle: Bundle, options: ExportOptions) -> None:
    """Raise ``ModelError`` when the export may not be kept."""
    if options.format == "onnx-int8":
        _judge_int8(agreement)
        return
    logit, score = agreement.logit_gap, agreement.score_gap or 0.0
    fits = score <= MOST_HALF_GAP if options.half else max(logit, score) <= MOST_LOGIT_GAP
    if not fits:
        limit = f"{MOST_HALF_GAP} in score" if options.half else f"{MOST_LOGIT_GAP} in both"
        raise ModelError(
            f"export of {bundle.name}: differs by {logit:.2g} in a logit and {score:.2g} in a "
            f"score; {limit} are allowed, so nothing was written",
            hint="another --backend or another format may agree",
        )


def _judge_int8(agreement: Agreement) -> None:
    counts = Counter(agreement.labels)
    if min(counts[0], counts[1]) < LEAST_LABELLED:
        raise SettingsError(
            f"labelled files: {counts[0]} genuine and {counts[1]} synthetic could be judged",
            hint=f"give at least {LEAST_LABELLED} of each",
        )
    before, after = agreement.areas
    if before - after > MOST_AUC_LOSS:
        raise ModelError(
            f"format onnx-int8: AUC falls from {before:.4f} to {after:.4f} on "
            f"{len(agreement.labels)} files, more than {MOST_AUC_LOSS}, so nothing was written",
            hint="calibrate with more and more varied files, or keep to format onnx",
        )
