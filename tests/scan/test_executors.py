"""Workers that die, and what becomes of what they had in work."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deepfake.errors import DeepfakeError
from deepfake.scan import executors
from deepfake.scan.executors import (
    LocalExecutor,
    Task,
    ThreadExecutor,
    Worker,
    WorkerSetup,
    choose_local,
)
from deepfake.settings import Settings
from tests.media_files import image_bytes, scene
from tests.scans import FAST


@dataclass(frozen=True)
class Deadly(Task):
    """A task whose worker ends with the status 9 as it takes it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return end_process, (9,)


def end_process(status: int) -> None:
    os._exit(status)


class DeadlySettings(Settings):
    """Settings with which no worker starts."""

    def __reduce__(self) -> tuple[Any, ...]:
        return end_process, (7,)


@pytest.fixture
def setup(known_models: Path) -> WorkerSetup:
    return WorkerSetup(Settings(models_folder=known_models), FAST)


@pytest.fixture
def tasks(tmp_path: Path) -> list[Task]:
    content = image_bytes(scene(), "jpeg")
    for number in range(12):
        (tmp_path / f"{number:02}.jpg").write_bytes(content + b"%d" % number)
    return [Task(str(path)) for path in sorted(tmp_path.iterdir())]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_loses_nothing(setup: WorkerSetup, tasks: list[Task], workers: int) -> None:
    executor, answers = LocalExecutor(setup, workers), []
    for task, line in executor.run(iter(tasks)):
        answers.append((task, line))
        if len(answers) in (3, 6):
            victim = multiprocessing.active_children()[0]
            assert victim.pid
            os.kill(victim.pid, signal.SIGKILL)
    executor.close()
    assert sorted(task.path for task, _ in answers) == [task.path for task in tasks]
    assert [line for _, line in answers if "error" in line] == []
    assert not multiprocessing.active_children()


def test_a_file_that_ends_its_worker_each_time_is_told(
    setup: WorkerSetup, tasks: list[Task]
) -> None:
    executor = LocalExecutor(setup, 2)
    deadly = [*tasks[:3], Deadly("deadly"), *tasks[3:6]]
    lines = {task.path: line for task, line in executor.run(iter(deadly))}
    again = dict(executor.run(iter(tasks[6:7])))
    executor.close()
    assert lines.pop("deadly")["error"]["code"] == "worker_died"
    assert sorted(lines) == [task.path for task in tasks[:6]]
    assert not [line for line in [*lines.values(), *again.values()] if "error" in line]


def test_workers_that_cannot_start_end_the_scan(known_models: Path) -> None:
    executor = LocalExecutor(WorkerSetup(DeadlySettings(models_folder=known_models), FAST), 2)
    with pytest.raises(DeepfakeError, match="before it was ready"):
        list(executor.run(iter([Task("a"), Task("b")])))
    executor.close()


def test_tasks_are_taken_as_there_are_hands(setup: WorkerSetup, tasks: list[Task]) -> None:
    taken: list[str] = []

    def watched() -> Iterator[Task]:
        for task in tasks:
            taken.append(task.path)
            yield task

    executor = LocalExecutor(setup, 2)
    for answered, _ in enumerate(executor.run(watched()), 1):
        assert len(taken) <= answered + 2
    executor.close()


def test_threads_around_one_engine_answer_as_processes_do(
    setup: WorkerSetup, tasks: list[Task]
) -> None:
    lines = []
    for executor in (ThreadExecutor(setup, 3), LocalExecutor(setup, 2)):
        found = dict(executor.run(iter(tasks)))
        executor.close()
        lines.append({task.path: line["probability"] for task, line in found.items()})
    assert lines[0] == pytest.approx(lines[1])
    assert sorted(lines[0]) == [task.path for task in tasks]


def test_a_gpu_gets_threads_and_a_cpu_processes(
    setup: WorkerSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = choose_local(setup, 1)
    chosen.close()
    assert isinstance(chosen, LocalExecutor)
    monkeypatch.setattr(executors, "choose_backend", lambda settings: "torch")
    monkeypatch.setattr(executors, "torch_devices", lambda settings: ("cuda:0",))
    chosen = choose_local(setup, 1)
    chosen.close()
    assert isinstance(chosen, ThreadExecutor)


def test_closing_gives_up_what_is_in_work(setup: WorkerSetup, tasks: list[Task]) -> None:
    executor = LocalExecutor(setup, 2)
    running = executor.run(iter(tasks))
    next(running)
    began = time.monotonic()
    executor.close()
    assert time.monotonic() - began < 10
    assert not multiprocessing.active_children()


def test_a_worker_tells_known_content_and_its_own_faults(
    setup: WorkerSetup,
    tasks: list[Task],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = Worker(setup)
    assert worker.detector.settings.threads == 1
    line = worker.examine(tasks[0])
    known = worker.examine(Task(tasks[0].path, known=("0" * 64, line["sha256"])))
    assert known == {"path": tasks[0].path, "duplicate": line["sha256"]}
    assert "verdict" in worker.examine(Task(tasks[1].path, known=(line["sha256"],)))

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("\x1b[2J")

    monkeypatch.setattr(worker.detector, "detect", fail)
    error = worker.examine(tasks[0])["error"]
    assert error["code"] == "internal"
    assert "ZeroDivisionError" in error["message"]
    assert "\x1b" not in error["message"]
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("deepfake", "ERROR")
    assert tasks[0].path in record.getMessage()
    assert "in fail" in record.getMessage(), "the traceback"
    assert "\x1b" not in record.getMessage()
    worker.close()
