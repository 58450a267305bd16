"""Threads of this process that examine jobs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from deepfake_app.storage import Uploads

from deepfake.errors import (
    Cancelled,
    DeepfakeError,
    MediaError,
    ServiceError,
    SettingsError,
    TimeLimit,
)
from deepfake.faults import contain_faults, internal_error
from deepfake.settings import DetectOptions

from .examination import Examiner
from .problems import problem_of
from .store.jobs import Jobs
from .store.tables import Job, State

LOG = logging.getLogger("deepfake_service")
POLL_SECONDS = 0.5
AGAIN_SECONDS = 1.0
STOP_SECONDS = 10.0
T = TypeVar("T")


class Running(NamedTuple):
    """A job in work: how far it is, and the event that stops it."""

    cancel: threading.Event
    place: list[tuple[float, str]]


class Workers:
    """Take jobs and end them, whatever the file does; use it as a context manager.

    What the database does not take is offered again until it does, so that no report is lost while
    the process lives; what it has not taken then is examined again by the next one. ``reported`` is
    called with the id of each report and its file, which is there no longer afterwards.
    """

    def __init__(
        self,
        jobs: Jobs,
        examiner: Examiner,
        uploads: Uploads,
        *,
        threads: int,
        reported: Callable[[str, Path], None],
    ) -> None:
        self._jobs, self._examiner, self._uploads = jobs, examiner, uploads
        self._reported = reported
        self._stop, self._wake = threading.Event(), threading.Event()
        self._running: dict[str, Running] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            for number in range(threads)
        ]
        jobs.added = self._wake.set

    def progress(self, job: str) -> tuple[float, str]:
        """The share of a job that is done, and what is being done."""
        running = self._running.get(job)
        return running.place[0] if running is not None else (0.0, "")

    def stop_job(self, job: str) -> bool:
        """Stop the examination of a job that was cancelled; whether it was in work here."""
        running = self._running.get(job)
        if running is not None:
            running.cancel.set()
        return running is not None

    def path_of(self, job: Job) -> Path:
        return self._uploads.folder / job.media

    def __enter__(self) -> Workers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._wake.set()
        for running in [*self._running.values()]:
            running.cancel.set()
        for thread in self._threads:
            thread.join(STOP_SECONDS)

    def _work(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                job = self._jobs.take()
                if job is not None:
                    self._examine(job)
            except ServiceError:
                self._stop.wait(AGAIN_SECONDS)  # the database is away
            except Exception as fault:  # noqa: BLE001 (a bug must not end the worker)
                internal_error("job", fault)
                self._stop.wait(AGAIN_SECONDS)
            else:
                if job is None:
                    self._wake.wait(POLL_SECONDS)

    def _examine(self, job: Job) -> None:
        running = self._running[job.id] = Running(threading.Event(), [(0.0, "opening")])
        path = self.path_of(job)
        if self._stop.is_set():
            running.cancel.set()

        def tell(share: float, text: str) -> None:
            running.place[0] = share, text

        try:
            state = self._end(job, path, tell, running.cancel)
        finally:
            del self._running[job.id]
        if state not in (State.QUEUED, State.DEAD):
            self._uploads.drop([str(path)])

    def _end(
        self,
        job: Job,
        path: Path,
        tell: Callable[[float, str], None],
        cancel: threading.Event,
    ) -> State | None:
        """Examine a job and note how it ended; the state that it has then."""
        try:
            with contain_faults(job.name):
                options = DetectOptions(**job.options)  # which another release may have written
            report = self._examiner.examine(
                path, options, name=job.name, progress=tell, cancel=cancel
            )
        except DeepfakeError as error:
            if isinstance(error, Cancelled) and not isinstance(error, TimeLimit):
                if self._stop.is_set():
                    self._jobs.give_back(job)
                    return State.QUEUED
                return State.CANCELLED
            again = not isinstance(error, MediaError | TimeLimit | SettingsError)
            problem = problem_of(error, request_id=job.id)
            words = {"code": problem.code, "detail": problem.detail, "remedy": problem.remedy}
            return self._persist(lambda: self._jobs.fail(job, words, again=again))
        stored = self._persist(lambda: self._jobs.finish(job, report))
        if stored is None:
            return State.CANCELLED  # while it was in work
        self._reported(stored, path)
        return State.DONE

    def _persist(self, change: Callable[[], T]) -> T:
        """Make a change, again and again while the database is away."""
        while True:
            try:
                return change()
            except ServiceError:
                if self._stop.wait(AGAIN_SECONDS):
                    raise
