from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepfake.bundle import Bundle
from deepfake.detector import Detector
from deepfake.engine import backends
from deepfake.engine.backends import (
    Backend,
    check_logits,
    choose_backend,
    installed_backends,
    open_backend,
)
from deepfake.engine.engine import Engine
from deepfake.engine.scores import Scored
from deepfake.errors import BackendError, ModelError, SettingsError
from deepfake.settings import Settings, shipped_models_folder
from deepfake.types import Kind

SHIPPED = sorted(path.parent for path in shipped_models_folder().glob("*/bundle.json"))


@pytest.fixture
def engine(known_models: Path) -> Iterator[Engine]:
    engine = Engine(Settings(models_folder=known_models, threads=1, max_batch=8))
    yield engine
    engine.close()


def flat(windows: int, value: float) -> np.ndarray:
    """Windows of one grey, of which the known network sees ``value`` (-1…1), nearly."""
    return np.full((windows, 32, 32, 3), round(127.5 * (value + 1)), np.uint8)


def ramp(count: int) -> np.ndarray:
    levels = np.linspace(0, 255, count).round().astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, 32, 32, 3)).copy()


def known_scores(values: np.ndarray) -> np.ndarray:
    seen = np.round(127.5 * (values + 1)) / 127.5 - 1
    return 1 / (1 + np.exp(-4 * seen))


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
        "audio-3",
        "audio-3-large",
        "face-1",
        "face-1-large",
        "face-finder-1",
        "frame-2",
        "frame-2-large",
        "image-3",
        "image-3-large",
        "video-1",
    }


def test_score_is_the_calibrated_mean(engine: Engine) -> None:
    bundle = engine.bundle("image")
    scored = engine.score(bundle, flat(3, 0.25))
    assert scored.score == pytest.approx(known_scores(np.array(0.25)), abs=1e-5)
    assert scored.windows == pytest.approx([scored.score] * 3)
    assert scored.interval[0] < scored.score < scored.interval[1]


def test_more_windows_than_a_batch_keep_their_order(engine: Engine) -> None:
    bundle = engine.bundle("image")
    scored = engine.score(bundle, ramp(50))
    assert list(scored.windows) == sorted(scored.windows)
    assert len(scored.windows) == 50


def test_parts_of_one_input_join_to_its_score(engine: Engine) -> None:
    bundle = engine.bundle("image")
    batch = ramp(20)
    whole = engine.score(bundle, batch)
    parts = [engine.score(bundle, batch[start : start + 7]) for start in range(0, 20, 7)]
    joined = Scored.join(parts)
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
    np.testing.assert_allclose(scores, known_scores(values), atol=1e-5)
    assert sum(sizes) == 16
    assert max(sizes) > 1


def test_many_threads(engine: Engine) -> None:
    bundle = engine.bundle("image")

    def score(value: float) -> float:
        return engine.score(bundle, flat(2, value)).score

    values = np.linspace(-0.5, 0.5, 200)
    with ThreadPoolExecutor(8) as pool:
        scores = list(pool.map(score, values))
    np.testing.assert_allclose(scores, known_scores(values), atol=1e-5)


def test_a_failing_batch_fails_its_callers_only(engine: Engine) -> None:
    bundle = engine.bundle("audio")
    with pytest.raises(BackendError, match="NaN"):
        engine.score(bundle, np.full((1, 16000), np.nan, np.float32))
    assert 0 < engine.score(bundle, np.zeros((1, 16000), np.float32)).score < 1
    assert engine.backend(bundle).name == "onnxruntime"
    assert not failures(engine)


def failures(engine: Engine) -> list[str]:
    """The warnings about backends."""
    return [text for text in engine.warnings if " runs on " in text]


class Broken:
    """A backend that loads and then fails."""

    name, device, precision = "onnxruntime", "cpu", "fp32"

    def __init__(self, bundle: Bundle, *, settings: Settings, device: str) -> None:
        del bundle, settings, device

    def run(self, batch: np.ndarray) -> np.ndarray:
        raise BackendError(f"bundle image-1: ONNX Runtime failed (out of {len(batch)} luck)")

    def close(self) -> None:
        pass


def refuse(bundle: Bundle, *, settings: Settings, device: str) -> Backend:
    raise BackendError(f"bundle {bundle.name}: ONNX Runtime cannot load it")


@pytest.mark.parametrize("opener", [Broken, refuse])
def test_a_broken_backend_is_replaced_and_the_report_says_so(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, opener: Any
) -> None:
    monkeypatch.setitem(backends._OPENERS, "onnxruntime", opener)
    bundle = engine.bundle("image")
    scored = engine.score(bundle, flat(3, 0.25))
    assert scored.score == pytest.approx(known_scores(np.array(0.25)), abs=1e-5)
    assert engine.backend(bundle).name == "openvino"
    (warning,) = failures(engine)
    assert "image-1 runs on openvino (cpu)" in warning
    assert "ONNX Runtime" in warning
    engine.score(bundle, flat(1, 0.0))
    assert len(failures(engine)) == 1
    with Detector(Settings(models_folder=bundle.folder.parent)) as detector:
        report = detector.detect(np.full((64, 64, 3), 160, np.uint8))
    assert any("image-1 runs on openvino" in text for text in report.warnings)


def test_spares_that_fail_as_well_are_closed_and_tried_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    class Spare(Broken):
        def close(self) -> None:
            closed.append(self)

    monkeypatch.setitem(backends._OPENERS, "onnxruntime", Broken)
    monkeypatch.setitem(backends._OPENERS, "openvino", Spare)
    bundle = engine.bundle("image")
    for count in (1, 2):
        with pytest.raises(BackendError, match="luck"):
            engine.score(bundle, flat(1, 0.0))
        assert len(closed) == count
    assert not failures(engine)


def test_a_backend_that_was_named_is_not_replaced(
    known_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(backends._OPENERS, "onnxruntime", Broken)
    engine = Engine(Settings(models_folder=known_models, backend="onnxruntime"))
    with pytest.raises(BackendError, match="luck"):
        engine.score(engine.bundle("image"), flat(1, 0.0))
    engine.close()


def test_callers_wait_while_the_queue_is_full(known_models: Path) -> None:
    engine = Engine(Settings(models_folder=known_models, threads=1, max_batch=2, max_queued=4))
    bundle = engine.bundle("image")
    backend = engine.backend(bundle)
    plain, gate = backend.run, threading.Event()

    def run(batch: np.ndarray) -> np.ndarray:
        gate.wait(10)
        return plain(batch)

    backend.run = run  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        first = engine.submit(bundle, flat(9, 0.0))  # more than the queue holds, but it is empty
        second = pool.submit(engine.submit, bundle, flat(1, 0.0))
        with pytest.raises(TimeoutError):
            second.result(timeout=0.3)
        gate.set()
        assert len(first.result(timeout=10).windows) == 9
        assert second.result(timeout=10).result(timeout=10).score == pytest.approx(0.5, abs=0.01)
    engine.close()


def test_a_batch_waits_for_others_as_long_as_it_may(known_models: Path) -> None:
    engine = Engine(
        Settings(models_folder=known_models, threads=1, max_batch=4, batch_wait_seconds=30)
    )
    bundle = engine.bundle("image")
    sizes: list[int] = []
    backend = engine.backend(bundle)
    plain = backend.run

    def run(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return plain(batch)

    backend.run = run  # type: ignore[method-assign]
    futures = [engine.submit(bundle, flat(1, 0.1 * index)) for index in range(4)]
    for future in futures:
        future.result(timeout=10)  # a full batch does not wait
    assert sizes == [4]
    lonely = engine.submit(bundle, flat(1, 0.0))
    with pytest.raises(TimeoutError):
        lonely.result(timeout=0.3)
    engine.close()  # lets nobody wait any longer
    assert lonely.result(timeout=10).windows


def test_requests_are_shared_between_devices(
    known_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(Settings(models_folder=known_models, threads=1))
    engine.devices = ("cpu", "cpu")
    bundle = engine.bundle("image")
    queues = engine._open(bundle).result()
    gate, used = threading.Event(), set()
    for number, queue in enumerate(queues):
        plain = queue.backend.run

        def run(batch: np.ndarray, plain: Any = plain, number: int = number) -> np.ndarray:
            used.add(number)
            gate.wait(10)
            return plain(batch)

        monkeypatch.setattr(queue.backend, "run", run)
    futures = [engine.submit(bundle, flat(1, 0.0)) for _ in range(2)]
    gate.set()
    assert all(future.result(timeout=10).windows for future in futures)
    assert used == {0, 1}
    engine.close()


def test_warm_start_opens_and_runs_every_bundle(known_models: Path) -> None:
    engine = Engine(Settings(models_folder=known_models, threads=1))
    engine.warm()
    assert set(engine._queues) == {bundle.name for bundle in engine.active.values()}
    engine.close()


def test_prepare_opens_what_a_kind_of_media_needs(known_models: Path) -> None:
    engine = Engine(Settings(models_folder=known_models, threads=1))
    engine.prepare(Kind.AUDIO)
    assert set(engine._queues) == {"audio-1"}
    engine.prepare(Kind.IMAGE)
    assert set(engine._queues) == {"audio-1", "image-1", "face-finder-1"}
    engine.close()
    engine.prepare(Kind.VIDEO)


def test_windows_of_a_change_move_the_whole(engine: Engine) -> None:
    bundle = engine.bundle("image")
    whole, after = engine.score(bundle, ramp(8)), engine.score(bundle, flat(2, 0.5))
    before = whole.only([0, 7])
    assert before.score == pytest.approx(0.5, abs=0.01)
    assert whole.shifted(before, before).score == pytest.approx(whole.score)
    moved = whole.shifted(before, after)
    assert moved.score == pytest.approx(known_scores(np.array(0.5)), abs=0.01)


def test_unknown_slot_is_named(engine: Engine) -> None:
    with pytest.raises(ModelError, match="slot fusion"):
        engine.bundle("fusion")


def test_closed_engine_says_so(known_models: Path) -> None:
    engine = Engine(Settings(models_folder=known_models))
    bundle = engine.bundle("image")
    engine.score(bundle, flat(1, 0.0))
    (queue,) = engine._open(bundle).result()
    engine.close()
    with pytest.raises(BackendError, match="closed"):
        engine.score(bundle, flat(1, 0.0))
    with pytest.raises(BackendError, match="closed"):
        queue.submit(flat(1, 0.0), lambda logits: logits)


def test_openvino_comes_without_its_telemetry() -> None:
    """Its model converter loads a client that asks for a host of its maker at every start."""
    code = """
import sys, numpy, deepfake
with deepfake.Detector(deepfake.Settings(device="cpu", precision="auto")) as detector:
    detector.detect(numpy.zeros((128, 128, 3), numpy.uint8))
assert "openvino" in sys.modules, sorted(sys.modules)
assert "openvino_telemetry" not in sys.modules
assert "openvino.tools.ovc" not in sys.modules  # left out, not forbidden
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_backend_choice() -> None:
    assert choose_backend(Settings(device="cpu")) == "onnxruntime"
    assert choose_backend(Settings(device="cpu", precision="auto")) == "openvino"
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
