"""The recipe of the ``video`` slot: was this clip generated, or manipulated over time?

Decoded clips → pseudo-fakes over time → a bank of couples of bursts → one network for every fold
and one on everything → out-of-fold logits of every clip in every view, and of minutes with an
insert.
"""

from __future__ import annotations

import json
import platform
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import load_file

from deepfake.bundle import Applicability
from deepfake.networks.clips import ClipNet
from deepfake.preprocess import ClipPreprocess

from ..audio.inserts import LongLogits
from ..export import Trained
from ..image.fit import store_network
from ..manifests import data_sha256
from .bank import Bank, BankSettings, build_bank
from .fit import (
    Describe,
    FitSettings,
    Floats,
    describe_bank,
    fit,
    judge,
    new_network,
    open_describer,
)
from .footage import VIEWS, Clip, Stack
from .held_out import ClipLogits, draw_pseudo, join_minutes, pseudo_auc, to_record
from .material import Material

NETWORK = "clip_net"


def train(config: dict[str, Any], *, data: Path, weights: Path, output: Path) -> Trained:
    """Run the recipe, or what an interrupted run left of it; everything stays in ``output``."""
    started = time.monotonic()
    torch.set_flush_denormal(True)
    torch.set_num_threads(int(config["threads"]))
    cv2.setNumThreads(int(config["threads"]))
    material = Material(config, data=data, weights=weights, output=output)
    material.footage.prepare(material.clips, views=list(VIEWS))
    bank = build_bank(
        material.drawer,
        settings=BankSettings(**config["bank"]),
        preprocess=material.preprocess,
        folder=output / "bank",
    )
    trainer = Trainer(config, bank, preprocess=material.preprocess, weights=weights, output=output)
    tests = Tests(material, trainer.describe, output=output)
    judged: list[ClipLogits] = []
    recordings: list[LongLogits] = []
    pseudo: list[dict[str, list[float]]] = []
    for fold in range(len(config["folds"])):
        network = trainer.network(fold)
        clips = [clip for clip in material.clips if clip.fold == fold]
        judged += [tests.judge(network, clip, view=view) for clip in clips for view in VIEWS]
        pseudo += [tests.judge_pseudo(network, clip) for clip in clips if not clip.item.label]
        recordings += join_minutes(judged, fold=fold, seed=fold)
    return Trained(
        network=trainer.network(None),
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
            "wall_seconds": round(_add_time(output, time.monotonic() - started)),
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
        self.settings = FitSettings(**config["fit"])
        self.bank, self.weights, self.output = bank, weights, output
        blank = new_network(self.options, weights=weights)
        self.describe = open_describer(blank, preprocess=preprocess, path=output / "describer.onnx")
        self.described = describe_bank(bank, self.describe, path=output / "described.npy")

    def network(self, fold: int | None) -> ClipNet:
        name = "all" if fold is None else str(fold)
        stored = self.output / f"network-{name}.safetensors"
        network = new_network(self.options, weights=self.weights, seed=self.settings.seed)
        if stored.exists():
            network.load_state_dict(load_file(stored))
            return network.eval()
        couples = self.bank.without(fold, generated=self.settings.generated)
        network = fit(
            network,
            self.bank,
            self.described,
            couples=couples,
            settings=self.settings,
            name=f"fold {name}",
        )
        store_network(network, stored)
        return network


class Tests:
    """Bursts to test on with their descriptions, which no fold changes and which are so kept."""

    def __init__(self, material: Material, describe: Describe, *, output: Path) -> None:
        self.material, self.describe = material, describe
        self.folder = output / "tests"
        self.folder.mkdir(parents=True, exist_ok=True)

    def judge(self, network: ClipNet, clip: Clip, *, view: str) -> ClipLogits:
        """The logits of all bursts of a clip in a view."""
        bursts = self.material.footage.bursts(clip, view=view)
        logits: list[float] = []
        if len(bursts.frames):
            described = self._described(clip, view, bursts.frames)
            logits = judge(network, bursts.frames, described)
        return ClipLogits(clip, view, np.array(logits), bursts.seconds, bursts.kinds)

    def judge_pseudo(self, network: ClipNet, clip: Clip) -> dict[str, list[float]]:
        """Logits of a genuine clip's bursts by the maker that changed them."""
        path = self._path(clip, "pseudo-bursts")
        if not path.exists():
            takes = self.material.takes([clip])
            made = draw_pseudo(
                takes, self.material.makers, preprocess=self.material.preprocess, seed=1
            )
            np.savez(path, names=np.array(list(made)), bursts=np.stack(list(made.values())))
        with np.load(path, allow_pickle=False) as stored:
            names, bursts = stored["names"], stored["bursts"]
        whole, count = bursts.reshape(-1, *bursts.shape[2:]), bursts.shape[1]
        logits = judge(network, whole, self._described(clip, "pseudo", whole))
        return {str(name): logits[i * count : (i + 1) * count] for i, name in enumerate(names)}

    def _described(self, clip: Clip, name: str, bursts: Stack) -> Floats:
        path = self._path(clip, name)
        if not path.exists():
            np.savez(path, described=self.describe(bursts))
        with np.load(path, allow_pickle=False) as stored:
            described: Floats = stored["described"]
        return described

    def _path(self, clip: Clip, name: str) -> Path:
        return self.folder / f"{clip.item.facts['sha256'][:20]}-{name}.npz"


def _add_time(output: Path, seconds: float) -> float:
    """The wall time of all runs in ``output``, this one's ``seconds`` added."""
    path = output / "seconds.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else 0.0
    path.write_text(json.dumps(before + seconds) + "\n", encoding="utf-8")
    return float(before + seconds)
