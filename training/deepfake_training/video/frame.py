"""The recipe of the ``frame`` slot: single frames of videos, judged by a network tuned on pictures.

Its couples and aligned fakes are made like those of the ``image`` slot, but a whole network is
trained on them: on compressed frames it ranks clips better than statistics do.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepfake.bundle import Applicability
from deepfake.networks.pictures import PictureNet
from deepfake.preprocess import ImagePreprocess

from ..export import Trained, export_onnx
from ..fitting import fit_once, prepare_process
from ..image.bank import Bank
from ..image.data import Picture, read_pictures
from ..image.fit import CropFitSettings, fit, low_features, new_network, separate
from ..image.recipe import make_bank, to_records
from ..image.statistics import run_pictures
from ..manifests import data_sha256
from ..perturb import PICTURE_VIEWS
from ..records import FileLogits, read_records, write_records
from ..timing import read_times, timed

NETWORK = "picture_net"


def train(config: dict[str, Any], *, data: Path, weights: Path, output: Path) -> Trained:
    """Run the recipe, or what an interrupted run left of it; everything stays in ``output``."""
    prepare_process(int(config["threads"]))
    preprocess = ImagePreprocess(**config["preprocess"])
    with timed("data", output):
        pictures = read_pictures(data / "image", folds=config["folds"])
        bank = make_bank(config, pictures, weights=weights, output=output, folder=output / "bank")
    records: list[FileLogits] = []
    folds = range(len(config["folds"]))
    trainer = Trainer(config, bank, preprocess=preprocess, weights=weights, output=output)
    for fold in folds:
        network = trainer.network(fold)
        path = output / f"fold-{fold}.jsonl"
        if not path.exists():
            with timed(f"scores {fold}", output):
                scored = score(
                    network,
                    pictures,
                    fold=fold,
                    views=list(PICTURE_VIEWS),
                    preprocess=preprocess,
                    graph=output / "fold.onnx",
                )
            write_records(path, scored)
        records += read_records(path)
    return Trained(
        network=trainer.network(None).to(memory_format=torch.contiguous_format),
        network_name=NETWORK,
        network_options=dict(config["network"]),
        preprocess=preprocess,
        records=records,
        limits=Applicability(**config["limits"]),
        facts={
            "seed": trainer.settings.seed,
            "data_sha256": data_sha256(picture.item for picture in pictures),
            "files": len(pictures),
            "couples": len(bank.crops),
            "aligned_couples": int(bank.aligned.sum()),
            "epochs": trainer.settings.epochs,
            "wall_seconds": round(sum(read_times(output).values())),
            "machine": f"{platform.machine()} CPU, {config['threads']} thread",
            "folds": ["+".join(sources) for sources in config["folds"]],
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
        preprocess: ImagePreprocess,
        weights: Path,
        output: Path,
    ) -> None:
        self.options: dict[str, int | bool] = config["network"]
        self.settings = CropFitSettings(**config["fit"])
        self.bank, self.preprocess = bank, preprocess
        self.weights, self.output = weights, output
        self._features: torch.Tensor | None = None

    def network(self, fold: int | None) -> PictureNet:
        name = "all" if fold is None else str(fold)
        stored = self.output / f"network-{name}.safetensors"

        def tune(network: PictureNet) -> PictureNet:
            with timed(f"network {name}", self.output):
                if self._features is None:
                    self._features = low_features(network, self.bank, preprocess=self.preprocess)
                return fit(
                    network,
                    self.bank,
                    self._features,
                    fold=fold,
                    preprocess=self.preprocess,
                    settings=self.settings,
                    checkpoint=stored.with_suffix(".checkpoint"),
                    objective=separate,
                )

        network = new_network(self.options, weights=self.weights, seed=self.settings.seed)
        return fit_once(network, stored, tune)


def score(
    network: PictureNet,
    pictures: Sequence[Picture],
    *,
    fold: int,
    views: Sequence[str],
    preprocess: ImagePreprocess,
    graph: Path,
) -> list[FileLogits]:
    """Window logits, in every view, of the pictures that fold's network never saw, through the
    float32 graph that it is exported to.
    """
    side = preprocess.side_pixels
    network = network.to(memory_format=torch.contiguous_format)
    export_onnx(network, np.zeros((2, 3, side, side), np.float32), graph)
    held = [picture for picture in pictures if picture.fold == fold or picture.reserved]
    files = run_pictures(graph, held, views=views, preprocess=preprocess)
    return to_records(files.statistics, files, held, fold=fold)
