"""The recipe of the ``image`` slot: was this whole picture made by a generative model?

Decoded files → aligned fakes → a bank of perturbed couples → one network for every fold and one on
everything → out-of-fold logits of every file in every view.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from deepfake.backends import import_openvino
from deepfake.bundle import Applicability
from deepfake.perturb import PICTURE_VIEWS
from deepfake.picture_networks import PictureNet
from deepfake.preprocess import ImagePreprocess

from .autoencoder import load_autoencoder
from .export import Trained, export_onnx
from .image_bank import Bank, BankSettings, Drawer, build_bank
from .image_data import Picture, read_pictures
from .image_decoders import UPSAMPLERS, train_adversarial, train_decoders
from .image_fakes import Pair, reconstruct
from .image_fit import FitSettings, fit, low_features, new_network, separate, store_network
from .manifests import data_sha256
from .records import FileLogits, read_records, write_records

NETWORK = "picture_net"


def train(config: dict[str, Any], *, data: Path, weights: Path, output: Path) -> Trained:
    """Run the recipe, or what an interrupted run left of it; everything stays in ``output``."""
    torch.set_flush_denormal(True)
    torch.set_num_threads(int(config["threads"]))
    cv2.setNumThreads(int(config["threads"]))
    preprocess = ImagePreprocess(**config["preprocess"])
    with timed("data", output):
        pictures = read_pictures(data / "image", folds=config["folds"])
        pairs = make_pairs(pictures, config["fakes"], weights=weights, output=output)
        drawer = Drawer(
            pictures, pairs, preprocess=preprocess, settings=BankSettings(**config["bank"])
        )
        bank = build_bank(drawer, folder=output / "bank")
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


@contextmanager
def timed(name: str, output: Path) -> Iterator[None]:
    """Add the wall time of a step to ``seconds.json``, so that a resumed run knows the whole."""
    started = time.monotonic()
    try:
        yield
    finally:
        times = read_times(output)
        times[name] = times.get(name, 0.0) + time.monotonic() - started
        (output / "seconds.json").write_text(json.dumps(times, indent=2) + "\n", encoding="utf-8")


def read_times(output: Path) -> dict[str, float]:
    """Seconds by step, as :func:`timed` wrote them."""
    path = output / "seconds.json"
    times: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return times


def make_pairs(
    pictures: Sequence[Picture], settings: dict[str, Any], *, weights: Path, output: Path
) -> list[Pair]:
    """Reconstructions of all genuine photos: by the published autoencoder, and each also by half of
    our own decoders.
    """
    photos = [picture for picture in pictures if picture.label == 0]
    cache, seed = output / "pairs", int(settings["seed"])
    autoencoder = load_autoencoder(weights / "taef2.safetensors")
    pairs = reconstruct(photos, autoencoder.reconstruct, maker="taef2", cache=cache, seed=seed)
    contents = [photo.pixels for photo in photos]
    family = train_decoders(
        contents,
        path=output / "decoders.safetensors",
        steps=int(settings["decoder_steps"]),
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
        steps=int(settings["adversarial_steps"]),
        seed=seed,
    )
    pairs += reconstruct(
        photos[::2], adversarial.reconstruct, maker="adversarial", cache=cache, seed=seed + 9
    )
    return pairs


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
