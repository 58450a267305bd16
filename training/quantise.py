"""An int8 graph for a bundle: static quantisation, kept only where it costs no accuracy.

Files for calibration are drawn from the training material, all others measure what is lost. A graph
is added to a bundle only when no area under the ROC curve falls by more than 0.002 in any view, or,
for the face finder, when it finds the same faces.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.shape_inference import quant_pre_process
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from deepfake.backends import INT8_GRAPH, Backend, open_backend
from deepfake.bundle import Bundle, Logits, scaled
from deepfake.errors import MediaError
from deepfake.export_quantise import quantise_network
from deepfake.faces import Face, overlaps, read_map
from deepfake.footage import FRAMES_PER_BURST, STEP_SECONDS
from deepfake.media import open_media
from deepfake.perturb import PICTURE_VIEWS
from deepfake.preprocess import (
    Batch,
    ClipPreprocess,
    FacePreprocess,
    FinderPreprocess,
    ImagePreprocess,
    Pixels,
)
from deepfake.settings import Settings

from .card import markdown
from .manifests import Item, read_manifest

MOST_AUC_LOSS = 0.002
LEAST_AGREEMENT = 0.99
CALIBRATION_FILES = 150
CALIBRATION_WINDOWS = 4
OPERATORS = ("Conv", "Add", "Clip", "Relu")
KEPT_CONVOLUTIONS = 3
"""The first ones stay in fp32: the widest ranges are there, and a third of the error (tried)."""
BURSTS = 8
VIEWS = ("clean", "web", "hard")
FACE_SOURCES = ("ciplab_faces_real", "ciplab_faces_photoshop", "lfw_faces", "lfw_faceswap")
SEED = 1


class Sample(NamedTuple):
    """What one file in one view gives the network; ``zoom`` is the face finder's."""

    view: str
    label: int
    batch: Batch
    zoom: float


@dataclass(frozen=True)
class Int8Row:
    """One view: how many samples, and the area under the curve before and after; for the face
    finder the share of faces that both find, of all that the one and the other finds. ``crossed``
    is the share of samples whose score lies on another side of an operating point.
    """

    view: str
    samples: int
    before: float
    after: float
    crossed: float


def quantise_bundle(folder: Path, *, data: Path, most_files: int = 0) -> list[Int8Row]:
    """Add ``model.int8.onnx`` to the bundle in ``folder`` and say in its card what that costs.

    ``most_files`` bounds the files that measure (0 for all). Raises ``RuntimeError`` with the
    numbers when the loss is too large; then nothing is changed.
    """
    bundle = Bundle.read(folder)
    bundle.verify()
    calibration, check = draw_files(bundle, data, most_files=most_files)
    reader = SampleReader(bundle)
    batches = [
        sample.batch[:: max(1, len(sample.batch) // CALIBRATION_WINDOWS)]
        for sample in tqdm(reader.read(calibration, views=VIEWS[:2]), desc="calibrating")
    ]
    graph = quantise_graph(onnx.load(folder / "model.onnx"), bundle, batches)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / INT8_GRAPH
        path.write_bytes(graph)
        trial = _with_graph(bundle, path)
        rows = compare(bundle, trial, reader.read(check, views=VIEWS))
    print(table(bundle, rows, most_files=most_files))
    least = -MOST_AUC_LOSS if bundle.slot != "face-finder" else LEAST_AGREEMENT - 1
    if any(row.after - row.before < least for row in rows):
        raise RuntimeError(f"bundle {bundle.name}: int8 costs too much; nothing was changed")
    (folder / INT8_GRAPH).write_bytes(graph)
    _record(bundle, folder, rows, most_files=most_files)
    return rows


def draw_files(bundle: Bundle, data: Path, *, most_files: int) -> tuple[list[Item], list[Item]]:
    """Files that calibrate and those that measure, in a seeded order."""
    if bundle.slot == "video":
        items = read_manifest(data / "video", source_column="system")
    else:
        items = read_manifest(data / "image", source_column="source")
    if bundle.slot == "face":
        items = [item for item in items if item.source in FACE_SOURCES]
    random.Random(SEED).shuffle(items)
    count = min(CALIBRATION_FILES, len(items) // 4)
    check = items[count:]
    return items[:count], check[:most_files] if most_files else check


class SampleReader:
    """Reads files as the detector does, up to the batch of one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._preprocess = bundle.preprocess
        self._finder: Callable[[Pixels], list[Face]] | None = None
        if bundle.slot == "face":
            from deepfake.engine import Engine
            from deepfake.faces import open_finder

            settings = Settings(device="cpu", models_folder=bundle.folder.parent)
            self._finder = open_finder(Engine(settings)).find

    def read(self, items: Iterable[Item], *, views: Sequence[str]) -> Iterator[Sample]:
        for item in items:
            try:
                with open_media(item.path) as media:
                    if isinstance(self._preprocess, ClipPreprocess):
                        yield from self._clip(media, item.label)
                        continue
                    pixels = media.image()
            except MediaError:
                continue
            for view in views:
                made = self._still(PICTURE_VIEWS[view](pixels))
                if made is not None:
                    yield Sample(view, item.label, *made)

    def _still(self, pixels: Pixels) -> tuple[Batch, float] | None:
        match self._preprocess:
            case ImagePreprocess():
                return self._preprocess(pixels).batch, 1.0
            case FinderPreprocess():
                return self._preprocess(pixels)
            case FacePreprocess():
                assert self._finder is not None
                faces = self._finder(pixels)
                if not faces:
                    return None
                return self._preprocess.crop(pixels, faces[0].points)[None], 1.0
            case _:
                return None

    def _clip(self, media: Any, label: int) -> Iterator[Sample]:
        assert isinstance(self._preprocess, ClipPreprocess)
        bursts: dict[int, list[Pixels]] = {}
        for frame in media.bursts(most=BURSTS, frames=FRAMES_PER_BURST, step_seconds=STEP_SECONDS):
            bursts.setdefault(frame.burst, []).append(self._preprocess.square(frame.pixels))
        for squares in bursts.values():
            yield Sample("clean", label, self._preprocess(squares), 1.0)


def quantise_graph(network: onnx.ModelProto, bundle: Bundle, batches: Sequence[Batch]) -> bytes:
    """The network in int8, with the ranges that the batches give, and without the shift that this
    brings to their logits.
    """
    arrays = [scaled(batch, bundle.preprocess) for batch in batches]
    with tempfile.TemporaryDirectory() as name:
        source, ready = Path(name) / "source.onnx", Path(name) / "ready.onnx"
        onnx.save(join_groups(network), source)
        quant_pre_process(source, ready, skip_symbolic_shape=True)
        folded = onnx.load(ready)
    convolutions = [node.name for node in folded.graph.node if node.op_type == "Conv"]
    kept = set(convolutions[:KEPT_CONVOLUTIONS])
    model = quantise_network(folded, arrays, kept=kept, operators=OPERATORS)
    if bundle.slot != "face-finder":
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
    if int8.precision != "int8":
        raise RuntimeError("processor: has no instructions for int8; nothing can be compared")
    seen: dict[str, list[tuple[float, float, float]]] = {}
    for sample in tqdm(samples, desc="comparing", mininterval=5):
        seen.setdefault(sample.view, []).append(_pair(before, plain, int8, sample))
    rows = []
    for view, triples in seen.items():
        first, second, third = (np.array(column) for column in zip(*triples, strict=True))
        if before.slot == "face-finder":
            both = float(first.sum())
            share = both / max(1.0, float(second.sum() + third.sum()) - both)
            rows.append(Int8Row(view, len(triples), 1.0, share, 0.0))
        else:
            areas = [float(roc_auc_score(first, scores)) for scores in (second, third)]
            sides = [_sides(before, scores) for scores in (second, third)]
            crossed = float((sides[0] != sides[1]).mean())
            rows.append(Int8Row(view, len(triples), areas[0], areas[1], crossed))
    return rows


def _sides(bundle: Bundle, pooled: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Between which operating points the score of each pooled logit lies."""
    scores = [bundle.calibration.probability(float(logit)) for logit in pooled]
    return np.digitize(scores, sorted(asdict(bundle.calibration.points).values()))


def _pair(
    bundle: Bundle, plain: Backend, int8: Backend, sample: Sample
) -> tuple[float, float, float]:
    """The label and both pooled logits, or the faces that both find and that each finds."""
    logits = [backend.run(sample.batch) for backend in (plain, int8)]
    if bundle.slot != "face-finder":
        pooled = [bundle.calibration.pool(np.asarray(part).reshape(-1)) for part in logits]
        return sample.label, pooled[0], pooled[1]
    first, second = (_faces(bundle, part, sample) for part in logits)
    boxes = np.array([face.box for face in second]).reshape(-1, 4)
    both = sum(len(boxes) > 0 and overlaps(face.box, boxes).max() > 0.5 for face in first)
    return both, len(first), len(second)


def _faces(bundle: Bundle, values: Logits, sample: Sample) -> list[Face]:
    rows, columns = sample.batch.shape[1:3]
    least = bundle.calibration.points.synthetic
    return read_map(values[0], rows=rows, columns=columns, zoom=sample.zoom, least=least)


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
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8").split("\n## int8\n")[0].rstrip("\n")
    card.write_text(
        f"{text}\n\n## int8\n\n{table(bundle, rows, most_files=most_files)}\n", encoding="utf-8"
    )


def table(bundle: Bundle, rows: Sequence[Int8Row], *, most_files: int) -> str:
    """Markdown: what the int8 graph costs."""
    if bundle.slot == "face-finder":
        head = ["faces found by both of those found by either"]
        cells = [[row.view, row.samples, f"{row.after:.4f}"] for row in rows]
    else:
        head = ["AUC in fp32", "AUC in int8", "on another side of an operating point"]
        cells = [
            [row.view, row.samples, f"{row.before:.4f}", f"{row.after:.4f}", f"{row.crossed:.3f}"]
            for row in rows
        ]
    limit = f" --most-files {most_files}" if most_files else ""
    note = (
        f"`python -m training quantise models/{bundle.name} --data DATA{limit}` made "
        f"`{INT8_GRAPH}`, "
        "which OpenVINO runs with `--precision auto` on processors with instructions for it. "
        "The files that measure it are those that the bundle was trained on, so the areas only "
        "tell what int8 changes.\n\n"
    )
    return note + markdown(["view", "samples", *head], cells)
