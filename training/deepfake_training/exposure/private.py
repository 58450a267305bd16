"""What privacy costs a head and what it buys: ε against AUC on sources that were left out, and
against the likelihood-ratio attack.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import partial

import numpy as np
from tqdm import tqdm

from ..card import markdown
from ..metrics import separation, tpr_at_fpr
from ..own.head import join_head
from ..own.network import Linear
from ..privacy.descent import FULL_PACE, STEPS, Start, descend, fit_private, tensors_of
from ..privacy.design import Private, measure_scale
from ..privacy.guarantee import Budget
from .material import Mask, Shelf
from .membership import expose

NOTHING, REGRESSION = "none, the shipped head", "logistic regression"
STEPS_ALONE, NOISY = "the same steps, no noise", "DP-SGD"
EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
QUICK_EPSILONS = (1.0, 8.0)
DELTA = 1e-5


@dataclass(frozen=True)
class PrivateRow:
    """One kind of fit (``epsilon`` is infinite without noise), means over draws of the noise. AUC
    and TPR are those of ``deepfake train``: each synthetic source against the genuine ones that
    were left out with it, files as they are, and after changes. The last three are about
    membership.
    """

    fit: str
    epsilon: float
    noise: float
    auc: float
    auc_deviation: float
    auc_changed: float
    tpr_at_1: float
    member_auc: float
    member_tpr_at_1: float
    member_tpr_at_01: float


def study(
    shelf: Shelf,
    *,
    epsilons: Sequence[float],
    delta: float,
    repeats: int,
    shadows: int,
    seed: int,
) -> list[PrivateRow]:
    """A row for the head that the network came with, one for the logistic regression that
    ``deepfake train`` fits without a budget, one for the steps of DP-SGD without clipping and
    noise, and one for each ε.
    """
    rows = []
    plain = [(kind, math.inf) for kind in (NOTHING, REGRESSION, STEPS_ALONE)]
    kinds = [*plain, *((NOISY, epsilon) for epsilon in epsilons)]
    for kind, epsilon in tqdm(kinds, desc="ε", disable=None):
        budget = None if math.isinf(epsilon) else Budget(epsilon=epsilon, delta=delta)
        fit = partial(fit_at, shelf, kind, budget)
        again = 1 if budget is None else repeats
        tried = [try_heads(shelf, fit, seed=seed + 1000 * number) for number in range(again)]
        exposed = expose(shelf, lambda c, s, fit=fit: fit(c, s)[0], shadows=shadows, seed=seed)  # type: ignore[misc]
        clean, changed, tpr, noise = (np.array(values) for values in zip(*tried, strict=True))
        rows.append(
            PrivateRow(
                fit=kind,
                epsilon=epsilon,
                noise=float(noise[0]),
                auc=float(clean.mean()),
                auc_deviation=float(clean.std()),
                auc_changed=float(changed.mean()),
                tpr_at_1=float(tpr.mean()),
                member_auc=exposed.auc,
                member_tpr_at_1=exposed.tpr_at_1,
                member_tpr_at_01=exposed.tpr_at_01,
            )
        )
    return rows


def fit_at(
    shelf: Shelf, kind: str, budget: Budget | None, chosen: Mask, seed: int
) -> tuple[Linear, float]:
    """A head of the chosen files, and its noise multiplier. The seed is told, which only a
    study may do.
    """
    if kind == NOTHING:
        return shelf.original, 0.0
    started = shelf.shipped is not None
    if kind == REGRESSION:
        return shelf.fit(chosen), 0.0
    if kind == STEPS_ALONE:
        samples = shelf.samples(chosen)
        scale = measure_scale(samples, started=started)
        start = Start(*scale.start())
        given = tensors_of(samples, scale)
        found = descend(given, start, start, steps=STEPS, pace=FULL_PACE)
        raw, bias = scale.unscale(found.weights, found.bias)
        return join_head(raw, bias, shipped=shelf.shipped), 0.0
    assert budget is not None
    private = Private(budget, shelf.reference)
    raw, bias, ledger = fit_private(shelf.samples(chosen), private, started=started, seed=seed)
    return join_head(raw, bias, shipped=shelf.shipped), ledger.schedule.noise


def try_heads(
    shelf: Shelf, fit: partial[tuple[Linear, float]], *, seed: int
) -> tuple[float, float, float, float]:
    """Mean AUC over left-out synthetic sources of files as they are and changed, the mean TPR at
    1 % FPR of files as they are, and the noise multiplier.
    """
    plain: list[float] = []
    changed: list[float] = []
    tprs, noise = [], 0.0
    rows, files = shelf.lessons.rows[:, :-1], shelf.lessons.files
    for number, fold in enumerate(shelf.folds):
        head, noise = fit(shelf.outside(fold), seed + number)
        inside = ~shelf.outside(fold)
        for logits, place, areas in (
            (head(shelf.clean[:, :-1]), np.arange(len(shelf.files)), plain),
            (head(rows), files, changed),
        ):
            labels, sources = shelf.labels[place], shelf.sources[place]
            genuine = logits[inside[place] & (labels == 0)]
            for name in np.unique(sources[inside[place] & (labels == 1)]):
                own = logits[inside[place] & (sources == name)]
                areas.append(separation(own.tolist(), genuine.tolist()))
                if areas is plain:
                    both = np.concatenate([own, genuine])
                    known = np.repeat([1.0, 0.0], [len(own), len(genuine)])
                    tprs.append(tpr_at_fpr(known, both, fpr=0.01))
    return float(np.mean(plain)), float(np.mean(changed)), float(np.mean(tprs)), noise


def table(rows: Sequence[PrivateRow], *, delta: float) -> str:
    """The rows for a person."""
    head = ["fit", f"ε at δ = {delta:g}", "noise", "AUC", "±", "AUC changed", "TPR at 1 %"]
    head += ["member AUC", "member TPR at 1 %", "member TPR at 0.1 %"]
    cells = [
        [row.fit, None if math.isinf(row.epsilon) else f"{row.epsilon:g}", *astuple(row)[2:]]
        for row in rows
    ]
    return markdown(head, cells)
