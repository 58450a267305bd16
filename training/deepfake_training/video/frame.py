"""The recipe of the ``frame`` slot: single frames of videos, judged by a network tuned on couples
of pictures with one history, aligned fakes among them.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from deepfake.networks.pictures import PictureNet

from ..export import Trained, export_onnx
from ..files import read_times, timed
from ..fitting import fit_once, fold_file, prepare_process
from ..image.bank import Bank
from ..image.couples import CoupleRecipe, make_bank
from ..image.data import Picture, read_pictures
from ..image.fit import (
    CropFitSettings,
    PictureOptions,
    fit,
    low_features,
    new_network,
    separate,
)
from ..image.judging import judge_pictures, to_records
from ..manifests import data_sha256
from ..perturb import PICTURE_VIEWS
from ..records import FileLogits, read_records, write_records

NETWORK = "picture_net"


@dataclass(frozen=True, kw_only=True)
class FrameRecipe(CoupleRecipe):
    network: PictureOptions
    fit: CropFitSettings


def train(recipe: FrameRecipe, *, data: Path, weights: Path, output: Path) -> Trained:
    """Run the recipe, or what an interrupted run left of it; everything stays in ``output``."""
    prepare_process(recipe.threads)
    preprocess = recipe.preprocess
    with timed("data", output):
        pictures = read_pictures(data / "image", folds=recipe.folds)
        bank = make_bank(recipe, pictures, weights=weights, output=output, folder=output / "bank")
    records: list[FileLogits] = []
    folds = range(len(recipe.folds))

    @cache
    def find_features() -> torch.Tensor | None:
        network = new_network(recipe.network, weights=weights)
        return low_features(network, bank, preprocess=preprocess)

    def network_without(fold: int | None) -> PictureNet:
        return train_fold(recipe, bank, find_features, fold=fold, weights=weights, output=output)

    for fold in folds:
        network = network_without(fold)
        path = output / f"fold-{fold}.jsonl"
        if not path.exists():
            with timed(f"scores {fold}", output):
                scored = score(
                    network,
                    pictures,
                    fold=fold,
                    views=list(PICTURE_VIEWS),
                    judge=recipe,
                    graph=output / "fold.onnx",
                )
            write_records(path, scored)
        records += read_records(path)
    return Trained(
        network=network_without(None).to(memory_format=torch.contiguous_format),
        network_name=NETWORK,
        network_options=asdict(recipe.network),
        preprocess=preprocess,
        records=records,
        limits=recipe.limits,
        facts={
            "seed": recipe.fit.seed,
            "data_sha256": data_sha256(picture.item for picture in pictures),
            "files": len(pictures),
            "couples": len(bank.crops),
            "aligned_couples": int(bank.aligned.sum()),
            "epochs": recipe.fit.epochs,
            "wall_seconds": round(sum(read_times(output).values())),
            "machine": f"{platform.machine()} CPU, {recipe.threads} thread",
            "folds": ["+".join(sources) for sources in recipe.folds],
            "tried": recipe.tried,
        },
    )


def train_fold(
    recipe: FrameRecipe,
    bank: Bank,
    find_features: Callable[[], torch.Tensor | None],
    *,
    fold: int | None,
    weights: Path,
    output: Path,
) -> PictureNet:
    """The network that never saw ``fold`` (None: that saw all data), fitted once and then read."""
    stored = fold_file(output, fold)

    def tune(network: PictureNet) -> PictureNet:
        with timed(stored.stem, output):
            return fit(
                network,
                bank,
                find_features(),
                fold=fold,
                preprocess=recipe.preprocess,
                settings=recipe.fit,
                checkpoint=stored.with_suffix(".checkpoint"),
                objective=separate,
            )

    network = new_network(recipe.network, weights=weights, seed=recipe.fit.seed)
    return fit_once(network, stored, tune)


def score(
    network: PictureNet,
    pictures: Sequence[Picture],
    *,
    fold: int,
    views: Sequence[str],
    judge: FrameRecipe,
    graph: Path,
) -> list[FileLogits]:
    """Window logits, in every view, of the pictures that fold's network never saw, through the
    float32 graph that it is exported to.
    """
    side = judge.preprocess.side_pixels
    network = network.to(memory_format=torch.contiguous_format)
    export_onnx(network, np.zeros((2, 3, side, side), np.float32), graph)
    held = [picture for picture in pictures if picture.fold == fold or picture.reserved]
    return to_records(judge_pictures(graph, held, views=views, judge=judge), held, fold=fold)
