"""How every measurement here is taken: in turns, with medians, after a line about the machine."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

from rich.console import Console

from deepfake.show.console import print_table

from .processes import count_processor_seconds

WARM_ROUNDS = 1
"""Times that each step is taken before it counts: files are in the disk cache then, and so on."""

_Key = TypeVar("_Key")
_Result = TypeVar("_Result")


def make_parser(name: str, text: str | None, *, repeats: int = 5) -> argparse.ArgumentParser:
    """A parser whose ``--help`` shows the module's docstring, with ``--repeats``."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=text)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--repeats", type=int, default=repeats, help=f"times each step is taken ({repeats})"
    )
    return parser


def take_turns(
    steps: Mapping[_Key, Callable[[], _Result]], *, repeats: int, warm: bool = True
) -> dict[_Key, list[_Result]]:
    """What each step returned each time: A B C A B C, so that drifts hit all alike.

    With ``warm`` every step is taken once before, which does not count.
    """
    for _ in range(WARM_ROUNDS if warm else 0):
        for step in steps.values():
            step()
    results: dict[_Key, list[_Result]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            results[name].append(step())
    return results


class Taken(NamedTuple):
    """Wall seconds, and processor seconds of all threads and child processes together.

    Other programs lengthen the first; the second tells what the work itself costs, but includes
    threads that wait in a loop.
    """

    seconds: float
    processor_seconds: float


def stopwatch(call: Callable[[], object]) -> Callable[[], Taken]:
    """``call`` as a step that returns what it took."""

    def step() -> Taken:
        before, started = count_processor_seconds(), time.perf_counter()
        call()
        ended = time.perf_counter()
        return Taken(ended - started, count_processor_seconds() - before)

    return step


def time_steps(steps: Mapping[_Key, Callable[[], object]], *, repeats: int) -> dict[_Key, Taken]:
    """The median of what each step took, in turns."""
    watched = {name: stopwatch(step) for name, step in steps.items()}
    results = take_turns(watched, repeats=repeats)
    return {name: find_median(taken) for name, taken in results.items()}


def find_median(taken: Sequence[Taken]) -> Taken:
    """The median of the wall seconds, and that of the processor seconds."""
    return Taken(
        median(one.seconds for one in taken), median(one.processor_seconds for one in taken)
    )


def count_cores() -> int:
    """The cores that this process may use: ``taskset`` counts."""
    return len(os.sched_getaffinity(0))


def print_machine(*packages: str, repeats: int, console: Console) -> None:
    """Cores, processor and versions, before the tables; warns when other programs run."""
    parts = [f"{count_cores()} cores of {_processor()}", f"Python {platform.python_version()}"]
    for package in ("deepfake", *packages):
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            parts.append(f"{package} missing")
    console.print(", ".join(parts), soft_wrap=True)
    console.print(f"medians of {repeats}, in turns", soft_wrap=True)
    load = os.getloadavg()[0]
    if load > 0.5 * count_cores():
        console.print(
            f"The load was {load:.1f} at the start: other programs run, and the ratios suffer.",
            style="yellow",
            soft_wrap=True,
        )
    console.print()


def print_results(
    title: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    console: Console | None = None,
) -> None:
    """A title over a table; on a file or a pipe, as wide as it needs to be."""
    console = console or make_console()
    console.print(title, style="bold", soft_wrap=True)
    print_table(head, list(rows), console)
    console.print()


def make_console() -> Console:
    console = Console(markup=False, highlight=False)
    return console if console.is_terminal else Console(markup=False, highlight=False, width=160)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
