"""What kinds of evidence about clips are worth alone and together, out of fold.

Together they are read in two ways: as the product does (see ``deepfake.fusion``), and by a logistic
regression on their log-odds with weights that are not negative, fitted on the other folds. Evidence
that a clip does not have counts 0, the log-odds of knowing nothing: whether there is a sound or a
face tells the collections of clips apart, and nothing that holds elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from ..calibrate import source_weights
from ..card import markdown
from ..evaluation.measures import Draws, estimate_difference
from ..metrics import auc, separation, tpr_at_fpr
from .material import FAMILIES

MANDATORY = "frames"
"""The evidence without which no clip is cleared."""
DRAWS = 1000

COLUMNS = ("clips", "AUC", "mean over systems", "TPR at 1 % FPR", *FAMILIES)
"""Of the rows of :func:`rank_clips`; under a family its AUC over all genuine clips."""

Array = npt.NDArray[np.float64]


class Labelled(Protocol):
    """What a clip is counted by."""

    @property
    def label(self) -> int: ...

    @property
    def source(self) -> str: ...

    @property
    def family(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A clip with the calibrated log-odds of the evidence that judged it, by what that looks at;
    ``present`` are those of the product's rule.
    """

    label: int
    source: str
    group: str
    fold: int
    family: str
    odds: Mapping[str, float]
    present: float


@dataclass(frozen=True)
class Fusion:
    """Log-odds of a clip from those of its evidence: a weight of at least 0 for each of ``names``,
    and an intercept. With ``raising`` all but :data:`MANDATORY` count only where they are above 0.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    intercept: float
    raising: bool

    def __call__(self, files: Sequence[Judged]) -> Array:
        """The log-odds (files,)."""
        values = _gather(files, self.names, raising=self.raising)
        return np.asarray(values @ np.array(self.weights) + self.intercept)


def fit_fusion(files: Sequence[Judged], names: Sequence[str], *, raising: bool) -> Fusion:
    """The regression in which both classes weigh alike, so do their groups, and their sources."""
    values = _gather(files, names, raising=raising)
    sides = np.where([file.label for file in files], 1.0, -1.0)
    shares = source_weights(files) / 2

    def loss(point: Array) -> tuple[float, Array]:
        margins = sides * (values @ point[:-1] + point[-1])
        slopes = -sides * shares * np.exp(-np.logaddexp(0, margins))
        return float(shares @ np.logaddexp(0, -margins)), np.append(slopes @ values, slopes.sum())

    bounds = [(0.0, None)] * len(names) + [(None, None)]
    start = np.append(np.ones(len(names)), 0.0)
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x.tolist()
    return Fusion(tuple(names), tuple(found[:-1]), found[-1], raising)


def fuse_out_of_fold(
    files: Sequence[Judged], names: Sequence[str], *, raising: bool
) -> npt.NDArray[np.float64]:
    """The log-odds (files,) of each by a regression on the other folds."""
    fused = np.zeros(len(files))
    for fold in {file.fold for file in files}:
        inside = [n for n, file in enumerate(files) if file.fold == fold]
        others = [file for file in files if file.fold != fold]
        fused[inside] = fit_fusion(others, names, raising=raising)([files[n] for n in inside])
    return fused


def tabulate_together(files: Sequence[Judged], *, seed: int) -> str:
    """Markdown: a row for every kind of evidence alone, on the clips that have it, and for all of
    it together by the product's rule and by regressions; what those gain over that rule, with 95 %
    intervals from groups drawn anew; and the weights of the regressions on all clips.
    """
    names = sorted({name for file in files for name in file.odds}, key=_rank)
    rows = []
    for name in names:
        own = [file for file in files if name in file.odds]
        odds = np.array([file.odds[name] for file in own])
        rows.append([f"{name} alone", *rank_clips(own, odds)])
    present = np.array([file.present for file in files])
    rows.append(["all, by the present rule", *rank_clips(files, present)])
    fits: dict[str, tuple[Sequence[str], bool]] = {
        "all, fitted": (names, False),
        "all, fitted, others only raise": (names, True),
    }
    for name in names:
        if name != MANDATORY and len(names) > 2:
            fits[f"fitted without {name}"] = ([one for one in names if one != name], True)
    gains, weights = [], []
    for title, (used, raising) in fits.items():
        fused = fuse_out_of_fold(files, used, raising=raising)
        rows.append([title, *rank_clips(files, fused)])
        gains.append([title, *_gain(files, present, fused, seed=seed)])
        fusion = fit_fusion(files, used, raising=raising)
        told = ", ".join(f"{n} {w:.2f}" for n, w in zip(used, fusion.weights, strict=True))
        weights.append(f"{title}: {told}, intercept {fusion.intercept:.2f}")
    gained = markdown(["evidence", "gain in AUC", "from", "to"], gains)
    return "\n".join([markdown(["evidence", *COLUMNS], rows), gained, *weights, ""])


def rank_clips(files: Sequence[Labelled], odds: Array) -> list[object]:
    """The :data:`COLUMNS` for clips with these log-odds (files,); NaN where a class is missing."""
    labels = np.array([float(file.label) for file in files])
    genuine = odds[labels == 0].tolist()

    def against(names: Sequence[str], every: Sequence[str]) -> list[float]:
        own = [(name, x) for name, x, label in zip(names, odds, labels, strict=True) if label]
        return [separation([x for other, x in own if other == name], genuine) for name in every]

    systems = [file.source for file in files]
    made = sorted({file.source for file in files if file.label})
    return [
        len(files),
        auc(labels, odds),
        float(np.mean(against(systems, made))) if made else float("nan"),
        tpr_at_fpr(labels, odds, fpr=0.01),
        *against([file.family for file in files], FAMILIES),
    ]


def _gain(files: Sequence[Judged], before: Array, after: Array, *, seed: int) -> Sequence[float]:
    labels = np.array([float(file.label) for file in files])
    groups, sources = [file.group for file in files], [file.source for file in files]
    draws = Draws(labels, groups, sources=sources, count=DRAWS, seed=seed)
    found, _ = estimate_difference(labels, {"before": before, "after": after}, draws)
    return found


def _gather(files: Sequence[Judged], names: Sequence[str], *, raising: bool) -> Array:
    values = np.array([[file.odds.get(name, 0.0) for name in names] for file in files])
    if raising:
        held = [number for number, name in enumerate(names) if name != MANDATORY]
        values[:, held] = np.maximum(values[:, held], 0.0)
    return values


def _rank(name: str) -> tuple[bool, str]:
    return name != MANDATORY, name
