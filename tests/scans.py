"""Scans without processes of their own, for tests of everything but the executors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from deepfake.scan.executors import Job, Line, Task, Worker
from deepfake.scan.scan import Selection, Summary, scan
from deepfake.settings import DetectOptions, Settings

FAST = DetectOptions(stability=False)


class Inline:
    """An executor that examines here, and keeps what its worker answered."""

    answers: list[tuple[Task, Line]]

    def __init__(self, job: Job, workers: int) -> None:
        self._worker = Worker(job)
        Inline.answers = []

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Line]]:
        for task in tasks:
            line = self._worker.examine(task)
            Inline.answers.append((task, dict(line)))
            yield task, line

    def close(self) -> None:
        self._worker.close()


def run_scan(*sources: Path | str, output: Path, models: Path, **values: Any) -> Summary:
    """A scan with the known models; keywords of ``Selection`` go there."""
    names = [field.name for field in fields(Selection)]
    chosen = {name: values.pop(name) for name in names if name in values}
    defaults = {"options": FAST, "executor": Inline, "selection": Selection(**chosen)}
    settings = Settings(models_folder=models)
    return scan(sources, output=output, settings=settings, **(defaults | values))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def scored(lines: list[dict[str, Any]]) -> list[str]:
    """The paths of the files whose content was decoded and scored."""
    return [str(line["path"]) for line in lines if line.get("seconds_by_step")]
