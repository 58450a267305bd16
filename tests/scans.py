"""Scans without processes of their own, for tests of everything but the executors."""

from __future__ import annotations

import contextlib
import ctypes
import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import hypothesis

from deepfake.scan.executors import Line, Task, Worker, WorkerSetup, error_line
from deepfake.scan.journal import Journal
from deepfake.scan.scan import Selection, Summary, scan
from deepfake.settings import DetectOptions, Settings
from tests.reports import make_report

PROPERTY = hypothesis.settings(
    deadline=None, derandomize=True, database=None, max_examples=150, print_blob=False
)
FAST = DetectOptions(stability=False)
_CAPABILITIES = (0x20080522, 0)  # version 3, of this thread
_READ_ANYTHING = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


class Inline:
    """An executor that examines here, and keeps what its worker answered."""

    answers: list[tuple[Task, Line]]

    def __init__(self, setup: WorkerSetup, workers: int) -> None:
        self._worker = Worker(setup)
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


def open_journal(path: Path) -> Journal:
    return Journal(path, versions={"deepfake": "0"}, setup=WorkerSetup(Settings(), DetectOptions()))


def append_lines(journal: Journal, names: list[str]) -> None:
    """Reports of files with these names; of every third one an error."""
    for number, name in enumerate(names):
        sha256 = f"{number:064x}"
        line: Line = make_report(sha256=sha256).to_dict() | {"path": name}
        if number % 3 == 2:
            line = error_line(name, "corrupt", f"file {name!r}: is broken; get it again")
        journal.append(line, key=f"{name}|{number}|1")


BAD_INTERVALS = [
    *(None, [], [0.5], [0.1, 0.2, 0.3], ["0.1", "0.2"], [float("nan"), 0.5], [0.1, None]),
    *([0.9, 0.1], [-0.1, 0.5], [0.5, 1e999], [0.1, 10**400], [True, False], "ab", 0.5, {"a": 1}),
]


def damaged_results(folder: Path, **values: Any) -> Path:
    """A results file of the files a, b and c, of which b has these values and c failed."""
    output = folder / "r.jsonl"
    with open_journal(output) as journal:
        append_lines(journal, ["a", "b", "c"])
    first, second, third = read_lines(output)
    lines = [json.dumps(line) + "\n" for line in (first, second | values, third)]
    output.write_text("".join(lines))
    return output


@contextlib.contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Where the tests are run by root: files may be read only as their permissions say.

    Threads that are started inside are bound too, processes are not.
    """
    library = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(*_CAPABILITIES), (ctypes.c_uint32 * 6)()
    assert library.capget(header, sets) == 0
    before = sets[0]
    sets[0] &= ~_READ_ANYTHING
    assert library.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        assert library.capset(header, sets) == 0
