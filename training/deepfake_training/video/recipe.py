"""The recipe of the ``video`` slot: was this clip generated, or manipulated over time?

Decoded clips → pseudo-fakes over time → a bank of couples of bursts → one network for every fold
and one on everything → out-of-fold logits of every clip in every view, and of minutes with an
insert.
"""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from deepfake.networks.clips import ClipNet
from deepfake.preprocess import ClipPreprocess

from ..export import Trained
from ..files import read_times, timed
from ..fitting import fit_once, fold_file, prepare_process
from ..manifests import data_sha256
from ..recipes import Folds, Recipe
from ..records import LongLogits
from .bank import Bank, BankSettings, build_bank
from .fit import (
    ClipFitSettings,
    ClipOptions,
    Floats,
    fit,
    new_network,
    open_trunk,
    read_features,
)
from .held_out import ClipLogits, Judge, join_minutes, pseudo_auc, to_record
from .material import Material
from .views import CLIP_VIEWS

NETWORK = "clip_net"


@dataclass(frozen=True, kw_only=True)
class MakerSettings:
    """For how many steps the decoders of our own are trained."""

    decoder_steps: int


@dataclass(frozen=True, kw_only=True)
class VideoRecipe(Recipe):
    threads: int
    folds: Folds
    preprocess: ClipPreprocess
    fakes: MakerSettings
    bank: BankSettings
    network: ClipOptions
    fit: ClipFitSettings


def train(recipe: VideoRecipe, *, data: Path, weights: Path, output: Path) -> Trained:
    """Run the recipe, or what an interrupted run left of it; everything stays in ``output``."""
    prepare_process(recipe.threads)
    with timed("data", output):
        material = Material(
            data,
            recipe,
            folds=recipe.folds,
            decoder_steps=recipe.fakes.decoder_steps,
            weights=weights,
            output=output,
        )
        material.footage.prepare(material.clips, views=list(CLIP_VIEWS))
        bank = build_bank(
            material.drawer,
            settings=recipe.bank,
            preprocess=material.preprocess,
            folder=output / "bank",
        )
    with timed("networks", output):
        find_features = open_trunk(
            new_network(recipe.network, weights=weights),
            preprocess=recipe.preprocess,
            path=output / "trunk.onnx",
        )
        features = read_features(bank, find_features, path=output / "features.npy")
        networks = train_folds(recipe, bank, features, weights=weights, output=output)
    judge = Judge(material, find_features, folder=output / "tests")
    judged: list[ClipLogits] = []
    recordings: list[LongLogits] = []
    pseudo: list[dict[str, list[float]]] = []
    with timed("scores", output):
        for fold, network in enumerate(networks[:-1]):
            clips = [clip for clip in material.clips if clip.fold == fold]
            judged += [
                judge.judge_clip(network, clip, view=view) for clip in clips for view in CLIP_VIEWS
            ]
            pseudo += [judge.judge_pseudo(network, clip) for clip in clips if not clip.label]
            recordings += join_minutes(judged, fold=fold, seed=fold)
    return Trained(
        network=networks[-1],
        network_name=NETWORK,
        network_options=asdict(recipe.network),
        preprocess=material.preprocess,
        records=[to_record(one) for one in judged if len(one.logits)],
        recordings=recordings,
        limits=recipe.limits,
        facts={
            "seed": recipe.fit.seed,
            "data_sha256": data_sha256(clip.item for clip in material.clips),
            "clips": len(material.clips),
            "couples": dict(sorted(Counter(bank.methods).items())),
            "epochs": recipe.fit.epochs,
            "wall_seconds": round(sum(read_times(output).values())),
            "machine": f"{platform.machine()} CPU, {recipe.threads} thread",
            "folds": ["+".join(sources) for sources in recipe.folds],
            "share of couples with generated clips": recipe.fit.generated,
            "AUC on pseudo-fakes of left-out clips": pseudo_auc(pseudo),
            "tried": recipe.tried,
        },
    )


def train_folds(
    recipe: VideoRecipe, bank: Bank, features: Floats, *, weights: Path, output: Path
) -> list[ClipNet]:
    """The networks that never saw a fold, and the one that saw all data; fitted once, then read."""

    def train_fold(fold: int | None) -> ClipNet:
        stored = fold_file(output, fold)

        def tune(network: ClipNet) -> ClipNet:
            return fit(
                network,
                bank,
                features,
                couples=bank.without(fold, generated=recipe.fit.generated),
                settings=recipe.fit,
                checkpoint=stored.with_suffix(".checkpoint"),
                name=stored.stem,
            )

        network = new_network(recipe.network, weights=weights, seed=recipe.fit.seed)
        return fit_once(network, stored, tune)

    return [train_fold(fold) for fold in (*range(len(recipe.folds)), None)]
