"""Files from their place on disk to a report, a few at a time."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deepfake.detector import Detector
from deepfake.errors import DeepfakeError, ServiceError
from deepfake.faults import contain_faults
from deepfake.known.index import Known
from deepfake.progress import Progress, deadline_after
from deepfake.reasons import Code
from deepfake.settings import DetectOptions
from deepfake.types import Report

from .metrics import Metrics
from .monitoring.tracing import Tracing

LOOK_SECONDS = 1.0
"""How often it is looked whether a client is still there."""


class Examiner:
    """Examines files with ``detector``, each within ``file_seconds``.

    Of the requests that wait for their report, ``threads`` are examined at once and ``waiting`` may
    wait. ``examined`` is told of each report while its file is still there. Use it as a context
    manager.
    """

    def __init__(
        self,
        detector: Detector,
        metrics: Metrics,
        known_of: Callable[[int], Known],
        *,
        threads: int,
        waiting: int,
        file_seconds: float,
        tracing: Tracing,
    ) -> None:
        self._tracing = tracing
        self._detector, self._metrics, self._file_seconds = detector, metrics, file_seconds
        self.known_of = known_of
        self._most, self._present = threads + waiting, 0
        self._running: set[threading.Event] = set()
        self.examined: Callable[[Path, DetectOptions, Report], None] = lambda *told: None
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="examination")

    def examine(
        self,
        path: Path,
        options: DetectOptions,
        *,
        name: str,
        known: Known,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Report:
        """The report on a file, in this thread, with what was ruled on ``known`` files like it.

        Raises ``DeepfakeError``.
        """
        try:
            with contain_faults(name):
                report = self._detector.detect(
                    path,
                    options,
                    name=name,
                    progress=progress,
                    cancel=cancel,
                    deadline=deadline_after(self._file_seconds),
                    known=known,
                )
        except DeepfakeError as error:
            self._metrics.note_failure(str(error.code))
            raise
        self._metrics.note_report(report)
        self.examined(path, options, report)
        self._tracing.note_report(report)
        return report

    @property
    def present(self) -> int:
        """Requests whose file is examined now or waits for that."""
        return self._present

    async def report(
        self,
        path: Path,
        options: DetectOptions,
        *,
        name: str,
        tenant: int,
        gone: Callable[[], Awaitable[bool]],
    ) -> Report:
        """The report on a file; its examination is stopped when its client is ``gone``.

        Raises ``ServiceError`` (``busy``, 503) when too many wait already, and ``DeepfakeError``.
        """
        if self._present >= self._most:
            raise ServiceError(
                "service: as many requests wait as may",
                code=Code.BUSY,
                hint="try again a little later",
                status=503,
                retry_seconds=2,
            )
        cancel = threading.Event()
        self._present += 1
        self._running.add(cancel)
        try:
            here = contextvars.copy_context()  # the ids of the request, for the log and traces
            work = asyncio.get_running_loop().run_in_executor(
                self._pool,
                lambda: here.run(
                    lambda: self.examine(
                        path, options, name=name, known=self.known_of(tenant), cancel=cancel
                    )
                ),
            )
            while not (await asyncio.wait({work}, timeout=LOOK_SECONDS))[0]:
                if await gone():
                    cancel.set()
            return work.result()
        finally:
            cancel.set()
            self._present -= 1
            self._running.discard(cancel)

    def stop(self) -> None:
        """Stop what clients wait for."""
        for cancel in [*self._running]:
            cancel.set()

    def __enter__(self) -> Examiner:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._pool.shutdown(cancel_futures=True)
