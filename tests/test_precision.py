"""One file has one score, whoever asks: the int8 graph answers only where it is asked for."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from deepfake_app.examination import Examiner
from deepfake_app.limits import PageLimits
from deepfake_app.storage import Uploads

from deepfake.commands.cli import build_parser, main
from deepfake.commands.options import read_settings
from deepfake.detector import Detector
from deepfake.engine.backends import INT8_GRAPH, has_bf16, open_backend
from deepfake.engine.engine import Engine
from deepfake.engine.golden import check_golden
from deepfake.settings import DetectOptions, Settings, shipped_models_folder
from deepfake.trust.registry import read_bundles
from deepfake.types import Report
from tests.app.media import sent
from tests.bundles import make_models, sign
from tests.media_files import image_bytes, scene
from tests.scans import Inline


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Bundles with a graph for int8 that answers otherwise, on a processor that can run it."""
    folder = make_models(tmp_path / "models")
    other = make_models(tmp_path / "other", gain=1.0)
    for name in ("image-1", "frame-1"):
        graph = Path(shutil.copy(other / name / "model.onnx", folder / name / INT8_GRAPH))
        record = folder / name / "bundle.json"
        values = json.loads(record.read_text())
        digest = sha256(graph.read_bytes()).hexdigest()
        values["files"][INT8_GRAPH] = {"sha256": digest, "precision": "int8"}
        record.write_text(json.dumps(values))
        sign(folder / name)
    monkeypatch.setattr("deepfake.engine.backends.has_int8", lambda: True)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(image_bytes(scene(200, 120)))
    return path


def score_of(values: dict) -> float:
    (image,) = [one for one in values["evidence"] if one["source"] == "image"]
    return image["score"]


def on_the_page(picture: Path, models: Path, folder: Path) -> Report:
    """The report of the page that ``deepfake serve`` opens."""
    options = build_parser().parse_args(["serve", "--models", str(models)])
    limits = PageLimits()
    folder.mkdir()
    uploads = Uploads(folder, limits)
    with Detector(read_settings(options)) as detector:
        examiner = Examiner(detector=detector, uploads=uploads, limits=limits)
        path = sent(uploads, picture.read_bytes(), picture.name)["path"]
        with uploads.claimed(path, name=picture.name) as upload:
            return examiner.report_on(upload, DetectOptions(), watch=examiner.watch())


def test_every_front_end_gives_the_same_score(
    picture: Path,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("deepfake.commands.scan.choose_executor", lambda cluster: Inline)
    chosen, output = ["--models", str(models)], tmp_path / "results.jsonl"
    assert main(["detect", "--json", str(picture), *chosen]) == 0
    values = [json.loads(capsys.readouterr().out)]
    assert main(["scan", str(picture), "--output", str(output), *chosen]) == 0
    values.append(json.loads(output.read_text()))
    with Detector(Settings(models_folder=models)) as detector:
        values += [report.to_dict() for report in detector.detect_many([picture, picture])]
    values.append(on_the_page(picture, models, tmp_path / "uploads").to_dict())
    first = values[0]
    assert len(values) == 5
    for other in values[1:]:
        assert score_of(other) == pytest.approx(score_of(first), abs=2e-6)
        assert other["probability"] == pytest.approx(first["probability"], abs=2e-6)
        assert other["verdict"] == first["verdict"]
        assert other["warnings"] == first["warnings"]
    assert "int8" not in " ".join(first["warnings"])


def test_every_command_has_the_precision_of_the_settings() -> None:
    for line in (["detect", "a"], ["scan", "a", "--output", "b"], ["serve"], ["doctor"]):
        assert build_parser().parse_args(line).precision == Settings().precision == "fp32"


def test_a_lower_precision_is_told(picture: Path, models: Path) -> None:
    with Detector(Settings(models_folder=models, device="cpu", precision="auto")) as detector:
        report = detector.detect(picture)
    assert report.warnings[-1] == (
        "Precision auto ran image-1 in int8; in fp32 scores differ a little."
    )
    with Detector(Settings(models_folder=models, device="cpu")) as detector:
        full = detector.detect(picture)
    assert full.warnings == report.warnings[:-1]
    low, high = score_of(report.to_dict()), score_of(full.to_dict())
    assert abs(low - high) > 0.01
    (image,) = [one for one in report.evidence if one.source == "image"]
    assert image.runtime == "openvino cpu int8"


@pytest.mark.skipif(not has_bf16(), reason="the processor has no bf16 instructions")
@pytest.mark.parametrize("slot", ["image-large", "frame-large", "face-large"])
def test_a_full_tier_of_pictures_runs_in_bf16_where_the_processor_has_it(slot: str) -> None:
    bundles = read_bundles(shipped_models_folder())
    settings = Settings(device="cpu", precision="auto", backend="openvino", allow_unsigned=True)
    engine = Engine(settings, active=bundles)
    try:
        gap = check_golden(engine, bundles[slot])
        assert engine.backend(bundles[slot]).precision == "bf16"
        assert gap > 1e-5  # another precision indeed
    finally:
        engine.close()


def test_a_full_tier_of_sound_runs_in_fp32_whatever_is_asked() -> None:
    bundle = read_bundles(shipped_models_folder())["audio-large"]
    backend = open_backend(bundle, settings=Settings(precision="auto"), name="openvino")
    try:
        assert backend.precision == "fp32"
    finally:
        backend.close()
