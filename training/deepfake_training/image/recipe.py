"""The recipe of the ``image`` slot: was this whole picture made by a generative model?

Decoded files → a bank of perturbed couples (aligned fakes among them on request) → statistics of
all crops and of all files in all views → small heads, for every fold and on everything →
out-of-fold logits of every file in every view.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from deepfake.networks.pictures import StatisticsNet, TrunkStatistics
from deepfake.preprocess import ImagePreprocess

from ..export import Trained
from ..files import read_times, timed
from ..fitting import prepare_process
from ..manifests import data_sha256
from ..perturb import PICTURE_VIEWS
from ..recipes import Folds, Recipe
from ..records import FileLogits, round_logits
from .autoencoder import load_autoencoder
from .bank import Bank, BankSettings, Drawer, build_bank
from .data import Picture, read_pictures
from .decoders import UPSAMPLERS, train_adversarial, train_decoders
from .fakes import Pair, reconstruct
from .heads import HeadSettings, fit_heads
from .statistics import PictureStatistics, Statistics, measure_bank, measure_pictures, new_network

NETWORK = "statistics_net"


@dataclass(frozen=True, kw_only=True)
class CopySettings:
    """For how many steps the decoders of our own are trained that make copies of photos."""

    seed: int
    decoder_steps: int
    adversarial_steps: int


@dataclass(frozen=True, kw_only=True)
class CoupleRecipe(Recipe):
    """What the recipes of pictures share: a bank of perturbed couples."""

    threads: int
    folds: Folds
    preprocess: ImagePreprocess
    fakes: CopySettings
    bank: BankSettings


@dataclass(frozen=True, kw_only=True)
class TrunkOptions:
    stages: int
    hidden: int
    dropped: float = 0.2


@dataclass(frozen=True, kw_only=True)
class ResidualOptions:
    hidden: int
    dropped: float = 0.2


@dataclass(frozen=True, kw_only=True)
class StatisticsOptions:
    """The parts of a :class:`StatisticsNet`, in their order."""

    trunk: TrunkOptions
    residual: ResidualOptions


@dataclass(frozen=True, kw_only=True)
class ImageRecipe(CoupleRecipe):
    """``workers`` processes compute statistics."""

    workers: int
    network: StatisticsOptions
    heads: HeadSettings


def train(recipe: ImageRecipe, *, data: Path, weights: Path, output: Path) -> Trained:
    """Run the recipe, or what an interrupted run left of it; everything stays in ``output``."""
    prepare_process(recipe.threads)
    preprocess, settings, workers = recipe.preprocess, recipe.heads, recipe.workers
    with timed("data", output):
        pictures = read_pictures(data / "image", folds=recipe.folds)
        bank = make_bank(recipe, pictures, weights=weights, output=output, folder=output / "bank")
    parts = asdict(recipe.network)
    network = new_network(parts, weights=weights)
    with timed("statistics", output):
        crops = measure_bank(
            network, bank, preprocess=preprocess, cache=output / "statistics", workers=workers
        )
        files = measure_pictures(
            network,
            pictures,
            views=list(PICTURE_VIEWS),
            judge=recipe,
            cache=output / "statistics",
            workers=workers,
        )
    with timed("heads", output):
        records: list[FileLogits] = []
        for fold in tqdm(range(len(recipe.folds)), desc="folds"):
            fit_heads(network, bank, crops, fold=fold, settings=settings)
            records += to_records(judge(network, files), files, pictures, fold=fold)
        fit_heads(network, bank, crops, fold=None, settings=settings)
    trunk = network.parts["trunk"]
    assert isinstance(trunk, TrunkStatistics)
    trunk.fold()
    parts["trunk"]["folded"] = True
    return Trained(
        network=network,
        network_name=NETWORK,
        network_options={"parts": parts},
        preprocess=preprocess,
        records=records,
        limits=recipe.limits,
        facts={
            "seed": settings.seed,
            "data_sha256": data_sha256(picture.item for picture in pictures),
            "files": len(pictures),
            "couples": len(bank.crops),
            "aligned_couples": int(bank.aligned.sum()),
            "epochs": settings.epochs,
            "wall_seconds": round(sum(read_times(output).values())),
            "machine": f"{platform.machine()} CPU, {workers} processes of one thread",
            "folds": ["+".join(sources) for sources in recipe.folds],
        },
    )


def make_bank(
    recipe: CoupleRecipe,
    pictures: Sequence[Picture],
    *,
    weights: Path,
    output: Path,
    folder: Path,
) -> Bank:
    """The couples of the recipe in ``folder``; copies of photos, which they need where it asks for
    aligned ones, in ``output``.
    """
    pairs: list[Pair] = []
    if recipe.bank.aligned:
        pairs = make_pairs(pictures, recipe.fakes, weights=weights, output=output)
    drawer = Drawer(pictures, pairs, preprocess=recipe.preprocess, settings=recipe.bank)
    return build_bank(drawer, folder=folder)


def make_pairs(
    pictures: Sequence[Picture], settings: CopySettings, *, weights: Path, output: Path
) -> list[Pair]:
    """Reconstructions of all genuine photos: by the published autoencoder, and each also by half of
    our own decoders.
    """
    photos = [picture for picture in pictures if picture.label == 0]
    cache, seed = output / "pairs", settings.seed
    autoencoder = load_autoencoder(weights / "taef2.safetensors")
    pairs = reconstruct(photos, autoencoder.reconstruct, maker="taef2", cache=cache, seed=seed)
    contents = [photo.pixels for photo in photos]
    family = train_decoders(
        contents,
        path=output / "decoders.safetensors",
        steps=settings.decoder_steps,
        seed=seed,
    )
    for index, upsampler in enumerate(UPSAMPLERS):
        pairs += reconstruct(
            photos[index % 2 :: 2],
            partial(family.reconstruct, upsampler=upsampler),
            maker=upsampler,
            cache=cache,
            seed=seed + 1 + index,
        )
    adversarial = train_adversarial(
        contents,
        path=output / "adversarial.safetensors",
        steps=settings.adversarial_steps,
        seed=seed,
    )
    pairs += reconstruct(
        photos[::2], adversarial.reconstruct, maker="adversarial", cache=cache, seed=seed + 9
    )
    return pairs


def judge(network: StatisticsNet, files: PictureStatistics) -> Statistics:
    """Logits of all windows (windows,)."""
    with torch.inference_mode():
        return np.asarray(network.judge(torch.from_numpy(files.statistics)).numpy())


def to_records(
    logits: Statistics, files: PictureStatistics, pictures: Sequence[Picture], *, fold: int
) -> list[FileLogits]:
    """Window logits, in every view, of the pictures that fold's network never saw: those of its own
    sources and the reserved ones of the others.
    """
    first = np.flatnonzero(np.diff(files.files * len(files.names) + files.views, prepend=-1))
    records = []
    for start, end in pairwise([*first, len(logits)]):
        picture = pictures[files.files[start]]
        if picture.fold != fold and not picture.reserved:
            continue
        records.append(
            FileLogits(
                path=picture.item.facts["path"],
                label=picture.label,
                source=picture.source,
                group=picture.group,
                fold=fold,
                view=files.names[files.views[start]],
                logits=round_logits(logits[start:end]),
                heard=picture.fold != fold,
            )
        )
    return records
