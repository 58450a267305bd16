"""Detection metrics on held-out sources: AUC, EER, TPR at a fixed FPR, calibration error.

Labels are 1 for synthetic, scores rise with it. All functions take 1-D arrays of equal length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score, roc_curve

from deepfake.bundle import Calibration

from .calibrate import ScoredRecord, cross_calibrate, pool_logits
from .records import FileLogits, unheard

Array = npt.NDArray[np.float64]


def auc(labels: Array, scores: Array) -> float:
    """Area under the ROC curve; NaN when one class is missing."""
    return float(roc_auc_score(labels, scores)) if len(set(labels)) == 2 else float("nan")


def separation(fakes: Sequence[float], genuine: Sequence[float]) -> float:
    """AUC of the scores of synthetic files over those of genuine ones; NaN without either."""
    labels = np.repeat([1.0, 0.0], [len(fakes), len(genuine)])
    return auc(labels, np.array([*fakes, *genuine]))


def eer(labels: Array, scores: Array) -> float:
    """Equal error rate: where false acceptances equal false rejections."""
    if len(set(labels)) < 2:
        return float("nan")
    false_positive, true_positive, _ = roc_curve(labels, scores, drop_intermediate=False)
    nearest = int(np.argmin(np.abs(1 - true_positive - false_positive)))
    return float((1 - true_positive[nearest] + false_positive[nearest]) / 2)


def tpr_at_fpr(labels: Array, scores: Array, *, fpr: float) -> float:
    """Share of synthetic files above the threshold that at most ``fpr`` of bona fide ones pass."""
    if len(set(labels)) < 2:
        return float("nan")
    false_positive, true_positive, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(true_positive[false_positive <= fpr].max())


def calibration_error(labels: Array, scores: Array, *, weights: Array | None = None) -> float:
    """Expected calibration error over ten bins of equal width (Naeini et al. 2015); ``weights`` sum
    to 1 (by default all files count alike).
    """
    if weights is None:
        weights = np.full(len(labels), 1 / len(labels))
    bins = np.minimum((scores * 10).astype(int), 9)
    return float(np.abs(np.bincount(bins, weights * (labels - scores))).sum())


@dataclass(frozen=True)
class SourceRow:
    """One source in one view. AUC, EER, TPR, balanced accuracy (at "suspicious or more") and
    calibration error compare a synthetic source with bona fide sources that the same fold's model
    never saw either; a bona fide source has its false-positive rates instead. ``system_*`` compare
    the synthetic source with unheard files of the bona fide sources that the model did see (leave
    one system out), NaN where a recipe keeps none.
    """

    view: str
    source: str
    label: int
    files: int
    auc: float
    eer: float
    tpr_at_1: float
    tpr_at_5: float
    balanced_accuracy: float
    calibration_error: float
    flagged_synthetic: float
    flagged_suspicious: float
    mean_score: float
    system_auc: float
    system_eer: float
    system_tpr_at_1: float


@dataclass(frozen=True)
class ViewRow:
    """All sources of one view together; means are over sources, so that no large set dominates."""

    view: str
    files: int
    mean_auc: float
    worst_auc: float
    mean_eer: float
    auc: float
    tpr_at_1: float
    tpr_at_5: float
    balanced_accuracy: float
    calibration_error: float
    worst_false_positives: float
    system_auc: float
    system_eer: float


@dataclass(frozen=True)
class FamilyRow:
    """Files of a ``family`` of synthesis as they are, against all genuine ones that the same
    network did not see either.
    """

    family: str
    files: int
    auc: float
    eer: float
    tpr_at_1: float


def tabulate(
    records: Sequence[FileLogits],
    calibration: Calibration,
    *,
    within_fold: bool = True,
    each_source: bool = False,
) -> tuple[list[SourceRow], list[ViewRow]]:
    """Per-source and per-view rows, every number from models *and calibrations* fitted without the
    source that it is about. ``within_fold`` compares a source with the other class of its own fold,
    as it must where each fold has its own model; ``each_source`` is that of the calibration.
    """
    scored = cross_calibrate(
        unheard(records), top_fraction=calibration.top_fraction, each_source=each_source
    )
    sources: list[SourceRow] = []
    views: list[ViewRow] = []
    for view in dict.fromkeys(record.view for record in records):
        inside = [s for s in scored if s.record.view == view]
        heard: dict[int, list[float]] = {}
        for record in (r for r in records if r.heard and r.view == view and not r.label):
            pooled = pool_logits(record, top_fraction=calibration.top_fraction)
            heard.setdefault(record.fold, []).append(pooled)
        rows = [
            _source_row(
                view,
                name,
                [s for s in inside if s.record.source == name],
                inside,
                heard=heard,
                within_fold=within_fold,
            )
            for name in sorted({s.record.source for s in inside})
        ]
        sources += rows
        labels = np.array([s.record.label for s in inside], dtype=np.float64)
        scores = np.array([s.score for s in inside])
        flagged = np.array([s.score >= s.points.suspicious for s in inside])
        fakes = [row for row in rows if row.label == 1]
        reals = [row for row in rows if row.label == 0]
        views.append(
            ViewRow(
                view=view,
                files=len(inside),
                mean_auc=float(np.nanmean([row.auc for row in fakes])),
                worst_auc=float(np.nanmin([row.auc for row in fakes])),
                mean_eer=float(np.nanmean([row.eer for row in fakes])),
                auc=auc(labels, scores),
                tpr_at_1=tpr_at_fpr(labels, scores, fpr=0.01),
                tpr_at_5=tpr_at_fpr(labels, scores, fpr=0.05),
                balanced_accuracy=float(
                    (flagged[labels == 1].mean() + (~flagged[labels == 0]).mean()) / 2
                ),
                calibration_error=calibration_error(labels, scores),
                worst_false_positives=max(row.flagged_synthetic for row in reals),
                system_auc=_mean([row.system_auc for row in fakes]),
                system_eer=_mean([row.system_eer for row in fakes]),
            )
        )
    return sources, views


def _source_row(
    view: str,
    name: str,
    mine: Sequence[ScoredRecord],
    inside: Sequence[ScoredRecord],
    *,
    heard: Mapping[int, Sequence[float]],
    within_fold: bool,
) -> SourceRow:
    label = mine[0].record.label
    folds = {s.record.fold for s in mine}
    against = [s for s in inside if s.record.label != label]
    if within_fold:
        against = [s for s in against if s.record.fold in folds]
    unseen = _separate(mine, [s.pooled for s in against], label=label)
    system = _separate(mine, [v for fold in folds for v in heard.get(fold, [])], label=label)
    both = [*mine, *against] if label else []
    flagged = {one: _share_flagged(both, one) for one in (0, 1)}
    return SourceRow(
        view=view,
        source=name,
        label=label,
        files=len(mine),
        auc=unseen[0],
        eer=unseen[1],
        tpr_at_1=unseen[2],
        tpr_at_5=unseen[3],
        balanced_accuracy=(flagged[1] + 1 - flagged[0]) / 2,
        calibration_error=_balanced_calibration_error(both),
        flagged_synthetic=float(np.mean([s.score >= s.points.synthetic for s in mine])),
        flagged_suspicious=float(np.mean([s.score >= s.points.suspicious for s in mine])),
        mean_score=float(np.mean([s.score for s in mine])),
        system_auc=system[0],
        system_eer=system[1],
        system_tpr_at_1=system[2],
    )


def _separate(
    mine: Sequence[ScoredRecord], others: Sequence[float], *, label: int
) -> tuple[float, float, float, float]:
    """AUC, EER and TPR at 1 % and 5 % FPR of a synthetic source against bona fide files' logits."""
    if not label or not others:
        return float("nan"), float("nan"), float("nan"), float("nan")
    labels = np.repeat([1.0, 0.0], [len(mine), len(others)])
    logits = np.array([*(s.pooled for s in mine), *others])
    first, second = (tpr_at_fpr(labels, logits, fpr=fpr) for fpr in (0.01, 0.05))
    return auc(labels, logits), eer(labels, logits), first, second


def _share_flagged(scored: Sequence[ScoredRecord], label: int) -> float:
    """The share of one class called suspicious or more."""
    own = [s.score >= s.points.suspicious for s in scored if s.record.label == label]
    return float(np.mean(own)) if own else float("nan")


def _balanced_calibration_error(scored: Sequence[ScoredRecord]) -> float:
    """With both classes counting alike, as in the calibration itself."""
    labels = np.array([s.record.label for s in scored], dtype=np.float64)
    if len(set(labels)) < 2:
        return float("nan")
    weights = np.where(labels == 1, 0.5 / labels.sum(), 0.5 / (1 - labels).sum())
    return calibration_error(labels, np.array([s.score for s in scored]), weights=weights)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
