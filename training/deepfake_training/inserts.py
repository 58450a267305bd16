"""A short synthetic part in a long genuine recording: is the file raised, and is it located?

Recordings of a minute are put together from genuine clips of one corpus that the model never heard;
in every other one a clip of a system that it never heard replaces three seconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from deepfake.bundle import Calibration

from .calibrate import SUSPICIOUS_FPR, SYNTHETIC_FPR
from .records import LongLogits

RECORDING_SECONDS = 60
INSERT_SECONDS = 3
SPAN_WINDOWS = 3
RECORDINGS_PER_FOLD = 60


@dataclass(frozen=True)
class InsertRow:
    """Recordings of one kind: how many were called something, and were the inserts located?

    ``located`` is the share whose highest span of windows lies within a second of the insert.
    """

    kind: str
    recordings: int
    flagged_synthetic: float
    flagged_suspicious: float
    located: float


def with_spans(calibration: Calibration, recordings: Sequence[LongLogits]) -> Calibration:
    """The calibration with spans that can raise a file, their penalty set so that by a span no more
    genuine minutes reach ``synthetic`` and ``suspicious`` than 1 % and 5 %, every corpus weighing
    the same.
    """
    genuine = [one for one in recordings if not one.system]
    counts = Counter(one.corpus for one in genuine)
    spans = np.array([_means(one).max() for one in genuine])
    weights = np.array([1 / counts[one.corpus] for one in genuine])
    order = np.argsort(-spans)
    mass = np.cumsum(weights[order]) / weights.sum()
    growth = math.log(len(genuine[0].logits) / SPAN_WINDOWS)
    points, penalty = calibration.points, 0.0
    for limit, share in ((points.synthetic, SYNTHETIC_FPR), (points.suspicious, SUSPICIOUS_FPR)):
        highest = float(spans[order][int(np.flatnonzero(mass > share)[0])])
        odds = (math.log(limit / (1 - limit)) - calibration.intercept) / calibration.slope
        penalty = max(penalty, (highest - odds) / growth)
    return replace(calibration, span_windows=SPAN_WINDOWS, length_penalty=penalty)


def tabulate_inserts(recordings: Sequence[LongLogits], calibration: Calibration) -> list[InsertRow]:
    """Rows for genuine minutes and for those with an insert, each fold with the span penalty that
    the *other* folds set.
    """
    scored: dict[str, list[tuple[float, float, float]]] = {}
    for fold in sorted({one.fold for one in recordings}):
        fitted = with_spans(calibration, [one for one in recordings if one.fold != fold])
        for one in (one for one in recordings if one.fold == fold):
            score = fitted.probability(fitted.pool(np.array(one.logits, np.float32)))
            centre = _means(one).argmax() * one.hop_seconds + _span_seconds(one) / 2
            near = float(abs(centre - one.insert - INSERT_SECONDS / 2) <= 1.0)
            located = near if one.system else float("nan")
            kind = "with 3 synthetic seconds" if one.system else "genuine"
            points = fitted.points
            flags = (float(score >= points.synthetic), float(score >= points.suspicious))
            scored.setdefault(kind, []).append((*flags, located))
    return [
        InsertRow(kind, len(rows), *(float(v) for v in np.mean(rows, axis=0)))
        for kind, rows in sorted(scored.items())
    ]


def _means(one: LongLogits) -> npt.NDArray[np.float64]:
    spans = np.lib.stride_tricks.sliding_window_view(np.array(one.logits), SPAN_WINDOWS)
    means: npt.NDArray[np.float64] = spans.mean(axis=1)
    return means


def _span_seconds(one: LongLogits) -> float:
    return (SPAN_WINDOWS - 1) * one.hop_seconds + one.window_seconds
