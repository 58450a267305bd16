"""``deepfake scan``: its options, its progress bar and the reports that it writes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ..settings import DetectOptions, Settings
from .audit import add_audit_options, auditing, files_of_log

if TYPE_CHECKING:
    from rich.console import Console

    from ..scan.executors import Executor, Line, WorkerSetup
    from ..scan.scan import Summary
    from ..trust.audit import AuditLog

DESCRIPTION = """\
Examine every file of the sources. The results file is also the journal: the same command again
goes on where a stopped scan ended, and examines only files that are new or changed. Files with
equal content are examined once and reported each. --repair makes a damaged results file usable.

A SOURCE is
  a folder or a file
  s3://bucket/prefix, or another URL that fsspec knows (pip install "deepfake[remote]")
  a list of such: a .txt file, or - for standard input; one a line, or separated by NUL
"""

EXAMPLES = """\
examples:
  a folder, with a page to look at and a table
    deepfake scan downloads/ --output results.jsonl --html results.html --csv results.csv
  only pictures, no more than 1000 of them now, and at most 30 seconds for each
    deepfake scan downloads/ --output results.jsonl --include '*.jpg' --include '*.png' \\
      --max-files 1000 --file-seconds 30
  whatever find finds
    find / -newer stamp -type f -print0 | deepfake scan - --output results.jsonl
  an object store; credentials and endpoint as its own tools read them
    AWS_ENDPOINT_URL=https://store.example deepfake scan s3://bucket/prefix --output results.jsonl
  a folder into which files keep coming, until Ctrl-C
    deepfake scan inbox/ --output results.jsonl --watch 10
  many machines (pip install "deepfake[cluster]")
    deepfake scan s3://bucket/prefix --output results.jsonl --cluster ray://head:10001

exit status: 0 all files examined, 1 some failed or a folder could not be listed, 2 wrong usage or a
bundle that is missing, was changed or cannot be loaded (nothing is examined then), 130 stopped with
Ctrl-C before the end. Ctrl-C finishes the files in work, a second one ends at once; either way the
same command goes on from there. --watch ends with Ctrl-C, and with 0 or 1. Files that are no media
and do not look so are counted as not_media, not as failed.
"""


def add_scan(commands: Any, parents: list[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the command; its ``run`` is left to set."""
    scan: argparse.ArgumentParser = commands.add_parser(
        "scan",
        parents=parents,
        help="examine folders, lists and object stores into a results file, resuming where it "
        "stopped",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    scan.add_argument("sources", nargs="+", metavar="SOURCE", help="what to examine, see above")
    scan.add_argument(
        "--output", type=Path, required=True, metavar="JSONL", help="results file, JSON lines"
    )
    scan.add_argument(
        "--repair",
        action="store_true",
        help="reduce a damaged results file to its whole lines first, say what was lost, and keep "
        "the damaged one as JSONL.damaged",
    )
    choice = scan.add_argument_group("selection")
    choice.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="GLOB",
        help="only files whose path within the source matches; again for more; case is ignored",
    )
    choice.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="not files that match"
    )
    choice.add_argument(
        "--max-files", type=int, metavar="N", help="stop after N files that were not yet done"
    )
    choice.add_argument(
        "--file-seconds",
        type=float,
        default=Settings().file_seconds,
        metavar="S",
        help="give up on a file after S seconds, 0 for never (%(default)g)",
    )
    choice.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=5.0,
        metavar="SECONDS",
        help="look again for new and changed files every SECONDS (5), until Ctrl-C",
    )
    work = scan.add_argument_group("workers")
    work.add_argument("--workers", type=int, default=0, help="processes; 0 for one per core")
    work.add_argument(
        "--cluster",
        default="local",
        metavar="WHERE",
        help="local, ray, or ray://host:port of a running cluster (local)",
    )
    reports = scan.add_argument_group("reports of all results, also of a scan where all is done")
    reports.add_argument("--csv", type=Path, help="a table for spreadsheets")
    reports.add_argument("--parquet", type=Path, help="a table for data tools")
    reports.add_argument("--html", type=Path, help="a page that opens offline in a browser")
    add_audit_options(scan)
    return scan


def run_scan(
    options: argparse.Namespace,
    *,
    settings: Settings,
    detection: DetectOptions,
    console: Callable[..., Console],
) -> int:
    """Scan, write the reports, print what it came to, and return the exit status."""
    from ..scan.scan import Selection, scan
    from ..show.console import print_table

    _check(options)
    selection = Selection(
        include=options.include,
        exclude=options.exclude,
        apart=[
            *[path for path in (options.csv, options.parquet, options.html) if path],
            *files_of_log(options),
        ],
        max_files=options.max_files,
        poll_seconds=options.watch,
    )
    executor = choose_executor(options.cluster)
    if options.repair:
        _repair(options.output, console(stderr=True))
    with auditing(options) as log, Bar(console(stderr=True)) as bar:
        summary = scan(
            options.sources,
            output=options.output,
            settings=replace(settings, file_seconds=options.file_seconds or None),
            options=detection,
            selection=selection,
            workers=options.workers,
            executor=executor,
            progress=_audited(bar, log, settings) if log else bar,
        )
    write_reports(options, settings)
    rows = [[name, f"{count:,}"] for name, count in sorted(summary.outcomes.items())]
    rows.append(["examined now", f"{summary.scanned:,}"])
    if summary.duplicates:
        rows.append(["of them duplicates", f"{summary.duplicates:,}"])
    rows.append(["from the journal", f"{summary.resumed:,}"])
    print_table(["outcome", "files"], rows, console())
    if summary.changes:
        message = (
            f"deepfake: other models were activated meanwhile; {summary.changes[-1]:,} files rest "
            "on the former ones, and the same command examines them again"
        )
        console(stderr=True).print(message, soft_wrap=True)
    if summary.interrupted and options.watch is None:
        message = "deepfake: stopped; the same command goes on from here"
        console(stderr=True).print(message, soft_wrap=True)
        return 130
    return 1 if summary.failed else 0


def _audited(bar: Bar, log: AuditLog, settings: Settings) -> Callable[[Summary, Line | None], None]:
    """The progress, with an entry in the log for each file that was examined now."""
    from ..bundle import Bundle
    from ..trust.registry import Recorded, read_bundles

    bundles: Mapping[str, Bundle | Recorded] = {**read_bundles(settings.models_folder)}

    def tell(summary: Summary, line: Line | None) -> None:
        nonlocal bundles
        if line is not None:
            error = line.get("error")
            if "bundles" in line:  # of an error the last ones that answered
                names = line["versions"]
                bundles = {slot: Recorded(names[slot], it) for slot, it in line["bundles"].items()}
            log.append(
                "scan",
                media=line.get("sha256"),
                bundles=bundles,
                verdict=line.get("verdict"),
                error=error and str(error["code"]),
            )
        bar(summary, line)

    return tell


def _repair(output: Path, console: Console) -> None:
    from ..scan.repair import repair_results

    repair = repair_results(output)
    told = repair or f"results file {str(output)!r}: nothing to repair"
    console.print(f"deepfake: {told}", soft_wrap=True, markup=False, highlight=False)


def write_reports(options: argparse.Namespace, settings: Settings) -> None:
    """The reports that were asked for, from the results file."""
    try:
        if options.csv:
            from ..scan.tables import write_csv

            write_csv(options.output, options.csv)
        if options.parquet:
            from ..scan.tables import write_parquet

            write_parquet(options.output, options.parquet)
        if options.html:
            from ..scan.gallery import write_html

            write_html(options.output, options.html, limits=settings.limits)
    except OSError as error:
        raise SettingsError(
            f"report {error.filename!r}: cannot be written ({error.strerror})",
            hint="choose another place and run the same command again",
        ) from error


def choose_executor(cluster: str) -> Callable[[WorkerSetup, int], Executor]:
    """What makes the executor that ``--cluster`` names."""
    from ..scan.executors import choose_local

    if cluster == "local":
        return choose_local
    if cluster != "ray" and not cluster.startswith("ray://"):
        raise SettingsError(f"cluster {cluster!r}: unknown", hint="give local, ray or ray://…")
    from importlib import import_module

    ray_executor = import_module("deepfake.scan.cluster").RayExecutor
    address = None if cluster == "ray" else cluster
    return lambda setup, workers: ray_executor(setup, address=address, workers=workers)


class Bar:
    """A progress bar with the rate and the outcomes so far; the total grows with the listing."""

    def __init__(self, console: Console) -> None:
        from rich import progress

        self._bar = progress.Progress(
            progress.TextColumn("scanning"),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[count]}"),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, count="", rate="")

    def __call__(self, summary: Summary, line: Line | None) -> None:
        done = sum(summary.outcomes.values())
        names = sorted(summary.outcomes.items())
        elapsed = self._bar.tasks[0].elapsed or 0.0
        self._bar.update(
            self._task,
            completed=done,
            total=summary.listed if summary.complete else None,
            count=f"{done:,} of {summary.listed:,}{'' if summary.complete else ' or more'}",
            rate=f"{summary.scanned / elapsed:.1f} files/s" if elapsed > 1 else "",
            description=", ".join(f"{name} {count:,}" for name, count in names),
        )

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _check(options: argparse.Namespace) -> None:
    """Find out before a long scan that a report could not be written."""
    if options.workers < 0:
        raise SettingsError(f"option workers {options.workers}: negative", hint="give 0 or more")
    if options.parquet:
        from importlib.util import find_spec

        from ..errors import MissingDependency

        if find_spec("pyarrow") is None:
            raise MissingDependency("pyarrow", extra="parquet")
    places = [path for path in (options.csv, options.parquet, options.html) if path]
    for path in places:
        if not path.absolute().parent.is_dir():
            raise SettingsError(f"report {str(path)!r}: has no folder", hint="make the folder")
    if len({path.absolute() for path in [options.output, *places]}) <= len(places):
        raise SettingsError("reports: two would be one file", hint="give each its own name")
