"""From the logits of a picture's windows to one: ways of pooling, compared on left-out sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..calibrate import source_weights
from ..metrics import auc
from ..records import FileLogits, unheard

Array = npt.NDArray[np.float64]


def _mean_of_highest(share: float) -> Callable[[Array], float]:
    return lambda logits: float(
        np.sort(logits)[-max(1, int(np.ceil(share * len(logits)))) :].mean()
    )


def _trimmed(logits: Array) -> float:
    cut = len(logits) // 4
    return float(np.sort(logits)[cut : len(logits) - cut].mean())


POOLINGS: dict[str, Callable[[Array], float]] = {
    "mean": _mean_of_highest(1.0),
    "mean of the highest half": _mean_of_highest(0.5),
    "mean of the highest quarter": _mean_of_highest(0.25),
    "mean of the middle half": _trimmed,
    "median": lambda logits: float(np.median(logits)),
    "highest": lambda logits: float(logits.max()),
}
LEARNED = "learned: logistic in mean, deviation, lowest and highest"


@dataclass(frozen=True)
class PoolingRow:
    """Mean AUC over synthetic sources, by view, within their folds."""

    pooling: str
    auc: dict[str, float]


def compare_poolings(records: Sequence[FileLogits]) -> list[PoolingRow]:
    """One row for each way; the learned one is fitted on the other groups, all views together."""
    unseen = unheard(records)
    rows = []
    for name, pool in POOLINGS.items():
        pooled = np.array([pool(np.array(record.logits)) for record in unseen])
        rows.append(PoolingRow(name, _mean_auc(unseen, pooled)))
    rows.append(PoolingRow(LEARNED, _mean_auc(unseen, _learn(unseen))))
    return rows


def _learn(records: Sequence[FileLogits]) -> Array:
    features = np.array([_summarise(np.array(record.logits)) for record in records])
    labels = np.array([record.label for record in records])
    groups = np.array([record.group for record in records])
    pooled = np.zeros(len(records))
    for group in np.unique(groups):
        others = groups != group
        weights = source_weights([r for r in records if r.group != group]) * others.sum()
        model = make_pipeline(StandardScaler(), LogisticRegression())
        model.fit(features[others], labels[others], logisticregression__sample_weight=weights)
        pooled[~others] = model.decision_function(features[~others])
    return pooled


def _summarise(logits: Array) -> tuple[float, ...]:
    return float(logits.mean()), float(logits.std()), float(logits.min()), float(logits.max())


def _mean_auc(records: Sequence[FileLogits], pooled: Array) -> dict[str, float]:
    labels = np.array([record.label for record in records])
    folds = np.array([record.fold for record in records])
    views = np.array([record.view for record in records])
    sources = np.array([record.source for record in records])
    means = {}
    for view in dict.fromkeys(views):
        values = []
        for source in np.unique(sources[labels == 1]):
            mine = (views == view) & (sources == source) & (labels == 1)
            others = (views == view) & (labels == 0) & np.isin(folds, folds[mine])
            both = mine | others
            values.append(auc(labels[both].astype(np.float64), pooled[both]))
        means[str(view)] = float(np.nanmean(values))
    return means
