"""An int8 graph for a bundle: static quantisation, kept only where it costs no accuracy.

Files for calibration are drawn from the training material, all others measure what is lost. A graph
is added to a bundle only when no area under the ROC curve falls by more than 0.002 in any view.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.shape_inference import quant_pre_process
from tqdm import tqdm

from deepfake.analyzers.face import highest
from deepfake.bundle import Bundle, scale_batch
from deepfake.engine.backends import INT8_GRAPH, Backend, has_int8, open_backend
from deepfake.engine.engine import Engine
from deepfake.engine.scores import Scored
from deepfake.errors import MediaError, ModelError, SettingsError
from deepfake.export.bundles import Agreement
from deepfake.export.graph import widen_weights
from deepfake.export.quantise import quantise_network
from deepfake.export.samples import Labelled, SampleReader
from deepfake.media.opening import open_media
from deepfake.preprocess import Batch
from deepfake.settings import Settings
from deepfake.trust.registry import newest_bundles

from .card import add_part, markdown
from .image.data import FACE_SOURCES as MANIPULATED_FACES
from .manifests import Item
from .perturb import PICTURE_VIEWS

MOST_AUC_LOSS = 0.002
CALIBRATION_FILES = 150
CALIBRATION_WINDOWS = 4
OPERATORS = ("Conv", "Add", "Clip", "Relu")
KEPT_CONVOLUTIONS = 3
"""The first ones stay in fp32: the widest ranges are there."""
VIEWS = ("clean", "web", "hard", "thumbnail")
FACE_SOURCES = ("ciplab_faces_real", "ciplab_faces_photoshop", "lfw_faces", "lfw_faceswap")
SLOTS = ("image", "frame", "face", "video")
SEED = 1


class Sample(NamedTuple):
    """What one file in one view gives the network."""

    view: str
    label: int
    batch: Batch


@dataclass(frozen=True)
class Int8Row:
    """One view: how many samples, the area under the curve before and after, and the share of
    samples whose score lies on another side of an operating point.
    """

    view: str
    samples: int
    before: float
    after: float
    crossed: float


def quantise_bundle(folder: Path, items: Sequence[Item], *, most_files: int = 0) -> list[Int8Row]:
    """Add ``model.int8.onnx`` to the bundle in ``folder`` and say in its card what that costs.

    Some of the ``items`` calibrate, at most ``most_files`` of the others (0 for all) measure.
    Raises ``ModelError`` when the loss is too large, after it has printed the numbers; then nothing
    is changed.
    """
    bundle = Bundle.read(folder)
    bundle.verify()
    if bundle.slot not in SLOTS:
        raise SettingsError(f"bundle {bundle.name}: only {', '.join(SLOTS)} can be measured here")
    if not has_int8():
        raise SettingsError(
            f"bundle {bundle.name}: what int8 costs cannot be measured, because this processor has "
            "no 8-bit dot products",
            hint="run it on one with AVX-VNNI, AVX-512 VNNI or AMX",
        )
    calibration, check = draw_files(bundle, items, most_files=most_files)
    engine = Engine(Settings(device="cpu"), active=newest_bundles(folder.parent))
    batches = [
        sample.batch[:: max(1, len(sample.batch) // CALIBRATION_WINDOWS)]
        for sample in tqdm(
            read_samples(bundle, engine, calibration, views=VIEWS[:2]), desc="calibrating"
        )
    ]
    network = widen_weights(onnx.load(folder / "model.onnx"))
    graph = quantise_graph(network, bundle, batches)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / INT8_GRAPH
        path.write_bytes(graph)
        trial = _with_graph(bundle, path)
        rows = compare(bundle, trial, read_samples(bundle, engine, check, views=VIEWS))
    engine.close()
    print("\n\n".join(word_part(bundle, rows, most_files=most_files)))
    if any(row.before - row.after > MOST_AUC_LOSS for row in rows):
        raise ModelError(f"bundle {bundle.name}: int8 costs too much; nothing was changed")
    (folder / INT8_GRAPH).write_bytes(graph)
    _record(bundle, folder, rows, most_files=most_files)
    return rows


def draw_files(
    bundle: Bundle, items: Sequence[Item], *, most_files: int
) -> tuple[list[Item], list[Item]]:
    """Files that calibrate and those that measure, in a seeded order. Of sources of the training
    material those that the slot is not for are left out.
    """
    if bundle.slot in ("image", "frame"):
        items = [item for item in items if item.source not in MANIPULATED_FACES]
    elif bundle.slot == "face":
        items = [item for item in items if item.source in FACE_SOURCES] or items
    items = list(items)
    random.Random(SEED).shuffle(items)
    count = min(CALIBRATION_FILES, len(items) // 4)
    check = items[count:]
    return items[:count], check[:most_files] if most_files else check


def read_samples(
    bundle: Bundle, engine: Engine, items: Iterable[Item], *, views: Sequence[str]
) -> Iterator[Sample]:
    """Files as the detector reads them: pictures in every view, clips as they are."""
    reader = SampleReader(bundle, engine)
    for item in items:
        if bundle.slot == "video":
            for clip in reader.read([Labelled(item.path, item.label)]):
                yield Sample("clean", item.label, clip.batch)
            continue
        try:
            with open_media(item.path) as media:
                pixels = media.image()
        except MediaError:
            continue
        for view in views:
            made = reader.look(PICTURE_VIEWS[view](pixels))
            if not isinstance(made, str):
                yield Sample(view, item.label, made[1])


def quantise_graph(network: onnx.ModelProto, bundle: Bundle, batches: Sequence[Batch]) -> bytes:
    """The network in int8, with the ranges that the batches give, and without the shift that this
    brings to their logits.
    """
    arrays = [scale_batch(batch, bundle.preprocess) for batch in batches]
    with tempfile.TemporaryDirectory() as name:
        source, ready = Path(name) / "source.onnx", Path(name) / "ready.onnx"
        onnx.save(join_groups(network), source)
        quant_pre_process(source, ready, skip_symbolic_shape=True)
        folded = onnx.load(ready)
    convolutions = [node.name for node in folded.graph.node if node.op_type == "Conv"]
    kept = set(convolutions[:KEPT_CONVOLUTIONS])
    model = quantise_network(folded, arrays, kept=kept, operators=OPERATORS)
    _shift(model, _mean_gap(network, model, arrays))
    return bytes(model.SerializeToString())


def join_groups(network: onnx.ModelProto) -> onnx.ModelProto:
    """Convolutions in a few thin groups (the residual filters, one for each colour) as plain ones
    with zeros between the groups: the same numbers, for which runtimes have faster kernels.
    """
    joined = onnx.ModelProto()
    joined.CopyFrom(network)
    weights = {tensor.name: tensor for tensor in joined.graph.initializer}
    for node in joined.graph.node:
        groups = next((a for a in node.attribute if a.name == "group"), None)
        if node.op_type != "Conv" or groups is None or node.input[1] not in weights:
            continue
        kernels = numpy_helper.to_array(weights[node.input[1]])
        count, thin = groups.i, kernels.shape[1]
        if count == 1 or count * thin > 8:
            continue
        dense = np.zeros((len(kernels), count * thin, *kernels.shape[2:]), kernels.dtype)
        for index, kernel in enumerate(kernels):
            group = index // (len(kernels) // count)
            dense[index, group * thin : (group + 1) * thin] = kernel
        weights[node.input[1]].CopyFrom(numpy_helper.from_array(dense, node.input[1]))
        groups.i = 1
    return joined


def compare(before: Bundle, after: Bundle, samples: Iterable[Sample]) -> list[Int8Row]:
    """Both graphs on the same samples, as OpenVINO runs them."""
    settings = Settings(backend="openvino", device="cpu")
    plain = open_backend(before, settings=settings)
    int8 = open_backend(after, settings=replace(settings, precision="auto"))
    seen: dict[str, Agreement] = {}
    for sample in tqdm(samples, desc="comparing", mininterval=5):
        view = seen.setdefault(sample.view, Agreement())
        view.labels.append(sample.label)
        view.expected.append(_score(before, plain, sample.batch))
        view.found.append(_score(before, int8, sample.batch))
    return [
        Int8Row(name, len(view.labels), *view.areas, view.changed_words(before))
        for name, view in seen.items()
    ]


def _score(bundle: Bundle, backend: Backend, batch: Batch) -> float:
    """The score of a file, as the detector has it."""
    logits = backend.run(batch).reshape(-1)
    if bundle.slot != "face":
        return Scored.read(logits, bundle.calibration).score
    faces = [
        Scored.read(logits[index : index + 1], bundle.calibration) for index in range(len(batch))
    ]
    return highest([("face", face) for face in faces])[1]


def _mean_gap(
    network: onnx.ModelProto, model: onnx.ModelProto, arrays: Sequence[np.ndarray[Any, Any]]
) -> float:
    import onnxruntime

    sessions = [
        onnxruntime.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"])
        for one in (network, model)
    ]
    gaps = [
        np.subtract(*(session.run(["logits"], {"batch": array})[0] for session in sessions))
        for array in arrays
    ]
    return float(np.concatenate([gap.reshape(-1) for gap in gaps]).mean())


def _shift(model: onnx.ModelProto, amount: float) -> None:
    """Add a constant to the output."""
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == "logits":
                node.output[index] = "unshifted"
    constant = helper.make_tensor("shift", TensorProto.FLOAT, [], [amount])
    model.graph.initializer.append(constant)
    model.graph.node.append(helper.make_node("Add", ["unshifted", "shift"], ["logits"]))
    onnx.checker.check_model(model)


def _with_graph(bundle: Bundle, path: Path) -> Bundle:
    """The bundle with its int8 graph at ``path``, beside copies of its other files."""
    for name in bundle.files:
        if name != INT8_GRAPH:
            shutil.copy(bundle.folder / name, path.parent)
    facts = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "precision": "int8"}
    return replace(bundle, folder=path.parent, files={**bundle.files, INT8_GRAPH: facts})


def _record(bundle: Bundle, folder: Path, rows: Sequence[Int8Row], *, most_files: int) -> None:
    """Into ``bundle.json`` and the card."""
    facts = {
        "sha256": hashlib.sha256((folder / INT8_GRAPH).read_bytes()).hexdigest(),
        "precision": "int8",
    }
    values = [
        {key: round(value, 4) if isinstance(value, float) else value for key, value in pairs}
        for pairs in (asdict(row).items() for row in rows)
    ]
    files = {**bundle.files, INT8_GRAPH: facts}
    replace(bundle, files=files, metrics={**bundle.metrics, "int8": values}).write(folder)
    note, rows_table = word_part(bundle, rows, most_files=most_files)
    add_part(bundle, title="int8", text=note, tables=rows_table)


def word_part(bundle: Bundle, rows: Sequence[Int8Row], *, most_files: int) -> tuple[str, str]:
    """The card's part about the int8 graph: how its cost was measured, and a table in Markdown."""
    head = ["AUC in fp32", "AUC in int8", "on another side of an operating point"]
    cells = [
        [row.view, row.samples, f"{row.before:.4f}", f"{row.after:.4f}", f"{row.crossed:.3f}"]
        for row in rows
    ]
    limit = f" --most-files {most_files}" if most_files else ""
    note = (
        f"`deepfake quantise models/{bundle.name} --files FILES{limit}` made "
        f"`{INT8_GRAPH}`, "
        "which OpenVINO runs with `--precision auto` on processors with instructions for it. "
        "The files that measure it are those that the bundle was trained on, so the areas only "
        "tell what int8 changes."
    )
    return note, markdown(["view", "samples", *head], cells)
