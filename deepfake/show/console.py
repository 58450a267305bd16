"""Reports and tables for people at a terminal. Nothing from a file is printed unescaped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..text import printable
from ..types import Evidence, Report, Status, Timeline, Verdict, Weight
from .exhibits import describe_face, marked_faces

COLOURS = {
    Verdict.SYNTHETIC: "bold red",
    Verdict.SUSPICIOUS: "bold yellow",
    Verdict.AUTHENTIC: "bold green",
    Verdict.INCONCLUSIVE: "bold blue",
}
BARS = "▁▂▃▄▅▆▇█"
PATIENCE_SECONDS = 2.0
MOST_LISTED_FACES = 8


class FileProgress:
    """A bar for one file that takes more than two seconds, where a person looks at ``console``.

    Call it with the share that is done and what comes next; it is gone when the context ends.
    """

    def __init__(self, name: str, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.fields[name]}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=1.0, name=printable(name, most=40))
        self._began = time.monotonic()
        self._shown = False

    def __call__(self, share: float, text: str) -> None:
        self._bar.update(self._task, completed=share, description=text)
        if not self._shown and time.monotonic() - self._began > PATIENCE_SECONDS:
            self._bar.start()
            self._shown = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()


def print_report(report: Report, console: Console) -> None:
    """The verdict, its probability and reasons, and each piece of evidence on its own line."""
    console.print(Text(printable(report.path, most=300), style="bold"), soft_wrap=True)
    console.print(Text(f"  {describe_media(report)}", style="dim"), soft_wrap=True)
    console.print(
        Text("  verdict      ").append(report.verdict.label, style=COLOURS[report.verdict])
    )
    console.print(Text(f"  P(synthetic) {describe_probability(report)}"))
    for number, reason in enumerate(report.reasons):
        head = "  because      " if number == 0 else "               "
        text = printable(reason.text, most=600)
        console.print(Text(f"{head}{text} [{reason.code}]"), soft_wrap=True)
    console.print(Text("  evidence"))
    for evidence in report.evidence:
        console.print(_evidence_line(evidence), soft_wrap=True)
        for timeline in evidence.timelines:
            name = f"{printable(timeline.name, most=24)}  " if len(evidence.timelines) > 1 else ""
            console.print(Text(f"               {name}{sparkline(timeline)}", style="dim"))
        for face in list_faces(evidence):
            console.print(Text(f"               {face}", style="dim"), soft_wrap=True)
    for warning in report.warnings:
        console.print(
            Text(f"  warning      {printable(warning, most=300)}", style="yellow"), soft_wrap=True
        )
    versions = ", ".join(f"{slot} {name}" for slot, name in report.versions.items())
    when = f"examined {report.examined_at} in " if report.examined_at else ""
    made = printable(f"{versions}; {when}{report.seconds:.2f} s", most=400)
    console.print(Text(f"  {made}", style="dim"))


def describe_media(report: Report) -> str:
    """Kind, format, size and length in one phrase."""
    media = report.media
    parts = [f"{media.kind.value}, {media.format}"]
    if media.width and media.height:
        parts.append(f"{media.width}×{media.height}")
    if media.seconds is not None:
        parts.append(f"{media.seconds:.1f} s")
    parts.append(f"{media.bytes / 1000:.0f} kB")
    parts.append(f"sha256 {media.sha256[:12]}…")
    return ", ".join(parts)


def describe_probability(report: Report) -> str:
    """The probability with its interval, or a dash when nothing could be estimated."""
    if report.probability is None:
        return "–"
    if report.interval is None:
        return f"{report.probability:.3f}"
    low, high = report.interval
    return f"{report.probability:.3f} ({low:.3f} … {high:.3f})"


def sparkline(timeline: Timeline, *, width: int = 60) -> str:
    """Scores over time as bars, with the time and height of the highest."""
    scores = list(timeline.scores)
    if not scores:
        return "–"
    step = max(1, -(-len(scores) // width))
    columns = [max(scores[start : start + step]) for start in range(0, len(scores), step)]
    bars = "".join(BARS[min(len(BARS) - 1, int(score * len(BARS)))] for score in columns)
    top = max(range(len(scores)), key=scores.__getitem__)
    return f"{bars}  highest {scores[top]:.2f} at {timeline.seconds[top]:.1f} s"


def list_faces(evidence: Evidence) -> list[str]:
    """A line for each face of a picture or person of a video, eight at most."""
    lines = [describe_face(face) for face in marked_faces(evidence)]
    if len(lines) > MOST_LISTED_FACES:
        more = len(lines) - MOST_LISTED_FACES
        lines[MOST_LISTED_FACES:] = [f"{more} more in the JSON report"]
    return lines


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """A plain table; cells are printed as they are, without markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _evidence_line(evidence: Evidence) -> Text:
    marks = {Status.OK: ("•", ""), Status.SKIPPED: ("○", "dim"), Status.FAILED: ("✗", "red")}
    mark, style = marks[evidence.status]
    line = Text(f"    {mark} {evidence.source:<11}", style=style)
    if evidence.weight is not Weight.SCORE:
        line.append(f"{evidence.weight.value}: ", style="bold")
    line.append(printable(evidence.claim, most=400))
    if evidence.reason:
        line.append(f" [{evidence.reason}]")
    return line
