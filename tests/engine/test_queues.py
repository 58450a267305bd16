"""The queue of one bundle on one device, with the known bundles on ONNX Runtime."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepfake.bundle import Bundle, Logits
from deepfake.engine import backends
from deepfake.engine.queues import DeviceQueue
from deepfake.errors import BackendError
from deepfake.settings import Settings


class Gate:
    """A queue whose backend waits until it is opened, and notes what it ran."""

    def __init__(self, bundle: Bundle, **settings: Any) -> None:
        self.warnings: list[str] = []
        self.queue = DeviceQueue(
            bundle,
            Settings(device="cpu", threads=1, **settings),
            device="cpu",
            warn=self.warnings.append,
        )
        self.open, self.running = threading.Event(), threading.Event()
        self.batches: list[np.ndarray] = []
        self._plain = self.queue.backend.run
        self.queue.backend.run = self._run  # type: ignore[method-assign]

    def _run(self, batch: np.ndarray) -> Logits:
        self.running.set()
        assert self.open.wait(20)
        self.batches.append(batch)
        return self._plain(batch)

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]

    def block(self) -> Any:
        """A request of one window that the backend holds on to until the gate is opened."""
        first = self.queue.submit(grey(1, 9), same)
        assert self.running.wait(20)
        return first


def same(logits: Logits) -> Logits:
    return logits


def grey(windows: int, level: int, *, side: int = 32) -> np.ndarray:
    return np.full((windows, side, side, 3), level, np.uint8)


@pytest.fixture
def gated(known_models: Path) -> Iterator[Callable[..., Gate]]:
    made: list[Gate] = []

    def make(name: str = "image-1", **settings: Any) -> Gate:
        made.append(Gate(Bundle.read(known_models / name), **settings))
        return made[-1]

    yield make
    for gate in made:
        gate.open.set()
        gate.queue.close()


def test_requests_run_in_the_order_in_which_they_came(gated: Callable[..., Gate]) -> None:
    gate = gated(max_batch=4)
    gate.block()
    futures = [gate.queue.submit(grey(1, 10 * index), same) for index in range(10)]
    gate.open.set()
    logits = [float(future.result(20)[0]) for future in futures]
    assert logits == sorted(logits)
    levels = [int(window[0, 0, 0]) for batch in gate.batches for window in batch]
    assert levels == [9, *range(0, 100, 10)]
    assert gate.sizes == [1, 4, 4, 2]


def test_a_request_that_does_not_fit_lets_smaller_ones_go_along(
    gated: Callable[..., Gate],
) -> None:
    gate = gated(max_batch=4)
    gate.block()
    futures = [gate.queue.submit(grey(count, 50 + count), same) for count in (2, 3, 1, 3)]
    gate.open.set()
    assert [len(future.result(20)) for future in futures] == [2, 3, 1, 3]
    assert gate.sizes == [1, 3, 3, 3]


def test_a_request_larger_than_a_batch_runs_in_parts(gated: Callable[..., Gate]) -> None:
    gate = gated(max_batch=4)
    gate.open.set()
    batch = np.concatenate([grey(1, 5 * index) for index in range(11)])
    logits = gate.queue.submit(batch, same).result(20)
    assert gate.sizes == [4, 4, 3]
    assert len(logits) == 11
    assert list(logits) == sorted(logits)


def test_shapes_are_never_mixed_and_none_starves(gated: Callable[..., Gate]) -> None:
    gate = gated("face-finder-1", max_batch=4)
    gate.queue.submit(np.zeros((1, 256, 256, 3), np.uint8), same)
    assert gate.running.wait(20)
    shapes = [(256, 256), (384, 640), (256, 256), (384, 640), (512, 512)]
    futures = [gate.queue.submit(np.zeros((1, *s, 3), np.uint8), same) for s in shapes]
    gate.open.set()
    counts = [future.result(20).shape for future in futures]
    assert [batch.shape[:3] for batch in gate.batches[1:]] == [
        (2, 256, 256),
        (2, 384, 640),
        (1, 512, 512),
    ]
    cells = {size: size[0] * size[1] * (1 / 64 + 1 / 256 + 1 / 1024) for size in shapes}
    assert counts == [(1, cells[size], 15) for size in shapes]


def test_a_full_queue_holds_callers_back_until_there_is_room(gated: Callable[..., Gate]) -> None:
    gate = gated(max_batch=2, max_queued=3)
    gate.block()
    gate.queue.submit(grey(2, 20), same)
    assert gate.queue.queued == 3
    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(gate.queue.submit, grey(1, 30), same)
        with pytest.raises(TimeoutError):
            held.result(0.2)
        gate.open.set()
        assert len(held.result(20).result(20)) == 1
    assert gate.queue.queued == 0


def test_closing_answers_what_is_queued_and_frees_who_waits(gated: Callable[..., Gate]) -> None:
    gate = gated(max_batch=2, max_queued=2)
    futures = [gate.block(), gate.queue.submit(grey(1, 20), same)]
    with ThreadPoolExecutor(2) as threads:
        held = threads.submit(gate.queue.submit, grey(1, 30), same)
        with pytest.raises(TimeoutError):
            held.result(0.2)
        closing = threads.submit(gate.queue.close)
        with pytest.raises(BackendError, match="already closed"):
            held.result(20)
        gate.open.set()
        closing.result(20)
    assert all(len(future.result(0)) == 1 for future in futures)
    with pytest.raises(BackendError, match="already closed"):
        gate.queue.submit(grey(1, 40), same)


def test_closing_twice_does_no_harm(gated: Callable[..., Gate]) -> None:
    gate = gated()
    gate.queue.close()
    gate.queue.close()


def test_an_answer_that_cannot_be_read_fails_those_of_its_batch_and_no_later_one(
    gated: Callable[..., Gate],
) -> None:
    gate = gated(max_batch=2)
    gate.block()

    def refuse(logits: Logits) -> Logits:
        raise ValueError("a bug of the reader")

    bad, beside = gate.queue.submit(grey(1, 20), refuse), gate.queue.submit(grey(1, 30), same)
    later = gate.queue.submit(grey(1, 40), same)
    gate.open.set()
    for future in (bad, beside):
        with pytest.raises(ValueError, match="of the reader"):
            future.result(20)
    assert len(later.result(20)) == 1
    assert gate.queue.queued == 0


class Failing:
    """A backend that runs so many batches and then fails, and knows whether it was closed."""

    name, device, precision = "onnxruntime", "cpu", "fp32"
    good = 1
    closed = 0

    def __init__(self, bundle: Bundle, *, settings: Settings, device: str) -> None:
        self._plain = backends.OnnxRuntimeBackend(bundle, settings=settings, device=device)
        self.left = self.good

    def run(self, batch: np.ndarray) -> Logits:
        self.left -= 1
        if self.left < 0:
            raise BackendError("bundle image-1: ONNX Runtime failed (out of memory)")
        return self._plain.run(batch)

    def close(self) -> None:
        type(self).closed += 1
        raise RuntimeError("it cannot be closed either")


def test_a_backend_that_fails_midway_is_replaced_and_nobody_waits_in_vain(
    known_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(backends._OPENERS, "onnxruntime", Failing)
    monkeypatch.setattr(Failing, "closed", 0)
    warnings: list[str] = []
    settings = Settings(device="cpu", threads=1, max_batch=4)
    bundle = Bundle.read(known_models / "image-1")
    queue = DeviceQueue(bundle, settings, device="cpu", warn=warnings.append)
    batch = np.concatenate([grey(1, 20 * index) for index in range(10)])
    logits = queue.submit(batch, same).result(20)  # the first part of three still runs
    expected = 4 * (np.arange(0, 200, 20) / 127.5 - 1)
    np.testing.assert_allclose(logits, expected, atol=1e-3)
    assert queue.backend.name == "openvino"
    assert Failing.closed == 1
    (warning,) = warnings
    assert "ONNX Runtime failed (out of memory)" in warning
    assert len(queue.submit(grey(2, 50), same).result(20)) == 2
    assert len(warnings) == 1
    queue.close()
