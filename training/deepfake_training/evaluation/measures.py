"""Detection measures of weighted files, many weightings at once, and the bootstrap that needs them.

``labels`` (files,) is 1 for synthetic, ``scores`` (files,) rise with it, ``weights`` (draws, files)
say how much each file counts in each of many draws; both classes must have some weight in each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, norm, rankdata

Array = npt.NDArray[np.float64]
Estimate = tuple[float, float, float]
"""A value, and the lower and upper end of its 95 % interval."""

MEASURES = ("auc", "eer", "tpr_at_1", "tpr_at_01", "calibration_error")
_TAIL = 0.025
_MOST_CELLS = 2_000_000
_MOST_KEPT_CELLS = 10_000_000


@dataclass(frozen=True)
class Curve:
    """Shares of genuine (``false_positive``) and synthetic files (``true_positive``), each (draws,
    thresholds), that score at least as much as each threshold, from none of them to all.
    """

    false_positive: Array
    true_positive: Array


def draw_curve(labels: Array, scores: Array, weights: Array) -> Curve:
    """The ROC curve of each draw."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    shares = []
    for label in (0, 1):
        sums = np.cumsum(weights[:, order] * (labels[order] == label), axis=1)[:, ends]
        shares.append(np.pad(sums / sums[:, -1:], ((0, 0), (1, 0))))
    return Curve(*shares)


def measure(labels: Array, scores: Array, weights: Array) -> dict[str, Array]:
    """Every one of :data:`MEASURES` in each draw, each (draws,).

    EER is where false acceptances and false rejections are nearest each other. TPR is that of the
    lowest threshold that at most 1 % or 0.1 % of the genuine files reach. The calibration error is
    the expected one over ten bins of equal width (Naeini et al. 2015), with both classes weighing
    alike; NaN for scores that are not all in 0…1.
    """
    curve = draw_curve(labels, scores, weights)
    false, true = curve.false_positive, curve.true_positive
    gaps = np.abs(1 - true - false)
    nearest = np.argmin(gaps, axis=1)[:, None]
    at_nearest = np.take_along_axis(false, nearest, 1) + 1 - np.take_along_axis(true, nearest, 1)
    return {
        "auc": np.trapezoid(true, false, axis=1),
        "eer": at_nearest[:, 0] / 2,
        "tpr_at_1": np.where(false <= 0.01 + 1e-12, true, 0).max(axis=1),
        "tpr_at_01": np.where(false <= 0.001 + 1e-12, true, 0).max(axis=1),
        "calibration_error": _calibration_error(labels, scores, weights),
    }


def _calibration_error(labels: Array, scores: Array, weights: Array) -> Array:
    if scores.min() < 0 or scores.max() > 1:
        return np.full(len(weights), np.nan)
    members = labels[:, None] == np.array([0.0, 1.0])
    halves = weights @ members  # (draws, classes)
    alike = weights * (0.5 / halves)[:, labels.astype(int)]
    bins = np.minimum((scores * 10).astype(int), 9)
    return np.asarray(np.abs((alike * (labels - scores)) @ np.eye(10)[bins]).sum(axis=1))


class Draws:
    """Bootstrap weights of files: within each class groups are drawn with replacement, then files
    within each drawn group, so that files of one origin are not taken for independent.

    The same ``seed`` gives the same draws. ``each_alike`` makes all ``sources`` of a class count
    alike, however many files they have.
    """

    def __init__(
        self,
        labels: Array,
        groups: Sequence[str],
        *,
        sources: Sequence[str],
        count: int,
        seed: int,
        each_alike: bool = False,
    ) -> None:
        self.base = np.ones(len(labels))
        if each_alike:
            places = [*zip(labels, sources, strict=True)]
            sizes: dict[tuple[float, str], int] = {}
            for place in places:
                sizes[place] = sizes.get(place, 0) + 1
            self.base = np.array([1 / sizes[place] for place in places])
        self._labels, self._groups = labels, np.array(groups, dtype=object)
        self._count, self._seed = count, seed
        self._kept: list[Array] = []

    def weights(self) -> Iterable[Array]:
        """The draws, (some, files) at a time; few enough of them are kept for the next score."""
        if self._count * len(self.base) > _MOST_KEPT_CELLS:
            return self._draw()
        self._kept = self._kept or [*self._draw()]
        return self._kept

    def _draw(self) -> Iterator[Array]:
        rng = np.random.default_rng(self._seed)
        step = max(1, _MOST_CELLS // max(1, len(self.base)))
        for start in range(0, self._count, step):
            counts = np.zeros((min(step, self._count - start), len(self.base)))
            for label in (0.0, 1.0):
                own = np.flatnonzero(self._labels == label)
                if not len(own):
                    continue
                names = sorted({str(name) for name in self._groups[own]})
                times = rng.multinomial(
                    len(names), np.full(len(names), 1 / len(names)), len(counts)
                )
                for name, drawn in zip(names, times.T, strict=True):
                    inside = own[self._groups[own] == name]
                    share = np.full(len(inside), 1 / len(inside))
                    counts[:, inside] = rng.multinomial(drawn * len(inside), share)
            yield counts * self.base


def estimate_all(labels: Array, scores: Array, draws: Draws) -> dict[str, Estimate | None]:
    """Every measure with its interval; None where a class is missing, or scores are no shares."""
    if len(set(labels)) < 2:
        return dict.fromkeys(MEASURES)
    values = measure(labels, scores, draws.base[None])
    parts = [measure(labels, scores, weights) for weights in draws.weights()]
    return {
        name: _with_interval(float(values[name][0]), np.concatenate([p[name] for p in parts]))
        for name in MEASURES
    }


def estimate_share(chosen: npt.NDArray[np.bool_], draws: Draws) -> Estimate:
    """The share of ``chosen`` files of one class. Where it is 0 or 1 in all of them, so it is in
    every draw, and the interval is the exact one of independent files (Clopper and Pearson 1934).
    """
    value, count = float(draws.base @ chosen / draws.base.sum()), len(chosen)
    if chosen.all() or not chosen.any():
        low, high = beta.ppf([_TAIL, 1 - _TAIL], [count, 1], [1, count])
        return (value, float(low), 1.0) if chosen.all() else (value, 0.0, float(high))
    parts = [weights @ chosen / weights.sum(axis=1) for weights in draws.weights()]
    return _with_interval(value, np.concatenate(parts)) or (value, value, value)


def _with_interval(value: float, drawn: Array) -> Estimate | None:
    """The percentile interval, widened to hold the value where the draws are biased."""
    if np.isnan(value):
        return None
    low, high = np.quantile(drawn, [_TAIL, 1 - _TAIL])
    return value, min(float(low), value), max(float(high), value)


def estimate_difference(
    labels: Array, scores: Mapping[str, Array], draws: Draws
) -> tuple[Estimate, float]:
    """How much higher the AUC of the second of two scores of the same files is, with its interval
    from draws that both share; and the share of draws on the less common side of nought, doubled:
    a two-sided p-value for sources drawn anew.
    """
    first, second = scores.values()

    def gap(weights: Array) -> Array:
        areas = [measure_auc(labels, values, weights) for values in (first, second)]
        return areas[1] - areas[0]

    value = float(gap(draws.base[None])[0])
    drawn = np.concatenate([gap(weights) for weights in draws.weights()])
    above, below = float(np.mean(drawn >= 0)), float(np.mean(drawn <= 0))
    found = _with_interval(value, drawn) or (value, value, value)
    return found, min(1.0, 2 * min(above, below))


def measure_auc(labels: Array, scores: Array, weights: Array) -> Array:
    """The area under the ROC curve of each draw."""
    curve = draw_curve(labels, scores, weights)
    return np.asarray(np.trapezoid(curve.true_positive, curve.false_positive, axis=1))


def compare_areas(labels: Array, first: Array, second: Array) -> float:
    """The two-sided p-value of DeLong et al. 1988 for equal AUC of two scores of the same files,
    as if all files were independent, by ranks as Sun and Xu 2014 compute it.
    """
    synthetic, genuine = labels == 1, labels == 0
    parts = []
    for scores in (first, second):
        ranks = rankdata(scores)
        above = (ranks[synthetic] - rankdata(scores[synthetic])) / genuine.sum()
        below = 1 - (ranks[genuine] - rankdata(scores[genuine])) / synthetic.sum()
        parts.append((above, below))
    variance = 0.0
    for one, other in zip(*parts, strict=True):
        gaps = other - one
        variance += float(gaps.var(ddof=1)) / len(gaps) if len(gaps) > 1 else np.inf
    gap = float(parts[1][0].mean() - parts[0][0].mean())
    if gap == 0 or not np.isfinite(variance):
        return 1.0
    return float(2 * norm.sf(abs(gap) / np.sqrt(variance))) if variance else 0.0
