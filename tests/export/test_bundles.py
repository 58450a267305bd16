from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from deepfake.analyzers.face import highest
from deepfake.bundle import Bundle, Calibration
from deepfake.commands.cli import main
from deepfake.engine.engine import Engine
from deepfake.engine.scores import Scored
from deepfake.errors import ModelError, SettingsError
from deepfake.export import graph as export_graph
from deepfake.export.bundles import (
    TFLITE_OPERATORS,
    ExportOptions,
    area,
    convert_opset,
    export_bundle,
    open_export,
)
from deepfake.export.graph import surround, widen_weights
from deepfake.export.quantise import kept_nodes
from deepfake.export.samples import Labelled, SampleReader, list_files, read_labels
from deepfake.preprocess import AudioPreprocess, ImagePreprocess
from deepfake.settings import Settings, shipped_models_folder
from tests.bundles import POINTS, make_bundle, make_rough_models, roughen
from tests.media_files import image_bytes, scene, speech, tone, video_bytes, wav_bytes

SLOTS = ("image", "face", "audio", "video", "face-finder")


@pytest.fixture(scope="module")
def known(known_models: Path) -> Iterator[Engine]:
    engine = Engine(Settings(models_folder=known_models, backend="onnxruntime", threads=1))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def shipped() -> Iterator[Engine]:
    settings = Settings(models_folder=shipped_models_folder(), backend="onnxruntime", threads=1)
    engine = Engine(settings)
    yield engine
    engine.close()


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    for index, (width, height) in enumerate(((200, 120), (64, 40), (300, 310))):
        pixels = scene(width, height, seed=index)
        (folder / f"{index}.png").write_bytes(image_bytes(pixels))
    (folder / "speech.wav").write_bytes(wav_bytes(speech(3.3)))
    frames = [scene(64, 48, seed=index) for index in range(30)]
    (folder / "clip.mp4").write_bytes(video_bytes(frames))
    (folder / "notes.txt").write_text("no media")
    return folder


def run_graph(model: onnx.ModelProto, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: array}), strict=True))


def graph_of(bundle: Bundle, **options: bool) -> onnx.ModelProto:
    return surround(bundle, onnx.load_from_string(bundle.file_bytes("model.onnx")), **options)


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("format", ["onnx", "openvino", "tflite-ready"])
def test_shipped_bundles_agree_with_the_engine(
    shipped: Engine, tmp_path: Path, slot: str, format: str
) -> None:
    bundle = shipped.bundle(slot)
    made = export_bundle(
        bundle, engine=shipped, folder=tmp_path, options=ExportOptions(format=format)
    )
    assert len(made.agreement.gaps) == 3
    assert made.agreement.logit_gap < 1e-4
    assert (made.agreement.score_gap or 0.0) < 1e-4
    assert sorted(made.files) == sorted(tmp_path.iterdir())
    if format == "tflite-ready":
        graph = onnx.load(made.files[0]).graph
        assert min(d.dim_value for d in graph.input[0].type.tensor_type.shape.dim) >= 1
        assert {node.op_type for node in graph.node} <= TFLITE_OPERATORS


@pytest.mark.parametrize("slot", ["image", "audio", "video"])
def test_files_are_compared_and_others_counted(
    known: Engine, media: Path, tmp_path: Path, slot: str
) -> None:
    made = export_bundle(
        known.bundle(slot), engine=known, folder=tmp_path, options=ExportOptions(check=media)
    )
    counts = {"image": 3, "audio": 1, "video": 1}
    assert len(made.agreement.gaps) == counts[slot]
    assert sum(made.agreement.unread.values()) == 6 - counts[slot]
    assert made.agreement.score_gap is not None


def test_a_graph_that_differs_is_not_kept(
    known: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = known.bundle("image")
    assert isinstance(bundle.preprocess, ImagePreprocess)
    darker = replace(bundle.preprocess, mean=(0.5, 0.5, 0.501))

    def surround_wrongly(bundle: Bundle, *rest: Any, **options: Any) -> onnx.ModelProto:
        return surround(replace(bundle, preprocess=darker), *rest, **options)

    monkeypatch.setattr(export_graph, "surround", surround_wrongly)
    with pytest.raises(ModelError, match="nothing was written"):
        export_bundle(bundle, engine=known, folder=tmp_path / "out", options=ExportOptions())
    assert list((tmp_path / "out").iterdir()) == []


SOUNDS = {
    "long": speech(25.0),
    "silent ends": np.concatenate([np.zeros(9001), speech(3.0), np.zeros(5003)]),
    "shorter than a window": speech(0.7),
    "one window": speech(2.0),
    "all alike": tone(3.0, level=0.02),
    "rough within": np.concatenate([speech(12.0), roughen(speech(3.0)), speech(9.0)]),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_a_whole_sound_is_cut_and_pooled_as_the_bundle_does(tmp_path: Path, name: str) -> None:
    folder = make_rough_models(tmp_path, span_windows=2, length_penalty=0.5)
    bundle, samples = Bundle.read(folder / "audio-1"), SOUNDS[name].astype(np.float32)
    preprocess = bundle.preprocess
    assert isinstance(preprocess, AudioPreprocess)
    batch = preprocess(samples).batch
    engine = Engine(Settings(models_folder=folder, backend="onnxruntime", threads=1))
    logits, scored = engine.logits(bundle, batch), engine.score(bundle, batch)
    engine.close()
    found = run_graph(graph_of(bundle), samples)
    assert found["logits"] == pytest.approx(logits, abs=1e-4)
    assert found["scores"] == pytest.approx(scored.windows, abs=1e-5)
    assert found["score"] == pytest.approx([scored.score], abs=1e-5)


@pytest.mark.parametrize("windows", [1, 2, 5, 17, 18, 40])
@pytest.mark.parametrize("top_fraction", [1.0, 0.25, 0.1])
@pytest.mark.parametrize("span_windows", [0, 3])
def test_pooling_is_that_of_the_calibration(
    tmp_path: Path, windows: int, top_fraction: float, span_windows: int
) -> None:
    calibration = Calibration(
        slope=0.7,
        intercept=-0.2,
        spread=0.1,
        points=POINTS,
        top_fraction=top_fraction,
        floor=0.01,
        span_windows=span_windows,
        length_penalty=0.1,
    )
    preprocess = ImagePreprocess(side_pixels=4)
    bundle = make_bundle(
        tmp_path / "image-1", preprocess=preprocess, gain=8.0, calibration=calibration
    )
    levels = np.random.default_rng(windows).integers(0, 256, (windows, 1, 1, 1))
    levels[windows // 2 : windows // 2 + 3] = 250
    crops = np.broadcast_to(levels, (windows, 4, 4, 3)).astype(np.uint8)
    found = run_graph(graph_of(bundle), crops)
    scored = Scored.read(found["logits"], calibration)
    assert found["score"] == pytest.approx([scored.score], abs=1e-6)
    assert found["scores"] == pytest.approx(scored.windows, abs=1e-6)


@pytest.mark.parametrize("faces", [1, 2, 5])
def test_several_faces_share_their_prior(known: Engine, faces: int) -> None:
    bundle = known.bundle("face")
    crops = np.random.default_rng(faces).integers(0, 256, (faces, 32, 32, 3)).astype(np.uint8)
    found = run_graph(graph_of(bundle), crops)
    single = [Scored.read(found["logits"][i : i + 1], bundle.calibration) for i in range(faces)]
    assert found["score"] == pytest.approx([highest([("face", s) for s in single])[1]], abs=1e-6)


def test_the_file_says_what_it_is(known: Engine, tmp_path: Path) -> None:
    bundle = known.bundle("image")
    (path,) = export_bundle(bundle, engine=known, folder=tmp_path, options=ExportOptions()).files
    facts = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert facts["bundle"] == "image-1"
    assert facts["licence"] == "Apache-2.0"
    assert facts["model_sha256"] == bundle.files["model.onnx"]["sha256"]
    assert json.loads(facts["points"]) == {"authentic": 0.2, "suspicious": 0.6, "synthetic": 0.9}
    assert json.loads(facts["preprocess"])["side_pixels"] == 32


def test_openvino_rounded_to_16_bits_is_half_the_size(shipped: Engine, tmp_path: Path) -> None:
    bundle, sizes = shipped.bundle("image"), []
    for half in (False, True):
        options = ExportOptions(format="openvino", half=half)
        made = export_bundle(bundle, engine=shipped, folder=tmp_path / str(half), options=options)
        sizes.append(sum(path.stat().st_size for path in made.files if path.suffix == ".bin"))
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.01)
    assert 0 < (made.agreement.score_gap or 0.0) < 5e-3


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_other_operator_sets_agree_too(shipped: Engine, tmp_path: Path, opset: int) -> None:
    options = ExportOptions(opset=opset)
    made = export_bundle(shipped.bundle("image"), engine=shipped, folder=tmp_path, options=options)
    assert onnx.load(made.files[0]).opset_import[0].version == opset
    assert made.agreement.logit_gap < 1e-4


@pytest.mark.parametrize("opset", [7, 999])
def test_an_operator_set_that_cannot_be_had_is_named(known: Engine, opset: int) -> None:
    with pytest.raises(ModelError, match=f"opset {opset}: .*leave --opset out"):
        convert_opset(graph_of(known.bundle("image")), opset)


# int8


def write_pictures(folder: Path, *, waves: bool, count: int, seed: int) -> None:
    """Scenes, or smooth waves, which image-3 takes for much less synthetic."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(seed, seed + count):
        pixels = scene(128, 128, seed=index)
        if waves:
            bow = 128 + 100 * np.sin(np.mgrid[0:128, 0:128].sum(axis=0) / (8 + 0.1 * index))
            pixels = np.repeat(bow[..., None], 3, axis=2).astype(np.uint8)
        (folder / f"{index}.png").write_bytes(image_bytes(pixels))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    write_pictures(folder / "calibration", waves=False, count=10, seed=0)
    write_pictures(folder / "calibration", waves=True, count=10, seed=10)
    write_pictures(folder / "check" / "genuine", waves=True, count=20, seed=100)
    write_pictures(folder / "check" / "synthetic", waves=False, count=20, seed=200)
    return folder


def test_int8_is_smaller_and_says_what_it_costs(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["models", "export", "image-3", "--format", "onnx-int8", "--threads", "1"]
    arguments += ["--calibrate", str(labelled / "calibration"), "--output", str(tmp_path)]
    assert main([*arguments, "--check", str(labelled / "check")]) == 0
    text = capsys.readouterr().out
    assert "40 labelled files: AUC 1.0000 as shipped, 1.0000 as exported" in text
    (path,) = tmp_path.iterdir()
    assert path.name == "image-3-int8.onnx"
    whole = onnx.load(Path(__file__).parents[2] / "models/image-3/model.onnx")
    assert path.stat().st_size < 0.45 * widen_weights(whole).ByteSize()


def test_int8_that_tells_no_more_apart_is_refused(known: Engine, tmp_path: Path) -> None:
    """Two grey levels of which 8 bits make one, by the range of the calibration set."""
    for kind, count, level in (("genuine", 20, 100), ("synthetic", 20, 100), ("cal", 20, 0)):
        folder = tmp_path / ("cal" if kind == "cal" else f"check/{kind}")
        folder.mkdir(parents=True)
        for index in range(count):
            pixels = np.full((32, 32, 3), level, np.uint8)
            pixels[index % 32] += 1
            if kind == "synthetic":
                pixels[:2, 16:] += 2
            if kind == "cal":
                pixels[:] = 255 * (index % 2)
            (folder / f"{index}.png").write_bytes(image_bytes(pixels))
    options = ExportOptions(
        format="onnx-int8", calibrate=tmp_path / "cal", check=tmp_path / "check"
    )
    with pytest.raises(ModelError, match=r"AUC falls from 1\.0000 to 0\.\d+ on 40 files"):
        export_bundle(known.bundle("image"), engine=known, folder=tmp_path / "out", options=options)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_sensitive_stays_in_fp32(shipped: Engine) -> None:
    for slot, kinds, most in (
        ("audio", {"Conv", "Log", "Split"}, 0.85),
        ("face", {"Conv", "Clip"}, 0.85),
        ("image", {"Conv"}, 0.95),
    ):
        bundle = shipped.bundle(slot)
        network = widen_weights(onnx.load_from_string(bundle.file_bytes("model.onnx")))
        kept = kept_nodes(bundle, network)
        found = {node.op_type for node in network.graph.node if node.name in kept}
        learnt = [node for node in network.graph.node if node.name not in kept]
        assert kinds <= found
        assert 0.5 * len(network.graph.node) < len(learnt) < most * len(network.graph.node)


def test_calibration_files_must_not_be_measured_on(labelled: Path, known: Engine) -> None:
    options = ExportOptions(
        format="onnx-int8", calibrate=labelled / "check", check=labelled / "check"
    )
    with pytest.raises(SettingsError, match="is in the calibration set as well"):
        export_bundle(known.bundle("image"), engine=known, folder=labelled, options=options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "onnx-int8"], "--calibrate"),
        (["--format", "onnx-int8", "--calibrate", "."], "--labels TSV"),
        (["--format", "onnx", "--half"], "--half"),
        (["--format", "openvino", "--opset", "17"], "--opset"),
        (["--format", "pickle"], "choose one of"),
        ([], "needs a bundle and a format"),
        (["--format", "onnx", "--labels", "/nowhere.tsv"], "cannot be read"),
        (["--format", "onnx", "--check", "EMPTY"], "holds no file"),
    ],
)
def test_wrong_usage_is_status_2(
    known_models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    arguments = [str(tmp_path) if word == "EMPTY" else word for word in arguments]
    common = ["--models", str(known_models), "--output", str(tmp_path / "out")]
    assert main(["models", "export", "image-1", *arguments, *common]) == 2
    assert message in capsys.readouterr().err


def test_too_few_labelled_files_are_refused(labelled: Path, known: Engine, tmp_path: Path) -> None:
    table = tmp_path / "labels.tsv"
    genuine = sorted((labelled / "check" / "genuine").iterdir())
    table.write_text("path\tlabel\n" + "".join(f"{path}\t0\n" for path in genuine))
    options = ExportOptions(format="onnx-int8", calibrate=labelled / "calibration", labels=table)
    with pytest.raises(SettingsError, match="20 genuine and 0 synthetic"):
        export_bundle(known.bundle("image"), engine=known, folder=tmp_path, options=options)


def test_one_class_gives_no_area(
    labelled: Path, known_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "labels.tsv"
    table.write_text(f"{next((labelled / 'check' / 'genuine').iterdir())}\t0\n")
    arguments = ["models", "export", "image-1", "--format", "onnx", "--labels", str(table)]
    assert main([*arguments, "--models", str(known_models), "--output", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "1 files compared" in text
    assert "AUC" not in text


# Files and numbers


def test_labels_are_read_from_tables_and_folders(tmp_path: Path) -> None:
    table = tmp_path / "labels.tsv"
    table.write_text("a.png\t1\nb/c.png\t0\tremark\n")
    assert read_labels(table) == [
        Labelled(tmp_path / "a.png", 1),
        Labelled(tmp_path / "b/c.png", 0),
    ]
    table.write_text("a.png\t1\nb.png\tfake\n")
    with pytest.raises(SettingsError, match="line 2"):
        read_labels(table)
    for name in ("genuine", "synthetic", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"")
    found = {file.path.parent.name: file.label for file in list_files(tmp_path)}
    assert found == {"genuine": 0, "synthetic": 1, "other": None, tmp_path.name: None}


def test_area_counts_pairs_and_ties() -> None:
    assert area([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]) == 1.0
    assert area([0, 1], [0.5, 0.5]) == 0.5
    assert area([0, 0, 1], [0.1, 0.9, 0.5]) == 0.5


def test_faces_of_a_picture_become_crops(known: Engine, tmp_path: Path) -> None:
    from tests.bundles import paint_face

    pixels = scene(256, 256, noise=20.0)
    pixels[..., 0] //= 2
    path = tmp_path / "face.png"
    path.write_bytes(image_bytes(paint_face(pixels, row=3, column=3)))
    reader = SampleReader(known.bundle("face"), known)
    (sample,) = reader.read([Labelled(path, None)])
    assert sample.array.shape == (1, 32, 32, 3)
    made = export_bundle(
        known.bundle("face"),
        engine=known,
        folder=tmp_path,
        options=ExportOptions(check=path.parent),
    )
    assert len(made.agreement.gaps) == 1


def test_an_export_can_be_opened_again(known: Engine, tmp_path: Path) -> None:
    bundle = known.bundle("image")
    export_bundle(bundle, engine=known, folder=tmp_path, options=ExportOptions(format="openvino"))
    crops = np.full((3, 32, 32, 3), 200, np.uint8)
    found = open_export(tmp_path, bundle)(crops)
    assert found["logits"] == pytest.approx([4 * (200 / 127.5 - 1)] * 3, abs=1e-4)
