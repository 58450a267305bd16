"""The recipe of the ``face`` slot: was this face replaced, re-enacted or blended?

Genuine faces → couples of a genuine and a forged crop → one network fitted to couples of scenery →
from it one for every fold and one on everything → out-of-fold logits of every face in every view.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from deepfake.content.faces import Finder, YunetFinder
from deepfake.networks.faces import FaceNet
from deepfake.preprocess import FacePreprocess

from ..export import Trained, compile_graph, export_onnx
from ..files import read_times, timed
from ..fitting import Numbers, fit_once, fold_file, prepare_process
from ..image.autoencoder import load_autoencoder
from ..image.decoders import UPSAMPLERS, train_decoders
from ..manifests import data_sha256
from ..metrics import separation
from ..recipes import Folds, Recipe
from ..records import FileLogits, read_records, round_logits, write_records
from .bank import BankSettings, FaceDrawer
from .couples import Bank, build_bank
from .data import Portrait, read_items, read_portraits
from .fakes import Forger
from .fit import CropFitSettings, FaceOptions, fit, load_stages, low_features
from .scenery import read_scenery
from .views import CLIP_VIEWS, View, view_clips, view_portraits, view_swaps

NETWORK = "face_net"
TEACHER = "yunet_s_dynamic.onnx"


@dataclass(frozen=True, kw_only=True)
class ForgerSettings:
    """Where the decoders of our own are, below the folder of runs, or for how many steps they are
    trained.
    """

    seed: int
    decoders: str
    decoder_steps: int


@dataclass(frozen=True, kw_only=True)
class Scenery:
    """Pictures without faces that the first fit is on, and its settings."""

    sources: tuple[str, ...]
    bank: BankSettings
    fit: CropFitSettings


@dataclass(frozen=True, kw_only=True)
class LossShares:
    """See :class:`CoupleLoss`."""

    ranking: float
    pointing: float


@dataclass(frozen=True, kw_only=True)
class FaceRecipe(Recipe):
    """``left_out`` names the fold that must not see a method, ``outside`` sources that the
    calibration leaves out, ``cropped`` those that are judged in the view ``cropped`` too;
    ``most_faces``: see :func:`read_portraits`; ``cycles``: see :class:`FaceTrainer`.
    """

    threads: int
    cycles: int = 1
    folds: Folds
    outside: tuple[str, ...] = ()
    cropped: tuple[str, ...] = ()
    most_faces: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int]
    preprocess: FacePreprocess
    fakes: ForgerSettings
    bank: BankSettings
    scenery: Scenery
    network: FaceOptions
    loss: LossShares
    fit: CropFitSettings


def train(
    recipe: FaceRecipe,
    *,
    data: Path,
    weights: Path,
    output: Path,
    finder: Finder | None = None,
) -> Trained:
    """Run the recipe, or what an interrupted run left of it; everything stays in ``output``.

    ``finder`` finds the faces; by default the teacher among the weights.
    """
    prepare_process(recipe.threads)
    preprocess, folds = recipe.preprocess, recipe.folds
    with timed("data", output):
        portraits = read_portraits(
            read_items(data, folds=folds),
            finder or YunetFinder(weights / TEACHER),
            folds=folds,
            preprocess=preprocess,
            most_faces=recipe.most_faces,
            cache=output / "faces.jsonl",
        )
        drawer = FaceDrawer(
            portraits,
            make_forger(portraits, recipe.fakes, weights=weights, runs=output.parent),
            left_out=recipe.left_out,
            preprocess=preprocess,
            settings=recipe.bank,
        )
        bank = build_bank(drawer, folder=output / "bank")
    with timed("scenery", output):
        scenery = build_bank(
            FaceDrawer(
                read_scenery(data, sources=recipe.scenery.sources, fold=len(folds)),
                drawer.forger,
                left_out={},
                preprocess=preprocess,
                settings=recipe.scenery.bank,
            ),
            folder=output / "scenery",
        )
    trainer = FaceTrainer(recipe, bank, scenery, weights=weights, output=output)
    records: list[FileLogits] = []
    for fold in range(len(folds)):
        network = trainer.network(fold)
        path = output / f"fold-{fold}.jsonl"
        if not path.exists():
            with timed(f"scores {fold}", output):
                views = view_fold(portraits, drawer, fold=fold, recipe=recipe)
                write_records(path, score(network, views, preprocess=preprocess, output=output))
        records += read_records(path)
    return Trained(
        network=trainer.network(None).to(memory_format=torch.contiguous_format),
        network_name=NETWORK,
        network_options=asdict(recipe.network),
        preprocess=preprocess,
        records=[r for r in records if r.source not in recipe.outside and r.view not in CLIP_VIEWS],
        limits=recipe.limits,
        facts={
            **run_facts(recipe, portraits=portraits, trainer=trainer, output=output),
            "methods_left_out": [f"{name}: fold {fold}" for name, fold in drawer.left_out.items()],
            "outside": compare_outside(records, sources=recipe.outside),
            "tried": recipe.tried,
        },
    )


def run_facts(
    recipe: FaceRecipe, *, portraits: Sequence[Portrait], trainer: FaceTrainer, output: Path
) -> dict[str, Any]:
    """The facts of a run that a card states."""
    return {
        "seed": recipe.fit.seed,
        "data_sha256": data_sha256({p.item.path: p.item for p in portraits}.values()),
        "files": len({portrait.item.path for portrait in portraits}),
        "genuine_faces": sum(portrait.label == 0 for portrait in portraits),
        "couples": len(trainer.bank.crops),
        "couples_of_scenery": len(trainer.scenery.crops),
        "epochs": recipe.fit.epochs,
        "cycles": recipe.cycles,
        "epochs_of_scenery": recipe.scenery.fit.epochs,
        "wall_seconds": round(sum(read_times(output).values())),
        "machine": f"{platform.machine()} CPU, {recipe.threads} thread",
        "folds": ["+".join(sources) for sources in recipe.folds],
    }


def compare_outside(records: Sequence[FileLogits], *, sources: Sequence[str]) -> list[str]:
    """AUC of fakes that the calibration leaves out, against the genuine faces of their fold."""
    lines = []
    for source, view in dict.fromkeys((r.source, r.view) for r in records if r.source in sources):
        mine = [r for r in records if (r.source, r.view) == (source, view)]
        genuine = [r for r in records if (r.label, r.fold, r.view) == (0, mine[0].fold, view)]
        value = separation([r.logits[0] for r in mine], [r.logits[0] for r in genuine])
        lines.append(f"{source}, {view}: {len(mine)} faces, AUC {value:.2f}")
    return lines


def make_forger(
    portraits: Sequence[Portrait], settings: ForgerSettings, *, weights: Path, runs: Path
) -> Forger:
    """Forgers with the published autoencoder and our own small decoders, which are read from
    ``runs / settings.decoders`` or trained there on genuine faces.
    """
    path = runs / settings.decoders
    path.parent.mkdir(parents=True, exist_ok=True)
    family = train_decoders(
        [portrait.pixels for portrait in portraits if portrait.label == 0],
        path=path,
        steps=settings.decoder_steps,
        seed=settings.seed,
    )
    autoencoder = load_autoencoder(weights / "taef2.safetensors")
    own = {name: partial(family.reconstruct, upsampler=name) for name in UPSAMPLERS}
    return Forger({**own, "taef2": autoencoder.reconstruct})


@dataclass(frozen=True)
class CoupleLoss:
    """The loss of a :class:`FaceNet` on couples: cross-entropy of its logits; by ``ranking``, that
    the forged one scores higher than its genuine one; by ``pointing``, cross-entropy of where the
    forged crop was changed (the couple's mask; a genuine crop was changed nowhere).
    """

    bank: Bank
    shares: LossShares

    def __call__(
        self,
        network: FaceNet,
        crops: torch.Tensor,
        hidden: torch.Tensor,
        couples: Numbers,
        targets: torch.Tensor,
    ) -> torch.Tensor:
        logits, places = network.examine(crops, hidden)
        masks = torch.from_numpy(self.bank.masks[couples].astype(np.float32) / 255)
        changed = torch.stack([torch.zeros_like(masks), masks], dim=1).flatten(0, 1)
        changed = nn.functional.adaptive_avg_pool2d(changed, (places.shape[1], places.shape[2]))
        judge, odds = nn.functional.binary_cross_entropy_with_logits, logits.float()
        above = nn.functional.softplus(odds[::2] - odds[1::2]).mean()
        pointed = judge(places.float(), changed)
        shares = self.shares
        return judge(odds, targets) + shares.ranking * above + shares.pointing * pointed


class FaceTrainer:
    """Networks by the fold that they never saw (None: all data), fitted once and then read. All go
    on from one network that was fitted to scenery alone, through so many cycles of the learning
    rate, each from the averaged weights of the one before.
    """

    def __init__(
        self, recipe: FaceRecipe, bank: Bank, scenery: Bank, *, weights: Path, output: Path
    ) -> None:
        self.recipe, self.bank, self.scenery = recipe, bank, scenery
        self.weights, self.output = weights, output
        self._features: tuple[Bank, torch.Tensor] | None = None

    def network(self, fold: int | None) -> FaceNet:
        """The network that never saw ``fold``."""
        stored = fold_file(self.output, fold)

        def tune(network: FaceNet) -> FaceNet:
            network.load_state_dict(self.beginning().state_dict())
            for cycle in range(self.recipe.cycles):
                settings = replace(self.recipe.fit, seed=self.recipe.fit.seed + cycle)
                place = stored.with_stem(f"{stored.stem}-cycle-{cycle}")
                network = self._fit(network, self.bank, settings, fold=fold, stored=place)
            return network

        return fit_once(self._new(), stored, tune)

    def beginning(self) -> FaceNet:
        """The network that all others begin from."""
        network, stored = self._new(), self.output / "network-scenery.safetensors"
        load_stages(network, self.weights)
        settings = self.recipe.scenery.fit
        return self._fit(network, self.scenery, settings, fold=None, stored=stored)

    def _new(self) -> FaceNet:
        torch.manual_seed(self.recipe.fit.seed)
        return FaceNet(**asdict(self.recipe.network))

    def _fit(
        self,
        network: FaceNet,
        bank: Bank,
        settings: CropFitSettings,
        *,
        fold: int | None,
        stored: Path,
    ) -> FaceNet:
        preprocess = self.recipe.preprocess

        def tune(network: FaceNet) -> FaceNet:
            with timed(stored.stem, self.output):
                if self._features is None or self._features[0] is not bank:
                    self._features = bank, low_features(network, bank, preprocess=preprocess)
                return fit(
                    network,
                    bank,
                    self._features[1],
                    fold=fold,
                    preprocess=preprocess,
                    settings=settings,
                    checkpoint=stored.with_suffix(".checkpoint"),
                    objective=CoupleLoss(bank, self.recipe.loss),
                )

        return fit_once(network, stored, tune)


def view_fold(
    portraits: Sequence[Portrait], drawer: FaceDrawer, *, fold: int, recipe: FaceRecipe
) -> Iterable[View]:
    """All that a fold's network is tested on: nothing from the sources of the scenery."""
    known = recipe.scenery.sources
    held_out = [p for p in portraits if p.fold == fold and p.source not in known]
    views = chain(
        view_portraits(held_out, judge=recipe, cropped=recipe.cropped),
        view_clips(held_out, judge=recipe),
    )
    if fold in drawer.left_out.values():
        return chain(views, view_swaps(held_out, drawer, judge=recipe))
    return views


def score(
    network: FaceNet, views: Iterable[View], *, preprocess: FacePreprocess, output: Path
) -> list[FileLogits]:
    """One logit for every view, through the exported float32 graph."""
    path, side = output / "fold.onnx", preprocess.side_pixels
    network = network.to(memory_format=torch.contiguous_format)
    export_onnx(network, np.zeros((2, 3, side, side), np.float32), path)
    compiled = compile_graph(path, threads=torch.get_num_threads())
    records = []
    waiting = iter(tqdm(views, desc="scoring", unit="face", mininterval=5))
    while some := list(islice(waiting, 32)):
        logits = compiled(preprocess.scale(np.stack([view.crop for view in some])))["logits"]
        records += [
            replace(view.record, logits=round_logits([logit]))
            for view, logit in zip(some, logits, strict=True)
        ]
    return records
