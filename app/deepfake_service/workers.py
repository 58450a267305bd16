"""Threads of this process that examine jobs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from deepfake.errors import (
    Cancelled,
    DeepfakeError,
    MediaError,
    ServiceError,
    SettingsError,
    TimeLimit,
)
from deepfake.faults import contain_faults, internal_error
from deepfake.reasons import Code
from deepfake.settings import DetectOptions
from deepfake.types import Report

from .auditing import RequestAudit
from .examination import Examiner
from .media import JobMedia
from .problems import problem_of
from .store.jobs import Jobs, Place
from .store.tables import ENDED, Job, State
from .watch import Watch

LOG = logging.getLogger("deepfake_service")
POLL_SECONDS = 0.5
AGAIN_SECONDS = 1.0
STOP_SECONDS = 10.0
BEATS = 10
"""How often a lease is renewed before it would end."""
T = TypeVar("T")


class Running(NamedTuple):
    """A job in work: its attempt, how far it is, and the event that stops it."""

    attempt: int
    cancel: threading.Event
    place: list[tuple[float, str]]


class Workers:
    """Take jobs and end them, whatever the file does; use it as a context manager.

    What the database does not take is offered again until it does, so that no report is lost while
    the process lives; what it has not taken then is examined again by the next one. Jobs whose
    workers, on any machine, were silent for ``lease_seconds`` are put in line again. ``reported``
    is called with the tenant, id, report and file of each that was stored.
    """

    def __init__(
        self,
        jobs: Jobs,
        examiner: Examiner,
        media: JobMedia,
        watch: Watch,
        *,
        threads: int,
        lease_seconds: float,
        audit: RequestAudit,
        reported: Callable[[int, str, Report, Path], None] = lambda *what: None,
    ) -> None:
        self._jobs, self._examiner, self._media, self._watch = jobs, examiner, media, watch
        self._audit, self._reported = audit, reported
        self._beat_seconds = lease_seconds / BEATS
        self._stop, self._wake = threading.Event(), threading.Event()
        self._running: dict[str, Running] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            for number in range(threads)
        ]
        self._threads.append(threading.Thread(target=self._beat, name="heart", daemon=True))
        jobs.added = self._wake.set

    def progress(self, job: Job) -> tuple[float, str]:
        """The share of a job that is done, and what is being done, here or elsewhere."""
        running = self._running.get(job.id)
        return running.place[0] if running is not None else (job.progress or 0.0, job.step or "")

    def works_on(self, id: str) -> bool:
        """Whether a job is in work here; one that has ended is until its file is gone."""
        return id in self._running

    def stop_job(self, job: Job) -> None:
        """Stop the examination of a job that was cancelled, and delete its file; a worker elsewhere
        is told when it renews its lease.
        """
        running = self._running.get(job.id)
        if running is not None:
            running.cancel.set()
        self._media.drop(job.media)

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

    def _beat(self) -> None:
        """Renew the leases of what is in work here, and see to those that others let end."""
        while not self._stop.wait(self._beat_seconds):
            running = dict(self._running)
            places = {id: Place(it.attempt, *it.place[0]) for id, it in running.items()}
            try:
                for id in self._jobs.renew(places) if places else ():
                    running[id].cancel.set()
                self._jobs.recover(silent=True)
            except ServiceError:
                continue  # the database is away
            except Exception as fault:  # noqa: BLE001 (a bug must not end the heart)
                internal_error("jobs", fault)

    def _examine(self, job: Job) -> None:
        running = Running(job.attempt, threading.Event(), [(0.0, "opening")])
        self._running[job.id] = running
        if self._stop.is_set():
            running.cancel.set()

        def tell(share: float, text: str) -> None:
            running.place[0] = share, text

        try:
            state = self._end(job, tell, running.cancel)
            if state in ENDED and state != State.DEAD:
                self._media.drop(job.media)
        finally:
            del self._running[job.id]

    def _end(self, job: Job, tell: Callable[[float, str], None], cancel: threading.Event) -> State:
        """Examine a job and note how it ended; the state that it has then."""
        try:
            with self._media.opened(job.media) as path, contain_faults(job.name):
                options = DetectOptions(**job.options)  # which another release may have written
                known = self._persist(lambda: self._examiner.known_of(job.tenant))
                report = self._examiner.examine(
                    path, options, name=job.name, known=known, progress=tell, cancel=cancel
                )
                self._persist(lambda: self._audit.note_job(job, report))
                stored = self._persist(lambda: self._jobs.finish(job, report))
                if stored is None:
                    return self._state_of(job)
                self._watch.note(report, tenant=job.tenant, key=job.key)
                self._reported(job.tenant, stored, report, path)
        except DeepfakeError as error:
            if isinstance(error, Cancelled) and not isinstance(error, TimeLimit):
                if self._stop.is_set():
                    self._jobs.give_back(job)
                    return State.QUEUED
                return self._state_of(job)
            fault = error
            self._persist(lambda: self._audit.note_job(job, fault))
            again = not isinstance(error, MediaError | TimeLimit | SettingsError)
            problem = problem_of(error, request_id=job.id)
            words = {"code": problem.code, "detail": problem.detail, "remedy": problem.remedy}
            state = self._persist(lambda: self._jobs.fail(job, words, again=again))
            return state or self._state_of(job)
        return State.DONE

    def _state_of(self, job: Job) -> State:
        """The state of a job that somebody else has ended or taken over meanwhile; one that was
        erased counts as cancelled.
        """
        try:
            return State(self._persist(lambda: self._jobs.find(job.tenant, job.id)).state)
        except ServiceError as error:
            if error.code != Code.NOTHING_HERE:
                raise
            return State.CANCELLED

    def _persist(self, change: Callable[[], T]) -> T:
        """Make a change, again and again while the database is away."""
        while True:
            try:
                return change()
            except ServiceError as error:
                if error.code != Code.DATABASE or self._stop.wait(AGAIN_SECONDS):
                    raise
