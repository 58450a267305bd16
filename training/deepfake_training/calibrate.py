"""Calibration on out-of-fold logits: Platt scaling and operating points.

Both classes count equally, the groups within a class, and the sources within a group, so that
neither a large set nor the mix of the training material sets the probabilities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from deepfake.bundle import Calibration
from deepfake.types import OperatingPoints

from .records import FileLogits

Array = npt.NDArray[np.float64]
SYNTHETIC_FPR = 0.01
SUSPICIOUS_FPR = 0.05
AUTHENTIC_MISS_RATE = 0.10
SOURCES_THAT_HOLD = 0.95


class Sourced(Protocol):
    """What a file is counted by: its class, its source, and the group that is held out with it."""

    @property
    def label(self) -> int: ...

    @property
    def source(self) -> str: ...

    @property
    def group(self) -> str: ...


@dataclass(frozen=True)
class ScoredRecord:
    """A record with its pooled logit and the score and points of a calibration."""

    record: FileLogits
    pooled: float
    score: float
    points: OperatingPoints


def fit_calibration(
    records: Sequence[FileLogits], *, top_fraction: float = 1.0, each_source: bool = False
) -> Calibration:
    """Fit slope, intercept, spread and operating points on all views together.

    With ``each_source`` the upper operating points hold their false-positive rates on at least 95 %
    of the bona fide sources, each by itself (on all of twenty or fewer), which is dearer than on
    their average, and safer for a new one.
    """
    pooled = np.array([pool_logits(record, top_fraction=top_fraction) for record in records])
    labels = np.array([r.label for r in records])
    weights = source_weights(records)
    model = LogisticRegression(C=1e3).fit(pooled[:, None], labels, sample_weight=weights)
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    odds = slope * pooled + intercept
    floor = 1.0 / (len({record.path for record in records}) + 2)
    bona_fide = [labels == 0]
    if each_source:
        sources = np.array([record.source for record in records])
        bona_fide = [(labels == 0) & (sources == one) for one in np.unique(sources[labels == 0])]
    limits = [
        -_upper(-odds, labels == 1, weights, AUTHENTIC_MISS_RATE),
        *(
            float(
                np.quantile(
                    [_upper(odds, some, weights, share) for some in bona_fide],
                    SOURCES_THAT_HOLD,
                    method="higher",
                )
            )
            for share in (SUSPICIOUS_FPR, SYNTHETIC_FPR)
        ),
    ]
    authentic, suspicious, synthetic = expit(limits).clip(floor, 1 - floor).tolist()
    return Calibration(
        slope=slope,
        intercept=intercept,
        spread=_spread_between_views(records, odds),
        points=OperatingPoints(
            authentic=min(authentic, suspicious), suspicious=suspicious, synthetic=synthetic
        ),
        top_fraction=top_fraction,
        floor=floor,
    )


def choose_pooling(records: Sequence[FileLogits]) -> float:
    """The ``top_fraction`` with the best mean AUC over views, of 1, 1/2 and 1/4."""

    def mean_auc(fraction: float) -> float:
        values = []
        for view in {record.view for record in records}:
            inside = [r for r in records if r.view == view]
            pooled = np.array([pool_logits(r, top_fraction=fraction) for r in inside])
            values.append(roc_auc_score([r.label for r in inside], pooled))
        return float(np.mean(values))

    return max((1.0, 0.5, 0.25), key=mean_auc)


def cross_calibrate(
    records: Sequence[FileLogits],
    *,
    top_fraction: float,
    known: Sequence[FileLogits] | None = None,
    each_source: bool = False,
) -> list[ScoredRecord]:
    """Score every record with a calibration fitted on the *other* groups only, of ``known`` records
    where those differ.
    """
    scored = []
    for group in sorted({record.group for record in records}):
        others = [record for record in known or records if record.group != group]
        calibration = fit_calibration(others, top_fraction=top_fraction, each_source=each_source)
        for record in (record for record in records if record.group == group):
            pooled = pool_logits(record, top_fraction=top_fraction)
            score = calibration.probability(pooled)
            scored.append(ScoredRecord(record, pooled, score, calibration.points))
    return scored


def source_weights(records: Sequence[Sourced]) -> Array:
    """Weights that sum to 1 for each class, are equal between its groups, and within a group
    between its sources: seven sets from one archive are not seven independent sources.
    """
    files = Counter((record.label, record.group, record.source) for record in records)
    sources = Counter((label, group) for label, group, _ in files)
    groups = Counter(label for label, _ in sources)
    return np.array(
        [
            1.0 / (files[r.label, r.group, r.source] * sources[r.label, r.group] * groups[r.label])
            for r in records
        ],
        dtype=np.float64,
    )


def pool_logits(record: FileLogits, *, top_fraction: float) -> float:
    """The mean of the highest ``top_fraction`` of a record's window logits."""
    count = max(1, int(np.ceil(top_fraction * len(record.logits))))
    return float(np.sort(np.array(record.logits))[-count:].mean())


def _upper(odds: Array, chosen: npt.NDArray[np.bool_], weights: Array, share: float) -> float:
    """Log-odds that at most ``share`` of the chosen weight passes, midway between two files."""
    order = np.argsort(-odds[chosen])
    values, mass = odds[chosen][order], np.cumsum(weights[chosen][order])
    over = int(np.flatnonzero(mass / mass[-1] > share)[0])
    above = values[over - 1] if over else values[over] + 0.1
    return float(values[over] + above) / 2


def _spread_between_views(records: Sequence[FileLogits], odds: Array) -> float:
    """Root mean square deviation of a file's log-odds between its views."""
    by_path: dict[str, list[float]] = {}
    for record, value in zip(records, odds, strict=True):
        by_path.setdefault(record.path, []).append(float(value))
    deviations = [np.var(values) for values in by_path.values() if len(values) > 1]
    return float(np.sqrt(np.mean(deviations))) if deviations else 0.0
