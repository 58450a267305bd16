"""Designs, augmentations and kinds of fakes for the ``image`` slot, compared on the same folds.

Every candidate changes a base configuration in a few places. What candidates share (couples,
statistics) is made once. ``tuned`` candidates train a convolutional network end to end instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deepfake.preprocess import ImagePreprocess

from ..calibrate import choose_pooling, fit_calibration
from ..metrics import tabulate
from ..records import FileLogits, read_records, unheard, write_records
from ..video.frame import score
from .bank import Bank
from .data import Picture, read_pictures
from .fit import FitSettings, fit, low_features, separate
from .fit import new_network as new_tuned_network
from .heads import HeadSettings, fit_heads
from .recipe import judge, make_bank, prepare_process, to_records
from .statistics import describe_bank, describe_pictures, new_network


@dataclass(frozen=True)
class DesignRow:
    """One candidate in one view: mean AUC over the generators, each left out together with the
    genuine sources that it is compared with; the worst; the mean against unseen photos of known
    sources (``system_auc``); TPR at 1 % FPR of all files; the highest share of one genuine source's
    files that would be called synthetic.
    """

    candidate: str
    view: str
    mean_auc: float
    worst_auc: float
    system_auc: float
    tpr_at_1: float
    worst_false_positives: float


def compare_designs(
    config: dict[str, Any], base: dict[str, Any], *, data: Path, weights: Path, output: Path
) -> list[DesignRow]:
    """Rate every candidate of ``config``; the logits of each stay in ``output / "compare"``."""
    prepare_process(base)
    folder = output / "compare"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = read_pictures(data / "image", folds=base["folds"])
    rows = []
    for candidate in config["candidates"]:
        changed = change(base, config.get("all", {}), candidate)
        key = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:12]
        path = folder / f"records-{key}.jsonl"
        if not path.exists():
            records = run_candidate(
                changed, pictures, views=config["views"], weights=weights, output=output
            )
            write_records(path, records)
        rows += rate(read_records(path), candidate=str(candidate["name"]))
        print(
            *(f"{r.candidate}, {r.view}: {r.mean_auc:.3f}" for r in rows[-len(config["views"]) :])
        )
    return rows


def change(base: dict[str, Any], *changes: dict[str, Any]) -> dict[str, Any]:
    """The base configuration with the tables of the changes laid over its own; a ``network`` takes
    the place of the base's.
    """
    kept = ("preprocess", "fakes", "bank", "network", "heads", "folds", "threads", "workers")
    result: dict[str, Any] = {name: base[name] for name in kept}
    for some in changes:
        for name, value in some.items():
            if name == "network":
                result[name] = value
            elif isinstance(value, dict):
                result[name] = {**result.get(name, {}), **value}
            elif name != "name":
                result[name] = value
    return result


def run_candidate(
    config: dict[str, Any],
    pictures: Sequence[Picture],
    *,
    views: Sequence[str],
    weights: Path,
    output: Path,
) -> list[FileLogits]:
    """Out-of-fold logits of one candidate of the run in ``output``."""
    folder = output / "compare"
    material = {name: config[name] for name in ("bank", "fakes", "preprocess", "folds")}
    place = hashlib.sha256(json.dumps(material, sort_keys=True).encode()).hexdigest()[:12]
    bank = make_bank(
        config, pictures, weights=weights, output=output, folder=folder / f"bank-{place}"
    )
    preprocess = ImagePreprocess(**config["preprocess"])
    if "tuned" in config:
        return run_tuned(
            config,
            bank,
            pictures,
            views=views,
            preprocess=preprocess,
            weights=weights,
            folder=folder,
        )
    random_trunk = bool(config.get("random_trunk"))
    network = new_network(config["network"], weights=None if random_trunk else weights)
    cache, workers = folder / "statistics", int(config["workers"])
    crops = describe_bank(network, bank, preprocess=preprocess, cache=cache, workers=workers)
    files = describe_pictures(
        network, pictures, views=views, preprocess=preprocess, cache=cache, workers=workers
    )
    records = []
    for fold in range(len(config["folds"])):
        fit_heads(network, bank, crops, fold=fold, settings=HeadSettings(**config["heads"]))
        records += to_records(judge(network, files), files, pictures, fold=fold)
    return records


def run_tuned(
    config: dict[str, Any],
    bank: Bank,
    pictures: Sequence[Picture],
    *,
    views: Sequence[str],
    preprocess: ImagePreprocess,
    weights: Path,
    folder: Path,
) -> list[FileLogits]:
    """The same of a network that is trained as a whole, which keeps checkpoints in ``folder``."""
    settings = FitSettings(**config["tuned"])
    features: torch.Tensor | None = None
    records: list[FileLogits] = []
    for fold in range(len(config["folds"])):
        network = new_tuned_network(config["network"], weights=weights, seed=settings.seed)
        if features is None:
            features = low_features(network, bank, preprocess=preprocess)
        network = fit(
            network,
            bank,
            features,
            fold=fold,
            preprocess=preprocess,
            settings=settings,
            checkpoint=folder / f"{config['tuned_name']}-{fold}.checkpoint",
            objective=separate,
        )
        records += score(
            network,
            pictures,
            fold=fold,
            views=views,
            preprocess=preprocess,
            graph=folder / f"{config['tuned_name']}-{fold}.onnx",
            workers=int(config["workers"]),
        )
    return records


def rate(records: Sequence[FileLogits], *, candidate: str) -> list[DesignRow]:
    """One row for each view."""
    unseen = unheard(records)
    calibration = fit_calibration(unseen, top_fraction=choose_pooling(unseen))
    _, views = tabulate(records, calibration)
    return [
        DesignRow(
            candidate,
            row.view,
            row.mean_auc,
            row.worst_auc,
            row.system_auc,
            row.tpr_at_1,
            row.worst_false_positives,
        )
        for row in views
    ]
