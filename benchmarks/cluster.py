"""How fast a scan is in processes of this machine, in a pool of Ray actors and with Ray Data.

    python -m benchmarks.cluster --files 200 --workers 2

One run over the same generated photographs, each way in turn; all make the same worker, and the
lines of all must be equal. Ray Data needs pyarrow. The last line is what the machine that scans can
take in: actors that repeat the line of their first file without any work.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console

from deepfake.scan.cluster import RayExecutor, local_cluster
from deepfake.scan.executors import Executor, Line, LocalExecutor, Task, Worker, WorkerSetup
from deepfake.settings import DetectOptions, Settings
from deepfake.show.console import print_table

IDLE_LINES = 5000
Answers = Iterator[tuple[str, Line]]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--files", type=int, default=200, help="photographs to examine (200)")
    parser.add_argument("--size", default="1632x1224", help="of each, in pixels (1632x1224)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="(all cores)")
    options = parser.parse_args(arguments)
    setup = WorkerSetup(Settings(precision="auto"), DetectOptions())
    width, height = (int(number) for number in options.size.split("x"))
    rows, expected = [], None
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photographs(
            Path(folder), count=options.files, width=width, height=height, first_seed=0
        )
        with local_cluster(options.workers):
            for name, answers in (
                ("local processes", run(LocalExecutor(setup, options.workers), paths)),
                ("Ray actor pool", run(RayExecutor(setup, workers=options.workers), paths)),
                ("Ray Data", run_ray_data(setup, paths, workers=options.workers)),
            ):
                first, last, lines = time_answers(answers)
                expected = expected or lines
                rate = (len(lines) - 1) / (last - first)
                same = "yes" if lines == expected else "no"
                rows.append([name, f"{first:.1f}", f"{last:.1f}", f"{rate:.2f}", same])
            idle = RayExecutor(setup, workers=options.workers, worker=_Parrot)
            first, last, _ = time_answers(run(idle, [paths[0]] * IDLE_LINES))
    console = Console(markup=False, highlight=False)
    console.print(f"{options.files} JPEG files of {options.size}, {options.workers} workers")
    columns = ["executor", "first line, s", "last line, s", "files a second between", "same lines"]
    print_table(columns, rows, console)
    console.print(
        f"without work in the actors: {(IDLE_LINES - 1) / (last - first):.0f} lines a second"
    )
    return 0


def write_photographs(
    folder: Path, *, count: int, width: int, height: int, first_seed: int
) -> list[str]:
    """Paths of new JPEG files of blurred shapes and noise, no two of them equal."""
    paths = []
    for seed in range(first_seed, first_seed + count):
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (height // 48 + 1, width // 48 + 1, 3), np.uint8)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        grain = rng.normal(0, 4, (height, width, 1))
        pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        path = folder / f"{seed}.jpg"
        cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
        paths.append(str(path))
    return paths


def run(executor: Executor, paths: list[str]) -> Answers:
    """Examine with an executor, and close it."""
    try:
        for task, line in executor.run(Task(path) for path in paths):
            yield task.path, line
    finally:
        executor.close()


def run_ray_data(setup: WorkerSetup, paths: list[str], *, workers: int) -> Answers:
    """The same with ``map_batches`` over a pool of Ray Data's own actors."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=len(paths))
    answered = rows.map_batches(
        _Examine,
        fn_constructor_args=(setup,),
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
    )
    for row in answered.iter_rows():
        yield row["path"], json.loads(row["line"])


class _Parrot(Worker):
    _line: Line | None = None

    def examine(self, task: Task) -> Line:
        self._line = self._line or super().examine(task)
        return self._line


class _Examine:
    def __init__(self, setup: WorkerSetup) -> None:
        self.worker = Worker(setup)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        lines = [json.dumps(self.worker.examine(Task(str(path)))) for path in batch["path"]]
        return {"path": batch["path"], "line": lines}


def time_answers(answers: Answers) -> tuple[float, float, dict[str, Line]]:
    """Seconds to the first line and to the last, and all lines less their times."""
    started, lines, first, last = time.perf_counter(), {}, 0.0, 0.0
    for path, line in answers:
        last = time.perf_counter() - started
        first = first or last
        lines[path] = {key: value for key, value in line.items() if not key.startswith("seconds")}
    return first, last, lines


if __name__ == "__main__":
    sys.exit(main())
