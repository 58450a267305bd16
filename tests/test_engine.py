from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deepfake.backends import (
    Backend,
    check_logits,
    choose_backend,
    installed_backends,
    open_backend,
)
from deepfake.bundle import Bundle
from deepfake.engine import Engine, Scored
from deepfake.errors import BackendError, ModelError, SettingsError
from deepfake.settings import Settings, shipped_models_folder

SHIPPED = sorted(path.parent for path in shipped_models_folder().glob("*/bundle.json"))


@pytest.fixture
def engine(known_models: Path) -> Iterator[Engine]:
    engine = Engine(Settings(models_folder=known_models, threads=1, max_batch=8))
    yield engine
    engine.close()


def flat(windows: int, value: float) -> np.ndarray:
    return np.full((windows, 3, 32, 32), value, np.float32)


@pytest.mark.parametrize("name", installed_backends())
@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_every_backend_gives_the_golden_scores(folder: Path, name: str) -> None:
    bundle = Bundle.read(folder)
    batch, logits = bundle.golden()
    backend = open_backend(bundle, settings=Settings(backend=name, device="cpu"))
    seen = check_logits(bundle, backend.run(batch), windows=len(batch))
    backend.close()
    calibration = bundle.calibration
    assert seen.shape == logits.shape
    assert calibration.largest_gap(seen, logits) <= 1e-3
    if bundle.slot == "face-finder":
        return
    scores = [calibration.probability(calibration.pool(x)) for x in (seen, logits)]
    points = calibration.points
    for limit in (points.authentic, points.suspicious, points.synthetic):
        assert (scores[0] >= limit) == (scores[1] >= limit)


def test_shipped_bundles_were_found() -> None:
    assert {folder.name for folder in SHIPPED} == {
        "audio-2",
        "face-1",
        "face-finder-1",
        "image-1",
        "video-1",
    }


def test_score_is_the_calibrated_mean(engine: Engine) -> None:
    bundle = engine.bundle("image")
    scored = engine.score(bundle, flat(3, 0.25))
    assert scored.score == pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-5)
    assert scored.windows == pytest.approx([scored.score] * 3)
    assert scored.interval[0] < scored.score < scored.interval[1]


def test_more_windows_than_a_batch_keep_their_order(engine: Engine) -> None:
    bundle = engine.bundle("image")
    values = np.linspace(-1, 1, 50, dtype=np.float32)
    scored = engine.score(bundle, values[:, None, None, None] * np.ones((1, 3, 32, 32), np.float32))
    assert list(scored.windows) == sorted(scored.windows)
    assert len(scored.windows) == 50


def test_parts_of_one_input_join_to_its_score(engine: Engine) -> None:
    bundle = engine.bundle("image")
    values = np.linspace(-1, 1, 20, dtype=np.float32)
    batch = values[:, None, None, None] * np.ones((1, 3, 32, 32), np.float32)
    whole = engine.score(bundle, batch)
    parts = [engine.score(bundle, batch[start : start + 7]) for start in range(0, 20, 7)]
    joined = Scored.join(parts, bundle.calibration)
    assert joined.windows == pytest.approx(whole.windows)
    assert (joined.score, *joined.interval) == pytest.approx((whole.score, *whole.interval))


def test_callers_share_batches_and_get_their_own_results(engine: Engine) -> None:
    bundle = engine.bundle("image")
    sizes: list[int] = []
    backend = engine.backend(bundle)
    plain, gate = backend.run, threading.Event()

    def run(batch: np.ndarray) -> np.ndarray:
        gate.wait(5)
        sizes.append(len(batch))
        return plain(batch)

    backend.run = run  # type: ignore[method-assign]
    values = np.linspace(-0.5, 0.5, 16)
    futures = [engine.submit(bundle, flat(1, value)) for value in values]
    gate.set()
    scores = [future.result(timeout=10).score for future in futures]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-4 * values)), atol=1e-5)
    assert sum(sizes) == 16
    assert max(sizes) > 1


def test_many_threads(engine: Engine) -> None:
    bundle = engine.bundle("image")

    def score(value: float) -> float:
        return engine.score(bundle, flat(2, value)).score

    values = np.linspace(-0.5, 0.5, 200)
    with ThreadPoolExecutor(8) as pool:
        scores = list(pool.map(score, values))
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-4 * values)), atol=1e-5)


def test_a_failing_batch_fails_its_callers_only(engine: Engine) -> None:
    bundle = engine.bundle("image")
    with pytest.raises(BackendError, match="NaN"):
        engine.score(bundle, flat(1, float("nan")))
    assert 0 < engine.score(bundle, flat(1, 0.0)).score < 1


def test_unknown_slot_is_named(engine: Engine) -> None:
    with pytest.raises(ModelError, match="slot fusion"):
        engine.bundle("fusion")


def test_closed_engine_says_so(known_models: Path) -> None:
    engine = Engine(Settings(models_folder=known_models))
    bundle = engine.bundle("image")
    engine.score(bundle, flat(1, 0.0))
    engine.close()
    with pytest.raises(BackendError, match="closed"):
        engine.score(bundle, flat(1, 0.0))


def test_backend_choice() -> None:
    assert choose_backend(Settings(device="cpu")) == "openvino"
    assert choose_backend(Settings(backend="onnxruntime")) == "onnxruntime"
    with pytest.raises(SettingsError, match="runs on the CPU"):
        choose_backend(Settings(backend="onnxruntime", device="cuda"))


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_damaged_graph_is_a_backend_error(known_models: Path, tmp_path: Path, name: str) -> None:
    import hashlib
    import shutil
    from dataclasses import replace

    folder = Path(shutil.copytree(known_models / "image-1", tmp_path / "image-1"))
    (folder / "model.onnx").write_bytes(b"not a graph")
    bundle = Bundle.read(folder)
    digest = hashlib.sha256(b"not a graph").hexdigest()
    files = {**bundle.files, "model.onnx": {"sha256": digest, "precision": "fp32"}}
    with pytest.raises(BackendError, match="cannot load"):
        open_backend(replace(bundle, files=files), settings=Settings(backend=name))


def test_backends_keep_to_the_protocol(known_models: Path) -> None:
    backend: Backend = open_backend(
        Bundle.read(known_models / "image-1"), settings=Settings(backend="onnxruntime")
    )
    assert (backend.name, backend.device) == ("onnxruntime", "cpu")
    backend.close()
