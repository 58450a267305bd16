from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepfake.bundle import QUICK_TIERS, Applicability, Bundle, Calibration
from deepfake.errors import ModelError
from deepfake.preprocess import ImagePreprocess
from deepfake.settings import shipped_models_folder
from deepfake.trust.registry import read_bundles
from tests.bundles import POINTS

SPANNING = Calibration(
    slope=1.0, intercept=0.0, spread=0.3, points=POINTS, span_windows=3, length_penalty=0.5
)
SHIPPED = sorted(path.parent for path in shipped_models_folder().glob("*/bundle.json"))


@pytest.fixture
def models(known_models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(known_models, tmp_path / "models"))


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_shipped_bundle_is_whole(folder: Path) -> None:
    bundle = Bundle.read(folder)
    bundle.verify()
    assert bundle.size_bytes <= (95_000_000 if bundle.slot in QUICK_TIERS else 15_000_000)
    assert (folder / "README.md").read_text(encoding="utf-8").startswith(f"# {bundle.name}")
    assert {"model.onnx", "model.safetensors", "golden.npz"} <= set(bundle.files)


def test_written_bundle_is_read_back_equal(models: Path, tmp_path: Path) -> None:
    bundle = Bundle.read(models / "image-1")
    bundle.write(tmp_path)
    assert Bundle.read(tmp_path) == bundle


def test_one_changed_byte_is_found(models: Path) -> None:
    path = models / "image-1" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx differs"):
        Bundle.read(models / "image-1").verify()


def test_missing_file_is_named(models: Path) -> None:
    (models / "audio-1" / "golden.npz").unlink()
    with pytest.raises(ModelError, match=r"golden\.npz cannot be read"):
        Bundle.read(models / "audio-1").verify()


def test_file_names_cannot_leave_the_folder(models: Path) -> None:
    path = models / "image-1" / "bundle.json"
    values = json.loads(path.read_text())
    values["files"]["../secret"] = {"sha256": "0" * 64, "precision": "fp32"}
    path.write_text(json.dumps(values))
    with pytest.raises(ModelError, match="has no file"):
        Bundle.read(models / "image-1").file_bytes("../secret")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": "other"}', "[" * 100_000])
def test_damaged_description_is_refused(models: Path, text: str) -> None:
    (models / "image-1" / "bundle.json").write_text(text)
    with pytest.raises(ModelError, match="image-1"):
        read_bundles(models)


@pytest.mark.parametrize(
    "change",
    [
        {"calibration": SPANNING},
        {"frames_calibration": SPANNING},
        {"limits": Applicability(min_side_pixels=17)},
        {"network": "other"},
        {"network_options": {"width": 2}},
        {"preprocess": ImagePreprocess(side_pixels=32, max_windows=5)},
        {"files": {"model.onnx": {"sha256": "0" * 64, "precision": "fp32"}}},
        {"name": "image-2"},
        {"slot": "frame"},
        {"licence": "MIT"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_a_bundle_says_changes_its_sha256(models: Path, change: dict[str, Any]) -> None:
    bundle = Bundle.read(models / "image-1")
    changed = replace(bundle, **change)
    assert changed.sha256 != bundle.sha256
    changed.write(models / "image-1")
    assert Bundle.read(models / "image-1").sha256 == changed.sha256


def test_the_sha256_depends_on_values_alone(models: Path) -> None:
    folder = models / "image-1"
    before = Bundle.read(folder).sha256
    values = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(dict(reversed(values.items())), indent=1))
    (folder / "README.md").write_text("# another card\n")
    assert Bundle.read(folder).sha256 == before
    del values["calibration"]["span_windows"]  # as an older version wrote it, which means the same
    (folder / "bundle.json").write_text(json.dumps(values))
    assert Bundle.read(folder).sha256 != before


def test_files_that_nothing_accounts_for_are_extra(models: Path) -> None:
    folder = models / "image-1"
    for name in ("roc.png", "noise.png", "weights.bin", ".hidden"):
        (folder / name).write_bytes(b"")
    (folder / "README.md").write_text("# image-1\n![curve](roc.png) [code](weights.bin)\n")
    extra = [".hidden", "noise.png", "weights.bin"]
    assert Bundle.read(folder).extra_files() == extra


def test_empty_models_folder_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--models"):
        read_bundles(tmp_path)


def test_inapplicable_inputs_have_a_reason(models: Path) -> None:
    bundle = Bundle.read(models / "image-1")
    assert bundle.limits.why_not(width=15, height=900) == "image_too_small"
    assert bundle.limits.why_not(width=16, height=900) is None
    assert bundle.limits.why_not(seconds=0.1) == "audio_too_short"


def test_calibration_arithmetic() -> None:
    calibration = Calibration(
        slope=2.0, intercept=-1.0, spread=0.5, points=POINTS, top_fraction=0.5, floor=0.01
    )
    logits = np.array([-3.0, 1.0, 2.0, 0.0], np.float32)
    assert calibration.pool(logits) == pytest.approx(1.5)
    assert calibration.probability(1.5) == pytest.approx(1 / (1 + np.exp(-2.0)))
    low, high = calibration.interval(logits)
    assert low < calibration.probability(1.5) < high
    assert calibration.probability(1e9) == pytest.approx(0.99)
    assert calibration.probability(-1e9) == pytest.approx(0.01)


def test_a_short_stretch_raises_a_long_file() -> None:
    logits = np.full(60, -2.0, np.float32)
    logits[20:23] = (3.0, 4.0, 5.0)
    assert SPANNING.pool(logits) == pytest.approx(4.0 - 0.5 * np.log(60 / 3))
    plain = replace(SPANNING, span_windows=0)
    assert plain.pool(logits) == pytest.approx(logits.mean())
    scattered = np.full(60, -2.0, np.float32)
    scattered[[10, 30, 50]] = (3.0, 4.0, 5.0)
    assert SPANNING.pool(scattered) < SPANNING.pool(logits) - 3


def test_the_interval_is_that_of_the_windows_used() -> None:
    logits = np.tile(np.array([-6.0, 2.0], np.float32), 30)
    logits[20:23] = 4.0
    low, high = SPANNING.interval(logits)
    middle = SPANNING.pool(logits)
    assert middle == pytest.approx(4.0 - 0.5 * np.log(20))
    assert np.log(high / (1 - high)) == pytest.approx(middle + 1.645 * 0.3)
    assert np.log(low / (1 - low)) == pytest.approx(middle - 1.645 * 0.3)


@pytest.mark.parametrize("windows", [1, 2, 3])
def test_a_file_no_longer_than_the_span_is_pooled_plainly(windows: int) -> None:
    logits = np.arange(windows, dtype=np.float32)
    assert SPANNING.pool(logits) == pytest.approx(logits.mean())


def test_many_windows_of_one_kind_do_not_raise_a_file_by_chance() -> None:
    rng = np.random.default_rng(0)
    lengths = (10, 100, 1000)
    means = [
        np.mean([SPANNING.pool(rng.normal(-2, 1, n).astype(np.float32)) for _ in range(200)])
        for n in lengths
    ]
    free = replace(SPANNING, length_penalty=0.0)
    unpenalised = [free.pool(rng.normal(-2, 1, n).astype(np.float32)) for n in lengths]
    assert max(means) - min(means) < 0.6
    assert unpenalised[-1] > max(means) + 1


def test_calibration_of_an_older_bundle_is_read(models: Path) -> None:
    path = models / "audio-1" / "bundle.json"
    values = json.loads(path.read_text())
    for key in ("span_windows", "length_penalty"):
        del values["calibration"][key]
    path.write_text(json.dumps(values))
    calibration = Bundle.read(models / "audio-1").calibration
    assert (calibration.span_windows, calibration.length_penalty) == (0, 0.0)


def test_calibration_round_trips() -> None:
    stored = json.loads(json.dumps(asdict(SPANNING)))
    assert Calibration.from_dict(stored) == SPANNING
