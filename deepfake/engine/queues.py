"""Queues in front of the backends: one queue for one bundle on one device.

Requests of many callers run in one batch with whatever else has arrived, a caller waits while the
queue is full, and a backend that fails is replaced by the next one that works. Written by hand
because what batches requests so is a server of models, with its own process and port.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..bundle import Bundle, Logits
from ..errors import BackendError, DeepfakeError
from ..preprocess import Batch
from ..settings import Settings
from .backends import (
    Backend,
    check_logits,
    choose_backend,
    cpu_backends,
    open_backend,
    torch_devices,
)

_Answer = TypeVar("_Answer")

GPU_WAIT_SECONDS = 0.002


class _Request(NamedTuple):
    """Windows of one caller, what makes an answer of their logits, and where it goes."""

    batch: Batch
    read: Callable[[Logits], Any]
    future: Future[Any]


class DeviceQueue:
    """One bundle on one device: a queue, and a thread that runs what has been queued meanwhile."""

    def __init__(
        self, bundle: Bundle, settings: Settings, *, device: str, warn: Callable[[str], None]
    ) -> None:
        self._bundle, self._settings, self._warn = bundle, settings, warn
        self._device = device
        self._spare = _spare_backends(settings)
        self.backend = self._open_first()
        self.queued = 0
        self._requests: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._closing = False
        wait = settings.batch_wait_seconds
        if wait is None:
            wait = 0.0 if self.backend.device == "cpu" else GPU_WAIT_SECONDS
        self._wait_seconds = wait
        self._thread = threading.Thread(
            target=self._work, name=f"deepfake-{bundle.name}-{device}", daemon=True
        )
        self._thread.start()

    def submit(self, batch: Batch, read: Callable[[Logits], _Answer]) -> Future[_Answer]:
        """Queue a request; waits while the queue is full. Raises ``BackendError`` once closed."""
        future: Future[_Answer] = Future()
        most = self._settings.max_queued
        with self._changed:
            self._changed.wait_for(
                lambda: self._closing or not self.queued or self.queued + len(batch) <= most
            )
            if self._closing:  # nobody would answer
                raise BackendError("engine: already closed", hint="make a new Detector")
            self._requests.append(_Request(batch, read, future))
            self.queued += len(batch)
            self._changed.notify_all()
        return future

    def close(self) -> None:
        """Answer what is queued, then let go of the backend. A second time does nothing."""
        with self._changed:
            again, self._closing = self._closing, True
            self._changed.notify_all()
        self._thread.join()
        if not again:
            self.backend.close()

    def _work(self) -> None:
        while requests := self._gather():
            self._run(requests)

    def _gather(self) -> list[_Request]:
        """The oldest request and those of its shape that came meanwhile or come within the wait,
        up to ``max_batch`` windows; nothing once the queue is closed and empty.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._requests or self._closing)
            if not self._requests:
                return []
            until = time.monotonic() + self._wait_seconds
            while self.queued < self._settings.max_batch and not self._closing:
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            first = self._requests[0]
            chosen: list[_Request] = []
            kept: deque[_Request] = deque()
            windows = 0
            for request in self._requests:
                same = request.batch.shape[1:] == first.batch.shape[1:]
                fits = not chosen or windows + len(request.batch) <= self._settings.max_batch
                if same and fits:
                    chosen.append(request)
                    windows += len(request.batch)
                else:
                    kept.append(request)
            self._requests = kept
            return chosen

    def _run(self, requests: list[_Request]) -> None:
        """Answer requests whose windows have the same shape."""
        batch = (
            requests[0].batch
            if len(requests) == 1
            else np.concatenate([request.batch for request in requests])
        )
        try:
            logits, start, answers = self._logits(batch), 0, []
            for request in requests:
                answers.append(request.read(logits[start : start + len(request.batch)]))
                start += len(request.batch)
        except Exception as error:  # noqa: BLE001 - handed to the callers that wait, whatever it is
            self._release(len(batch))
            for request in requests:
                request.future.set_exception(error)
            return
        self._release(len(batch))
        for request, answer in zip(requests, answers, strict=True):
            request.future.set_result(answer)

    def _release(self, windows: int) -> None:
        with self._changed:
            self.queued -= windows
            self._changed.notify_all()

    def _logits(self, batch: Batch) -> Logits:
        """The logits of a batch (windows, …), by the next backend where the present one fails."""
        try:
            return self._run_parts(self.backend, batch)
        except BackendError as error:
            for name in self._spare:
                with suppress(DeepfakeError):
                    backend = self._open_spare(name)
                    try:
                        logits = self._run_parts(backend, batch)
                    except BackendError:
                        backend.close()
                        raise
                    self._replace(backend, error)
                    return logits
            raise

    def _run_parts(self, backend: Backend, batch: Batch) -> Logits:
        most = self._settings.max_batch
        parts = [
            check_logits(self._bundle, backend.run(part), windows=len(part))
            for part in (batch[start : start + most] for start in range(0, len(batch), most))
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _open_first(self) -> Backend:
        name = choose_backend(self._settings)
        try:
            return open_backend(
                self._bundle, settings=self._settings, name=name, device=self._device
            )
        except BackendError as error:
            for spare in self._spare:
                with suppress(DeepfakeError):
                    backend = self._open_spare(spare)
                    self._tell(backend, error)
                    return backend
            raise

    def _open_spare(self, name: str) -> Backend:
        return open_backend(self._bundle, settings=self._settings, name=name, device="cpu")

    def _replace(self, backend: Backend, error: BackendError) -> None:
        """Go on with a backend that works; those that were passed over are not tried again."""
        old, self.backend = self.backend, backend
        self._spare = self._spare[self._spare.index(backend.name) + 1 :]
        with suppress(Exception):  # it has failed already
            old.close()
        self._tell(backend, error)

    def _tell(self, backend: Backend, error: BackendError) -> None:
        why = str(error).split(": ", 1)[-1].split("; ", 1)[0]
        self._warn(
            f"{self._bundle.name} runs on {backend.name} ({backend.device}), because its first "
            f"runtime failed: {why}."
        )


def _spare_backends(settings: Settings) -> tuple[str, ...]:
    """What to try, in this order, when the chosen backend fails; nothing where one was named."""
    if settings.backend != "auto" or settings.wants_cuda:
        return ()
    chosen = choose_backend(settings)
    on_cuda = chosen == "torch" and torch_devices(settings) != ("cpu",)
    return tuple(name for name in cpu_backends(settings) if name != chosen or on_cuda)
