"""What processes take: the memory of a command, the processor time of this one and its children."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Run(NamedTuple):
    """What a command took. ``peak_bytes`` is of all its processes, ``own_peak_bytes`` of the first.

    Memory that several processes share counts once: each has its share of it (``Pss`` of Linux).
    """

    seconds: float
    peak_bytes: int
    own_peak_bytes: int
    output: bytes


def run_watched(
    command: Sequence[str], *, codes: Sequence[int] = (0,), every_seconds: float = 0.05
) -> Run:
    """Run a command to its end and look at its memory as often as every ``every_seconds``.

    Raises ``RuntimeError`` when its exit status is none of ``codes``, with the end of what it said.
    """
    started, peak, own_peak = time.perf_counter(), 0, 0
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors)
        while True:
            own = count_bytes(process.pid)
            others = (count_bytes(number) for number in list_family(process.pid)[1:])
            peak, own_peak = max(peak, own + sum(others)), max(own_peak, own)
            try:
                process.wait(every_seconds)
            except subprocess.TimeoutExpired:
                continue
            break
        seconds = time.perf_counter() - started
        output.seek(0)
        errors.seek(0)
        if process.returncode not in codes:
            said = errors.read()[-2000:].decode(errors="replace")
            raise RuntimeError(f"{command[0]} ended with status {process.returncode}: {said}")
        return Run(seconds, peak, own_peak, output.read())


def list_family(process: int) -> list[int]:
    """A process and its descendants."""
    family = [process]
    for parent in family:
        try:
            tasks = Path(f"/proc/{parent}/task").iterdir()
            children = [Path(task, "children").read_text() for task in tasks]
        except OSError:
            continue
        family += [int(number) for text in children for number in text.split()]
    return family


def count_bytes(process: int) -> int:
    """Bytes of memory that belong to the process alone, and its share of what is shared."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def count_processor_seconds(process: int | None = None) -> float:
    """Processor time of all threads of a process, by default this one, of its descendants, and of
    those that have ended.

    In steps of a hundredth of a second on most systems (``utime`` … ``cstime`` of proc_pid_stat).
    """
    ticks = 0
    for member in list_family(os.getpid() if process is None else process):
        try:
            text = Path(f"/proc/{member}/stat").read_text()
        except OSError:
            continue
        ticks += sum(map(int, text.rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")
