"""What a user is shown at the end: how the detector does on sources that it never saw."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console

from deepfake.show.console import print_table
from deepfake.text import printable

from ..manifests import CLASSES
from ..metrics import SourceRow, ViewRow
from .views import CLEAN

LEAST_WIDTH = 110
"""Columns of the tables, which wrap in a narrower terminal but lose no digits."""
RANDOM_WARNING = (
    "files were left out, not sources: neighbours of every left-out file were learnt from, so "
    "these numbers say nothing of other sources and are far too good"
)


def print_report(tables: tuple[Sequence[SourceRow], Sequence[ViewRow]], *, split: str) -> None:
    """A line for each source as its files are, and one for each view of them together."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.width = max(console.width, LEAST_WIDTH)
    sources, views = tables
    what = "file" if split == "random" else "source"
    console.out(f"\neach {what} judged by a head and a calibration that never saw it, files as is:")
    head = ["source", "class", "files", "AUC", "EER", "TPR at 1 % FPR", "cal. error"]
    rows = [
        [
            *(printable(row.source, most=30), CLASSES[row.label], row.files),
            *(row.auc, row.eer, row.tpr_at_1, row.calibration_error),
            *(row.flagged_synthetic, row.flagged_suspicious),
        ]
        for row in sources
        if row.view == CLEAN
    ]
    _print(console, [*head, "synthetic", "suspicious"], rows)
    console.out("\nall together, as is and after what happens to files on their way:")
    head = ["view", "files", "mean AUC", "worst AUC", "mean EER", "TPR at 1 % FPR"]
    _print(
        console,
        [*head, "cal. error", "worst source FPR"],
        [
            [
                *(row.view, row.files, row.mean_auc, row.worst_auc, row.mean_eer, row.tpr_at_1),
                *(row.calibration_error, row.worst_false_positives),
            ]
            for row in views
        ],
    )
    if split == "random":
        console.out(f"\nwarning: --split random: {RANDOM_WARNING}")


def _print(console: Console, head: list[str], rows: list[list[object]]) -> None:
    print_table(head, [[_show(value) for value in row] for row in rows], console)


def _show(value: object) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3f}"
    return str(value)
