"""Where the files of a scan are examined: the one worker, and executors that hold some of it.

The executor of processes is written by hand because that of ``concurrent.futures`` gives up all
that is in work when one process dies, and cannot tell whose file it was.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_any
from dataclasses import dataclass, replace
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import PurePath
from typing import Any, Protocol

from ..detector import Detector
from ..engine.backends import choose_backend, torch_devices
from ..errors import DeepfakeError, MediaError, TimeLimit, UnsupportedMedia
from ..faults import contain_faults
from ..media.sources import closing_on_error
from ..progress import Watch, deadline_after
from ..reasons import Code
from ..settings import DetectOptions, Settings
from ..text import display_name
from ..trust.registry import digest_bundles
from .locations import open_location

MEDIA_SUFFIXES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".gif"),
        *(".tif", ".tiff", ".bmp", ".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a"),
        *(".aac", ".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi"),
    ]
)
"""Names that promise media: with another one, a file that is no media is no failure."""
MOST_FAILED_STARTS = 3
EXIT_SECONDS = 10.0

Line = dict[str, Any]
"""What is known of one file, as JSON values: a report, ``{"path", "error": {"code", "message"}}``,
or ``{"path", "duplicate": sha256}`` for a file whose sha256 was among ``Task.known``."""


@dataclass(frozen=True)
class Task:
    """One file to examine: a local path or a URL, never its bytes.

    ``known`` holds the sha256 of examined files that this one may equal.
    """

    path: str
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker is made from. ``file_seconds`` is the most that one file may take, ``models``
    the digest of the bundles that it has to find; empty for any.
    """

    settings: Settings
    options: DetectOptions
    file_seconds: float | None = None
    models: str = ""


class Executor(Protocol):
    """Examines tasks somewhere.

    ``run`` takes a task only when a worker is free for it, and yields each task that it took with
    its line, exactly once, in any order and whatever dies meanwhile; it ends when ``tasks`` has
    ended and all that was taken is answered. It may be called again, with the same workers. After
    ``close`` nothing is left running; what is still in work then is given up.
    """

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Line]]: ...

    def close(self) -> None: ...


class Worker:
    """The one thing that examines, in every executor.

    A runtime gets one thread unless the settings say otherwise, so that what a file gets does not
    depend on the number of workers. One that was started after other models were activated examines
    nothing (``models_changed``), so that no scan mixes them.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self.setup = setup
        self.detector = Detector(replace(setup.settings, threads=setup.settings.threads or 1))
        found = digest_bundles(self.detector.engine.active)
        self._outdated = setup.models not in ("", found)

    def examine(self, task: Task) -> Line:
        """The line of one file. Never raises: what the file gave is part of the line."""
        if self._outdated:
            return error_line(task.path, Code.MODELS_CHANGED, Code.MODELS_CHANGED.meaning)
        try:
            with contain_faults(task.path):
                return self._examine(task)
        except TimeLimit:
            message = (
                f"file {display_name(task.path)}: not done within {self.setup.file_seconds:g} "
                "seconds; raise --file-seconds, or examine it with deepfake detect"
            )
            return error_line(task.path, TimeLimit.code, message)
        except DeepfakeError as error:
            code = error.code
            suffix = PurePath(task.path).suffix.lower()
            if isinstance(error, UnsupportedMedia) and suffix not in MEDIA_SUFFIXES:
                code = Code.NOT_MEDIA
            return error_line(task.path, code, str(error))

    def _examine(self, task: Task) -> Line:
        watch = Watch(deadline=deadline_after(self.setup.file_seconds))
        file = open_location(task.path, limits=self.detector.settings.limits, watch=watch)
        if file.sha256 in task.known:
            os.close(file.descriptor)
            return {"path": task.path, "duplicate": file.sha256}
        with closing_on_error(file.descriptor):
            watch.check()
        return self.detector.detect(
            file, self.setup.options, name=task.path, deadline=watch.deadline, alike=True
        ).to_dict()

    def close(self) -> None:
        """Release the models."""
        self.detector.close()


def error_line(path: str, code: Code, message: str) -> Line:
    """The line of a file that could not be examined."""
    return {"path": path, "error": {"code": str(code), "message": message}}


def worker_died(path: str) -> Line:
    """The line of a file whose worker died each time that it was examined."""
    error = MediaError(
        f"file {display_name(path)}: the worker that examined it died, alone too",
        hint="try it with deepfake detect, with more memory",
    )
    return error_line(path, Code.WORKER_DIED, str(error))


class LocalExecutor:
    """Up to ``workers`` processes of this machine, 0 for one per core that may be used.

    Each is started when there is work for it. The file of a worker that died is examined again,
    alone, once all others are done.
    """

    def __init__(self, setup: WorkerSetup, workers: int) -> None:
        self._setup, self._most = setup, workers or len(os.sched_getaffinity(0))
        self._processes: list[_Process] = []
        self._failed_starts = 0

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Line]]:
        suspects = yield from self._run(tasks, self._most)
        for task in suspects:
            if (yield from self._run(iter([task]), 1)):
                yield task, worker_died(task.path)

    def _run(
        self, tasks: Iterator[Task], most: int
    ) -> Generator[tuple[Task, Line], None, list[Task]]:
        """Examine with ``most`` processes at once; returns the tasks that ended one."""
        suspects: list[Task] = []
        again: deque[Task] = deque()
        more = True
        while True:
            while len(self._busy()) < most:
                task = again.popleft() if again else next(tasks, None) if more else None
                if task is None:
                    more = False
                    break
                self._idle().give(task)
            busy = self._busy()
            if not busy:
                return suspects
            wait([process.connection for process in busy])
            for process in busy:
                if not process.connection.poll():
                    continue
                try:
                    line = process.receive()
                except EOFError:
                    (suspects if process.ready else again).append(self._bury(process))
                    continue
                if line is None:
                    self._failed_starts = 0
                else:
                    task, process.task = process.task, None
                    assert task is not None
                    yield task, line

    def _bury(self, process: _Process) -> Task:
        """Let go of a dead process and return what it had in work."""
        self._processes.remove(process)
        status = process.end(seconds=EXIT_SECONDS)
        self._failed_starts += not process.ready
        if self._failed_starts == MOST_FAILED_STARTS:
            raise DeepfakeError(
                f"worker process: ended {MOST_FAILED_STARTS} times before it was ready "
                f"(exit status {status})",
                code=Code.WORKER,
                hint="check the installation with: deepfake doctor, and the free memory",
            )
        assert process.task is not None
        return process.task

    def close(self) -> None:
        """End every process; one that is still at work, at once."""
        idle = [process for process in self._processes if process.task is None]
        for process in self._processes:
            process.ask_to_end()
        for process in self._processes:
            process.end(seconds=EXIT_SECONDS if process in idle else 0)
        self._processes.clear()

    def _busy(self) -> list[_Process]:
        return [process for process in self._processes if process.task is not None]

    def _idle(self) -> _Process:
        for process in self._processes:
            if process.task is None:
                return process
        self._processes.append(_Process(self._setup))
        return self._processes[-1]


class ThreadExecutor:
    """Threads that share one worker, for a GPU: they decode, and its engine runs their windows in
    common batches. ``workers`` 0 is two for each core.
    """

    def __init__(self, setup: WorkerSetup, workers: int) -> None:
        self._worker = Worker(setup)
        self._most = workers or 2 * len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self._most, thread_name_prefix="deepfake-scan")

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Line]]:
        running: dict[Future[Line], Task] = {}
        while True:
            while len(running) < self._most and (task := next(tasks, None)) is not None:
                running[self._pool.submit(self._worker.examine, task)] = task
            if not running:
                return
            for future in wait_for_any(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()

    def close(self) -> None:
        """Finish the files in work, then release the models."""
        self._pool.shutdown(cancel_futures=True)
        self._worker.close()


def choose_local(setup: WorkerSetup, workers: int) -> Executor:
    """Processes of one thread each for a CPU, threads around one engine for GPUs."""
    on_gpu = choose_backend(setup.settings) == "torch" and torch_devices(setup.settings) != ("cpu",)
    return ThreadExecutor(setup, workers) if on_gpu else LocalExecutor(setup, workers)


class _Process:
    """One worker process, which examines one task at a time."""

    def __init__(self, setup: WorkerSetup) -> None:
        self.task: Task | None = None
        self.ready = False
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, setup), daemon=True)
        # Ctrl-C is for the scan to handle: a blocked signal stays blocked in what is started now.
        resource_tracker.ensure_running()  # which would unblock it
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def give(self, task: Task) -> None:
        """Start on a task; a process that has died meanwhile is found out by :meth:`receive`."""
        self.task = task
        with contextlib.suppress(OSError):
            self.connection.send(task)

    def receive(self) -> Line | None:
        """The line of the task, or nothing when the process has just become ready.

        Raises ``EOFError`` when it is dead.
        """
        try:
            line: Line | None = self.connection.recv()
        except OSError as error:
            raise EOFError from error
        self.ready = True
        return line

    def ask_to_end(self) -> None:
        """Say that there is no more work."""
        with contextlib.suppress(OSError):
            self.connection.send(None)

    def end(self, *, seconds: float) -> int | None:
        """Wait for the end, make it one after ``seconds``, and return the exit status."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self.connection.close()
        return self._process.exitcode


def _serve(connection: Connection, setup: WorkerSetup) -> None:
    """What a worker process does: tasks in, lines out, until there are none or nobody asks."""
    worker = Worker(setup)
    with contextlib.suppress(EOFError, OSError):
        connection.send(None)
        while (task := connection.recv()) is not None:
            connection.send(worker.examine(task))
    worker.close()
