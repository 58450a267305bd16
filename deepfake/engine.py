"""The engine: one loaded backend per bundle, requests of many callers in shared batches."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .backends import Backend, check_logits, choose_backend, open_backend
from .bundle import Bundle, Calibration, Logits, read_bundles
from .errors import BackendError, ModelError
from .preprocess import Batch
from .settings import Settings

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Scored:
    """Calibrated P(synthetic): of the input as a whole, its interval, and of each window alone.

    ``logits`` are there for :meth:`join` alone.
    """

    score: float
    interval: tuple[float, float]
    windows: tuple[float, ...]
    logits: Logits = field(repr=False, compare=False)

    @classmethod
    def read(cls, logits: Logits, calibration: Calibration) -> Scored:
        """What the logits (windows,) of one input mean."""
        return cls(
            score=calibration.probability(calibration.pool(logits)),
            interval=calibration.interval(logits),
            windows=tuple(calibration.probability(float(logit)) for logit in logits),
            logits=logits,
        )

    @classmethod
    def join(cls, parts: Sequence[Scored], calibration: Calibration) -> Scored:
        """One input that was scored in several parts, in the order of time."""
        return cls.read(np.concatenate([part.logits for part in parts]), calibration)


class Engine:
    """Scores batches with the active bundle of each slot; safe to share between threads.

    ``active`` maps a slot to its bundle. Backends are opened at first use, but one that cannot be
    had raises at once (``MissingDependency``, ``SettingsError``). Requests that arrive
    within ``settings.batch_wait_seconds`` of one another run in one batch.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        choose_backend(self.settings)
        self.active: dict[str, Bundle] = read_bundles(self.settings.models_folder)
        self._batchers: dict[str, _Batcher] = {}
        self._lock = threading.Lock()
        self._closed = False

    def bundle(self, slot: str) -> Bundle:
        """The active bundle of a slot; raises ``ModelError`` when there is none."""
        if slot not in self.active:
            raise ModelError(
                f"slot {slot}: no bundle in {self.settings.models_folder}",
                code="no_bundle",
                hint="deepfake models list shows what is there",
            )
        return self.active[slot]

    def submit(self, bundle: Bundle, batch: Batch) -> Future[Scored]:
        """Queue windows of one input (windows, …); the future gives its ``Scored``."""
        return self._batcher(bundle).submit(
            batch, lambda logits: Scored.read(logits, bundle.calibration)
        )

    def raw(self, bundle: Bundle, batch: Batch) -> Logits:
        """What the network gives for a batch (windows, …), for bundles without a score of their
        own: the face finder's map (windows, places, values).
        """
        return self._batcher(bundle).submit(batch, lambda logits: logits).result()

    def score(self, bundle: Bundle, batch: Batch) -> Scored:
        """Score the windows of one input (windows, …) and wait for the result."""
        return self.submit(bundle, batch).result()

    def backend(self, bundle: Bundle) -> Backend:
        """The loaded backend of a bundle."""
        return self._batcher(bundle).backend

    def close(self) -> None:
        """Finish what is queued, then release every backend."""
        with self._lock:
            self._closed = True
            batchers, self._batchers = list(self._batchers.values()), {}
        for batcher in batchers:
            batcher.close()

    def _batcher(self, bundle: Bundle) -> _Batcher:
        with self._lock:
            if self._closed:
                raise BackendError("engine: already closed", hint="make a new Detector")
            if bundle.name not in self._batchers:
                self._batchers[bundle.name] = _Batcher(bundle, self.settings)
            return self._batchers[bundle.name]


class _Request(NamedTuple):
    """Windows of one caller, what makes an answer of their logits, and where it goes."""

    batch: Batch
    read: Callable[[Logits], Any]
    future: Future[Any]


class _Batcher:
    """One thread that runs one backend over whatever has been queued meanwhile."""

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        self.backend = open_backend(bundle, settings=settings)
        self._bundle = bundle
        self._settings = settings
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._work, name=f"deepfake-{bundle.name}", daemon=True
        )
        self._thread.start()

    def submit(self, batch: Batch, read: Callable[[Logits], _Answer]) -> Future[_Answer]:
        future: Future[_Answer] = Future()
        self._queue.put(_Request(batch, read, future))
        return future

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        self.backend.close()

    def _work(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            requests, last = self._gather(first)
            while requests:
                shape = requests[0].batch.shape[1:]
                self._run([r for r in requests if r.batch.shape[1:] == shape])
                requests = [r for r in requests if r.batch.shape[1:] != shape]
            if last:
                return

    def _gather(self, first: _Request) -> tuple[list[_Request], bool]:
        """The first request and those that follow at once, up to ``max_batch`` windows."""
        requests, windows = [first], len(first.batch)
        until = time.monotonic() + self._settings.batch_wait_seconds
        while windows < self._settings.max_batch:
            try:
                request = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if request is None:
                return requests, True
            requests.append(request)
            windows += len(request.batch)
        return requests, False

    def _run(self, requests: list[_Request]) -> None:
        """Answer requests whose windows have the same shape."""
        try:
            batch = (
                requests[0].batch
                if len(requests) == 1
                else np.concatenate([request.batch for request in requests])
            )
            logits, start, answers = self._logits(batch), 0, []
            for request in requests:
                answers.append(request.read(logits[start : start + len(request.batch)]))
                start += len(request.batch)
        except Exception as error:  # noqa: BLE001 - handed to the callers that wait, whatever it is
            for request in requests:
                request.future.set_exception(error)
            return
        for request, answer in zip(requests, answers, strict=True):
            request.future.set_result(answer)

    def _logits(self, batch: Batch) -> Logits:
        most = self._settings.max_batch
        parts = [
            check_logits(self._bundle, self.backend.run(part), windows=len(part))
            for part in (batch[start : start + most] for start in range(0, len(batch), most))
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
