"""What ``deepfake evaluate`` does once its options are read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deepfake.detector import Detector
from deepfake.errors import SettingsError
from deepfake.progress import ctrl_c
from deepfake.settings import Settings
from deepfake.show.console import print_table
from deepfake.text import display_name, printable

from .compare import Pairing, compare_results, versions_differ
from .fairness import warn_of_groups
from .journal import Journal
from .material import Sample, limit_each, read_material
from .page import write_page
from .peers import parse_peer
from .result import Evaluation, Plan, conclude, read_result, write_result
from .run import Examination, Outcome
from .tables import (
    list_comparisons,
    list_failures,
    list_flips,
    list_groups,
    make_tables,
    write_markdown,
)
from .tabulate import ALL, MEAN
from .views import read_names

if TYPE_CHECKING:
    from rich.console import Console

RESULT, PAGE, JOURNAL = "evaluation.json", "evaluation.html", "journal.jsonl"
MOST_LISTED_FAILURES = 10
WIDE_COLUMNS = 160
"""A terminal of so many columns has room for intervals."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for; ``place`` is a folder, a manifest or a result."""

    place: Path
    output: Path
    views: str = "as-is"
    limit: int = 0
    workers: int = 2
    seed: int = 1
    draws: int = 1000
    peers: Sequence[str] = ()
    peer_seconds: float = 120.0
    compare: Path | None = None
    markdown: str | None = None
    publish: Path | None = None
    intervals: bool | None = None
    measured_groups: bool = False


def run_evaluation(
    request: Request, settings: Settings, *, console: Console, errors: Console
) -> int:
    """Evaluate, or show a result again; 1 when a file or a peer failed."""
    _check(request)
    other = read_result(request.compare) if request.compare else None
    if request.place.suffix.lower() == ".json":
        result = read_result(request.place)
    else:
        try:
            result = evaluate(request, settings, errors=errors)
        except KeyboardInterrupt:
            errors.print("the same command goes on where this one was stopped", soft_wrap=True)
            raise
        write_result(result, request.output / RESULT)
    pairing, changes = (None, []) if other is None else _pair(request, other, result)
    if request.publish:
        rows = result.rows
        if request.markdown == "summary":
            rows = [row for row in rows if row.source in (ALL, MEAN)]
        write_result(replace(result, rows=rows, outcomes=()), request.publish)
    request.output.mkdir(parents=True, exist_ok=True)
    write_page(result, request.output / PAGE, pairing=pairing, changes=changes)
    if request.markdown:
        full = request.markdown == "full"
        intervals = request.intervals is not False
        sys.stdout.write(write_markdown(result, each_source=full, intervals=intervals))
    else:
        wide = console.width >= WIDE_COLUMNS
        _print(result, console, intervals=wide if request.intervals is None else request.intervals)
        if pairing is not None:
            console.print(
                f"\ncompared with {display_name(request.compare or '')}: {pairing.paired:,} views "
                f"of files in both, {pairing.missing:,} in one alone",
                soft_wrap=True,
            )
            for change in changes:
                console.print(f"  {change}", soft_wrap=True)
            for table in (
                list_comparisons("before and now", pairing.comparisons),
                list_flips(pairing),
            ):
                print_table(table.head, table.cells, console)
            for text in pairing.sentences:
                console.print(text, soft_wrap=True)
    shown = [RESULT, PAGE] if request.place.suffix.lower() != ".json" else [PAGE]
    places = " and ".join(display_name(request.output / name) for name in shown)
    errors.print(f"wrote {places}", soft_wrap=True)
    return int(bool(result.failures))


def evaluate(request: Request, settings: Settings, *, errors: Console) -> Evaluation:
    """Examine the material, or what of it the journal in the output folder lacks."""
    samples = limit_each(read_material(request.place), most=request.limit, seed=request.seed)
    views = read_names(request.views)
    peers = [parse_peer(text, seconds=request.peer_seconds) for text in request.peers]
    if len({peer.name for peer in peers}) < len(peers):
        raise SettingsError("peers: two have one name", hint="give each its own")
    try:
        request.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"output {display_name(request.output)}: cannot be made ({error.strerror})",
            hint="choose another",
        ) from error
    with Journal(request.output / JOURNAL) as journal, Detector(settings) as detector:
        detector.engine.check(detector.engine.active)  # before the first file, not at it
        examination = Examination(
            detector, journal, views=views, peers=peers, measured=request.measured_groups
        )
        with ctrl_c() as stop, _Bar(samples, errors) as bar:
            outcomes = examination.examine(
                samples, workers=request.workers, progress=bar, stop=stop
            )
        plan = Plan(
            material=request.place.absolute().name,
            views=views,
            limit=request.limit,
            seed=request.seed,
            draws=request.draws,
        )
        with errors.status("counting") if errors.is_terminal else _Silent():
            return conclude(outcomes, detector, plan=plan, peers=peers)


def _pair(request: Request, other: Evaluation, result: Evaluation) -> tuple[Pairing, list[str]]:
    for one, place in ((result, request.place), (other, request.compare or "")):
        if not one.outcomes:
            raise SettingsError(
                f"result {display_name(place)}: was stored without its files",
                hint="compare results as evaluate wrote them",
            )
    pairing = compare_results(
        other.outcomes, result.outcomes, draws=request.draws, seed=request.seed
    )
    before, now = (
        {slot: facts["name"] for slot, facts in one.bundles.items()} | {**one.versions}
        for one in (other, result)
    )
    return pairing, versions_differ(before, now)


def _check(request: Request) -> None:
    for name, value, least in (
        ("limit", request.limit, 0),
        ("workers", request.workers, 1),
        ("seed", request.seed, 0),
        ("draws", request.draws, 1),
    ):
        if value < least:
            raise SettingsError(f"option {name} {value}: too low", hint=f"give at least {least}")


def _print(result: Evaluation, console: Console, *, intervals: bool) -> None:
    for table in make_tables(result, every_score=False, intervals=intervals):
        console.print(f"{table.title}", style="bold")
        print_table(table.head, table.cells, console)
        console.print()
    if result.comparisons:
        table = list_comparisons("beside other detectors", result.comparisons)
        console.print(table.title, style="bold")
        print_table(table.head, table.cells, console)
        for one in result.comparisons:
            console.print(f"{one.kind}, {one.view}: {one.text}", soft_wrap=True)
    if result.groups:
        table = list_groups(result.groups, intervals=intervals)
        console.print(table.title, style="bold")
        print_table(table.head, table.cells, console)
        for warning in warn_of_groups(result.groups):
            console.print(f"warning: {printable(warning)}", style="bold", soft_wrap=True)
    failures = list_failures(result).cells
    if failures:
        for who, count in result.failures.items():
            console.print(f"{who}: {count:,} failures", style="bold")
        for cells in failures[:MOST_LISTED_FAILURES]:
            console.print("  " + ", ".join(cells[:3]) + f": {cells[3]}", soft_wrap=True)
        if len(failures) > MOST_LISTED_FAILURES:
            console.print("  … all of them are in the page")


class _Silent:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


class _Bar:
    """A progress bar over files, with the failures so far."""

    def __init__(self, samples: Sequence[Sample], console: Console) -> None:
        from rich import progress

        self._failed = 0
        self._bar = progress.Progress(
            progress.TextColumn("evaluating"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=len(samples))

    def __call__(self, outcomes: list[Outcome]) -> None:
        self._failed += sum(bool(one.error or one.problems) for one in outcomes)
        failed = f"{self._failed:,} failures" if self._failed else ""
        self._bar.update(self._task, advance=1, description=failed)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
