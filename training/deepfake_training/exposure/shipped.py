"""Whether a finished bundle gives away which files its network was trained on, where some of them
are known, and others of the same sources that were not.

Shadow networks would cost as much as the bundle did, each; so there are two cheaper attacks: the
loss alone (Yeom et al. 2018), and the likelihood ratio of normals fitted to the log-odds of
half of the members and half of the others, which is as if the attacker knew those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

from ..card import markdown
from ..metrics import auc, tpr_at_fpr
from .material import Shelf

Floats = npt.NDArray[np.float64]
SPLITS = 20


@dataclass(frozen=True)
class ShippedRow:
    """One bundle; 0.5 and the false-positive rate itself are chance. ``deviation`` is the standard
    error of ``loss_auc``.
    """

    bundle: str
    members: int
    others: int
    loss_auc: float
    deviation: float
    ratio_auc: float
    ratio_tpr_at_1: float


def study(shelf: Shelf, *, synthetic: bool, seed: int) -> ShippedRow:
    """The bundle whose features are on a shelf, its logit the last of them: files with label 0 are
    those that it may have seen, with label 1 those that it did not.
    """
    logits = shelf.clean[:, -1].astype(np.float64)
    return attack(
        shelf.base.name,
        logits[shelf.labels == 0],
        logits[shelf.labels == 1],
        synthetic=synthetic,
        seed=seed,
    )


def attack(
    bundle: str, members: Floats, others: Floats, *, synthetic: bool, seed: int
) -> ShippedRow:
    """``members`` and ``others`` are logits of one class, of files as they are."""
    sign = 1.0 if synthetic else -1.0
    inside, outside = sign * members, sign * others
    labels = np.repeat([1.0, 0.0], [len(inside), len(outside)])
    area = auc(labels, np.concatenate([inside, outside]))
    rng = np.random.default_rng(seed)
    areas, tprs = [], []
    for _ in range(SPLITS):
        known, asked = zip(*(_halve(some, rng) for some in (inside, outside)), strict=True)
        ratios = [_ratio(some, *known) for some in asked]
        truth = np.repeat([1.0, 0.0], [len(some) for some in asked])
        areas.append(auc(truth, np.concatenate(ratios)))
        tprs.append(tpr_at_fpr(truth, np.concatenate(ratios), fpr=0.01))
    return ShippedRow(
        bundle=bundle,
        members=len(inside),
        others=len(outside),
        loss_auc=area,
        deviation=_standard_error(area, len(inside), len(outside)),
        ratio_auc=float(np.mean(areas)),
        ratio_tpr_at_1=float(np.mean(tprs)),
    )


def _halve(values: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    order = rng.permutation(len(values))
    return values[order[: len(order) // 2]], values[order[len(order) // 2 :]]


def _ratio(values: Floats, inside: Floats, outside: Floats) -> Floats:
    def likelihood(known: Floats) -> Floats:
        deviation = max(float(known.std()), 1e-6)
        return np.asarray(-np.square((values - known.mean()) / deviation) / 2 - np.log(deviation))

    return np.asarray(likelihood(inside) - likelihood(outside))


def _standard_error(area: float, members: int, others: int) -> float:
    """Of an AUC (Hanley and McNeil 1982)."""
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (members - 1) * (first - area**2)
    variance += (others - 1) * (second - area**2)
    return float(np.sqrt(max(variance, 0.0) / (members * others)))


def table(rows: Sequence[ShippedRow]) -> str:
    """The rows for a person."""
    head = ["bundle", "members", "others", "AUC of the loss", "±", "AUC of the ratio"]
    return markdown([*head, "TPR at 1 % FPR"], [[*astuple(row)] for row in rows])
