"""Both tiers as bundles: calibrated together, exported and described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from deepfake.bundle import DESCRIPTION, WEIGHTS, Bundle, QuickShare, Settled
from deepfake.types import OperatingPoints

from ..assess import assess, told
from ..calibrate import cross_calibrate, pool_logits, source_weights
from ..card import write_card
from ..export import metrics_to_dict, write_bundle
from ..export_large import linear_weights, write_full_bundle
from ..records import FileLogits, round_logits, write_records
from .recipe import BothTiers, WideRecipe

MOST_LOSS = 0.01
"""Of AUC, by which the cascade may fall behind the full tier."""


def write_bundles(
    recipe: WideRecipe, tiers: BothTiers, *, models: Path, output: Path
) -> tuple[Bundle, Bundle]:
    """The quick and the full bundle, the records of both in ``output``."""
    each_source = recipe.calibration.each_source
    quick_fit, sources, views, _ = assess(tiers.quick.records, each_source=each_source)
    quick_pooled = [
        pool_logits(one, top_fraction=quick_fit.top_fraction) for one in tiers.quick.records
    ]
    share = fit_share(tiers.full.records, quick_pooled)
    joined = add_quick(tiers.full.records, quick_pooled, share=share)
    write_records(output / "out_of_fold.jsonl", tiers.quick.records)
    write_records(output / "out_of_fold-large.jsonl", joined)
    full_fit, full_sources, full_views, _ = assess(joined, each_source=each_source)
    settled = choose_settled(
        cross_scores(tiers.quick.records, top_fraction=quick_fit.top_fraction),
        cross_scores(joined),
        np.array([one.label for one in joined]),
        points=quick_fit.points,
        loss=MOST_LOSS,
    )
    sources, full_sources = told(sources), told(full_sources)
    command = f"deepfake recipe evaluate training/configs/{recipe.name}.toml"
    quick = write_bundle(
        tiers.quick,
        name=recipe.name,
        calibration=quick_fit,
        metrics=metrics_to_dict(sources=sources, views=views),
        folder=models / recipe.name,
    )
    quick = replace(quick, settled=settled)
    quick.write(quick.folder)
    counted = None
    if share:
        counted = QuickShare(slope=share * full_fit.slope, sha256=quick.logit_sha256)
    large = models / f"{recipe.name}-large"
    full = write_full_bundle(
        tiers.full,
        name=f"{recipe.name}-large",
        calibration=replace(full_fit, top_fraction=1.0, quick=counted),
        metrics=metrics_to_dict(sources=full_sources, views=full_views),
        quantised=linear_weights(tiers.full.network),
        folder=large,
        shared=find_trunk(large, tiers.full.network_options),
    )
    for bundle, rows, tables in ((quick, sources, views), (full, full_sources, full_views)):
        write_card(
            bundle,
            sources=rows,
            views=tables,
            inserts=[],
            text=asdict(recipe.card),
            command=command,
            each_source=each_source,
        )
    return quick, full


def find_trunk(folder: Path, options: Mapping[str, Any]) -> Path | None:
    """The weights file of the full tier in ``folder``, if any, where that has the trunk of a
    network with these ``options``: CLIP never changes, and whoever stores files by content keeps
    one for all.
    """
    if not (folder / DESCRIPTION).exists():
        return None
    known = Bundle.read(folder).network_options
    same = all(known.get(key) == options[key] for key in ("first", "last"))
    return folder / WEIGHTS if same else None


def fit_share(own: Sequence[FileLogits], quick: Sequence[float]) -> float:
    """How much of the quick tier's pooled logit is added to the full one's mean logit: the ratio of
    their weights in a logistic regression on both, all groups weighing alike; never negative.
    """
    both = np.array([[np.mean(a.logits), b] for a, b in zip(own, quick, strict=True)])
    labels = [record.label for record in own]
    model = LogisticRegression(C=1e3).fit(both, labels, sample_weight=source_weights(own))
    first, second = model.coef_[0]
    return max(0.0, float(second / first)) if first > 0 else 0.0


def add_quick(
    own: Sequence[FileLogits], quick: Sequence[float], *, share: float
) -> list[FileLogits]:
    """Records of the full tier with ``share`` of the quick tier's pooled logit added."""
    return [
        replace(one, logits=round_logits([float(np.mean(one.logits)) + share * pooled]))
        for one, pooled in zip(own, quick, strict=True)
    ]


def choose_settled(
    quick: npt.NDArray[np.float64],
    full: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    *,
    points: OperatingPoints,
    loss: float,
) -> Settled:
    """The limits by which fewest files need the full tier while the cascade's AUC stays within
    ``loss`` of the full tier's. Both arrays (files,) are calibrated scores, out of fold. Only what
    the quick tier calls synthetic or without a sign, by its ``points``, can be settled. Where no
    limits do, every file is asked about.
    """
    least = roc_auc_score(labels, full) - loss
    best = (1.1, 0.0, 1.0)
    below, above = quick[quick < points.authentic], quick[quick >= points.synthetic]
    for low in (0.0, *(np.quantile(below, np.linspace(0.1, 1, 10)) if len(below) else ())):
        for high in (*(np.quantile(above, np.linspace(0, 0.9, 10)) if len(above) else ()), 1.0):
            asked = (quick > low) & (quick < high)
            if asked.mean() >= best[0]:
                continue
            if roc_auc_score(labels, np.where(asked, full, quick)) >= least:
                best = (float(asked.mean()), float(low), float(high))
    return Settled(low=best[1], high=best[2])


def cross_scores(
    records: Sequence[FileLogits], *, top_fraction: float = 1.0
) -> npt.NDArray[np.float64]:
    """Calibrated scores (records,), each by a calibration without its group."""
    scored = cross_calibrate(records, top_fraction=top_fraction)
    by_record = {id(one.record): one.score for one in scored}
    return np.array([by_record[id(record)] for record in records])
