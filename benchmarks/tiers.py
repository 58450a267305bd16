"""Files a second of the three efforts, on a stream of files of yours or of drawn photographs.

    python -m benchmarks.tiers [FILES…] [--models FOLDER] [--workers 2] [--count 100]
        [--precision auto]

All evidence is examined, as ``deepfake scan`` does it. ``asked`` is the share of files of which the
full tier spoke, ``memory`` the most that a worker held.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from multiprocessing import active_children
from pathlib import Path
from typing import NamedTuple

from deepfake.scan.executors import LocalExecutor, Task, WorkerSetup
from deepfake.settings import (
    EFFORTS,
    PRECISIONS,
    DetectOptions,
    Settings,
    shipped_models_folder,
)
from deepfake.show.console import print_table
from deepfake.trust.registry import read_bundles

from .cluster import write_photographs


class Row(NamedTuple):
    """What one effort came to."""

    effort: str
    files: int
    rate: float
    asked: float
    memory_bytes: int


def main(arguments: list[str] | None = None) -> None:
    from rich.console import Console

    parser = argparse.ArgumentParser(prog="python -m benchmarks.tiers", description=__doc__)
    parser.add_argument("files", nargs="*", help="pictures; else photographs of 1632×1224 pixels")
    parser.add_argument("--models", type=Path, default=shipped_models_folder())
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--count", type=int, default=100, help="files for each effort (100)")
    parser.add_argument("--precision", choices=PRECISIONS, default=Settings.precision)
    options = parser.parse_args(arguments)
    efforts = EFFORTS if "image-large" in read_bundles(options.models) else ("quick",)
    with tempfile.TemporaryDirectory() as name:
        files = options.files or write_photographs(
            Path(name), count=20, width=1632, height=1224, first_seed=0
        )
        settings = Settings(models_folder=options.models, device="cpu", precision=options.precision)
        rows = [
            measure(effort, files, settings=settings, workers=options.workers, count=options.count)
            for effort in efforts
        ]
    head = ["effort", "files", "files/s", "asked", "memory, MB"]
    cells = [
        [
            row.effort,
            str(row.files),
            f"{row.rate:.1f}",
            f"{row.asked:.2f}",
            f"{row.memory_bytes / 1e6:.0f}",
        ]
        for row in rows
    ]
    print_table(head, cells, Console())


def measure(effort: str, files: list[str], *, settings: Settings, workers: int, count: int) -> Row:
    """Examine ``count`` of the files in turn, once every worker has run all of its networks."""
    executor = LocalExecutor(WorkerSetup(settings, DetectOptions(effort=effort)), workers)
    try:
        tasks = [Task(files[number % len(files)]) for number in range(count)]
        list(executor.run(iter(tasks[: len(files)] * 2)))
        started = time.perf_counter()
        lines = [line for _, line in executor.run(iter(tasks))]
        seconds = time.perf_counter() - started
        memory = max(read_peak(child.pid or 0) for child in active_children())
    finally:
        executor.close()
    spoke = [
        one["details"]["tier"]
        for line in lines
        for one in line.get("evidence", ())
        if one["source"] == "image" and "tier" in one["details"]
    ]
    asked = spoke.count("full") / max(1, len(spoke))
    return Row(effort, count, count / seconds, asked, memory)


def read_peak(process: int) -> int:
    """The most bytes that a process has held in memory."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    main()
