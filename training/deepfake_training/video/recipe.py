"""The recipe of the ``video`` slot: was this clip generated, or manipulated over time?

Decoded clips → pseudo-fakes over time → a bank of couples of bursts → one network for every fold
and one on everything → out-of-fold logits of every clip in every view, and of minutes with an
insert.
"""

from __future__ import annotations

import platform
from collections import Counter
from pathlib import Path
from typing import Any

from deepfake.bundle import Applicability
from deepfake.networks.clips import ClipNet
from deepfake.preprocess import ClipPreprocess

from ..export import Trained
from ..fitting import fit_once, prepare_process
from ..manifests import data_sha256
from ..records import LongLogits
from ..timing import read_times, timed
from .bank import Bank, BankSettings, build_bank
from .fit import ClipFitSettings, fit, new_network, open_trunk, read_features
from .held_out import ClipLogits, Judge, join_minutes, pseudo_auc, to_record
from .material import Material
from .views import CLIP_VIEWS

NETWORK = "clip_net"


def train(config: dict[str, Any], *, data: Path, weights: Path, output: Path) -> Trained:
    """Run the recipe, or what an interrupted run left of it; everything stays in ``output``."""
    prepare_process(int(config["threads"]))
    with timed("data", output):
        material = Material(config, data=data, weights=weights, output=output)
        material.footage.prepare(material.clips, views=list(CLIP_VIEWS))
        bank = build_bank(
            material.drawer,
            settings=BankSettings(**config["bank"]),
            preprocess=material.preprocess,
            folder=output / "bank",
        )
    with timed("networks", output):
        trainer = Trainer(
            config, bank, preprocess=material.preprocess, weights=weights, output=output
        )
        networks = [trainer.network(fold) for fold in (*range(len(config["folds"])), None)]
    judge = Judge(material, trainer.find_features, folder=output / "tests")
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
        network_options=dict(config["network"]),
        preprocess=material.preprocess,
        records=[to_record(one) for one in judged if len(one.logits)],
        recordings=recordings,
        limits=Applicability(**config["limits"]),
        facts={
            "seed": trainer.settings.seed,
            "data_sha256": data_sha256(clip.item for clip in material.clips),
            "clips": len(material.clips),
            "couples": dict(sorted(Counter(bank.methods).items())),
            "epochs": trainer.settings.epochs,
            "wall_seconds": round(sum(read_times(output).values())),
            "machine": f"{platform.machine()} CPU, {config['threads']} thread",
            "folds": ["+".join(sources) for sources in config["folds"]],
            "share of couples with generated clips": trainer.settings.generated,
            "AUC on pseudo-fakes of left-out clips": pseudo_auc(pseudo),
            "tried": config.get("tried", []),
        },
    )


class Trainer:
    """Networks by the fold that they never saw (None: all data), fitted once and then read."""

    def __init__(
        self,
        config: dict[str, Any],
        bank: Bank,
        *,
        preprocess: ClipPreprocess,
        weights: Path,
        output: Path,
    ) -> None:
        self.options: dict[str, int | bool] = config["network"]
        self.settings = ClipFitSettings(**config["fit"])
        self.bank, self.weights, self.output = bank, weights, output
        blank = new_network(self.options, weights=weights)
        self.find_features = open_trunk(blank, preprocess=preprocess, path=output / "trunk.onnx")
        self.features = read_features(bank, self.find_features, path=output / "features.npy")

    def network(self, fold: int | None) -> ClipNet:
        name = "all" if fold is None else str(fold)

        def tune(network: ClipNet) -> ClipNet:
            couples = self.bank.without(fold, generated=self.settings.generated)
            return fit(
                network,
                self.bank,
                self.features,
                couples=couples,
                settings=self.settings,
                name=f"fold {name}",
            )

        network = new_network(self.options, weights=self.weights, seed=self.settings.seed)
        return fit_once(network, self.output / f"network-{name}.safetensors", tune)
