"""From the scores of a run to its calibration and its tables: what a bundle and its card state."""

from __future__ import annotations

from collections.abc import Sequence

from deepfake.bundle import Calibration

from .calibrate import choose_pooling, fit_calibration
from .inserts import InsertRow, tabulate_inserts, with_spans
from .metrics import SourceRow, ViewRow, tabulate
from .records import FileLogits, LongLogits, unheard

TOLD = ("clean", "web")
"""The views in which bundle and card tell every source where there are many."""
MANY_SOURCES = 40


def told(sources: Sequence[SourceRow]) -> list[SourceRow]:
    """The rows that bundle and card tell: of many sources those of :data:`TOLD` alone."""
    few = len({row.source for row in sources}) <= MANY_SOURCES
    return [row for row in sources if few or row.view in TOLD]


def assess(
    records: Sequence[FileLogits],
    recordings: Sequence[LongLogits] = (),
    *,
    each_source: bool = False,
) -> tuple[Calibration, list[SourceRow], list[ViewRow], list[InsertRow]]:
    """Calibrate on the sources that no model heard; rows by source, by view and of inserts.

    Where there are long recordings, all windows count: clips of two or three windows cannot show
    that on longer ones the mean ranks better than the highest.
    """
    unseen = unheard(records)
    top_fraction = 1.0 if recordings else choose_pooling(unseen)
    calibration = fit_calibration(unseen, top_fraction=top_fraction, each_source=each_source)
    sources, views = tabulate(records, calibration, each_source=each_source)
    if not recordings:
        return calibration, sources, views, []
    inserts = tabulate_inserts(recordings, calibration)
    return with_spans(calibration, recordings), sources, views, inserts
