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
from safetensors.torch import load_file
from tqdm import tqdm

from deepfake.backends import import_openvino
from deepfake.bundle import Applicability
from deepfake.perturb import PICTURE_VIEWS
from deepfake.picture_networks import PictureNet
from deepfake.preprocess import ImagePreprocess

from .export import Trained, export_onnx
from .image import make_bank, prepare_process, read_times, timed
from .image_bank import Bank
from .image_data import Picture, read_pictures
from .image_fit import FitSettings, fit, low_features, new_network, separate, store_network
from .manifests import data_sha256
from .records import FileLogits, read_records, write_records

NETWORK = "picture_net"


def train(config: dict[str, Any], *, data: Path, weights: Path, output: Path) -> Trained:
    """Run the recipe, or what an interrupted run left of it; everything stays in ``output``."""
    prepare_process(config)
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
            held_out = [picture for picture in pictures if picture.fold == fold]
            with timed(f"scores {fold}", output):
                write_records(path, score(network, held_out, preprocess=preprocess, output=output))
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
        self.settings = FitSettings(**config["fit"])
        self.bank, self.preprocess = bank, preprocess
        self.weights, self.output = weights, output
        self._features: torch.Tensor | None = None

    def network(self, fold: int | None) -> PictureNet:
        name = "all" if fold is None else str(fold)
        stored = self.output / f"network-{name}.safetensors"
        network = new_network(self.options, weights=self.weights, seed=self.settings.seed)
        if stored.exists():
            network.load_state_dict(load_file(stored))
            return network.eval()
        with timed(f"network {name}", self.output):
            if self._features is None:
                self._features = low_features(network, self.bank, preprocess=self.preprocess)
            network = fit(
                network,
                self.bank,
                self._features,
                fold=fold,
                preprocess=self.preprocess,
                settings=self.settings,
                checkpoint=stored.with_suffix(".checkpoint"),
                objective=separate,
            )
        store_network(network, stored)
        return network


def score(
    network: PictureNet, pictures: Sequence[Picture], *, preprocess: ImagePreprocess, output: Path
) -> list[FileLogits]:
    """Window logits of every picture in every view, through the exported float32 graph."""
    path = output / "fold.onnx"
    network = network.to(memory_format=torch.contiguous_format)
    side = preprocess.side_pixels
    export_onnx(network, np.zeros((2, 3, side, side), np.float32), path)
    runtime = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = import_openvino().Core().compile_model(path, "CPU", runtime)
    records = []
    for picture in tqdm(pictures, desc="scoring", unit="file", mininterval=5):
        for view, perturb in PICTURE_VIEWS.items():
            crops = preprocess(perturb(picture.pixels)).batch
            logits = compiled(preprocess.scale(crops))["logits"]
            records.append(
                FileLogits(
                    path=picture.item.facts["path"],
                    label=picture.label,
                    source=picture.source,
                    group=picture.group,
                    fold=picture.fold,
                    view=view,
                    logits=tuple(round(float(logit), 5) for logit in logits),
                )
            )
    return records
