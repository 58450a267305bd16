"""The recipe of the ``image`` slot: was this whole picture made by a generative model?

Decoded files → aligned fakes → a bank of perturbed couples → one network for every fold and one on
everything → out-of-fold logits of every file in every view.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from deepfake.bundle import Applicability
from deepfake.networks import PictureNet
from deepfake.perturb import PICTURE_VIEWS
from deepfake.preprocess import ImagePreprocess

from .autoencoder import load_autoencoder
from .export import Trained, export_onnx
from .image_bank import BankSettings, Drawer, build_bank
from .image_data import Picture, read_pictures
from .image_decoders import UPSAMPLERS, train_decoders
from .image_fakes import Pair, reconstruct
from .image_fit import FitSettings, fit, low_features, new_network, store_network
from .manifests import data_sha256
from .records import FileLogits, read_records, write_records

NETWORK = "picture_net"


def train(config: dict[str, Any], *, data: Path, weights: Path, output: Path) -> Trained:
    """Run the recipe, or what an interrupted run left of it; everything stays in ``output``."""
    started = time.monotonic()
    torch.set_flush_denormal(True)
    torch.set_num_threads(int(config["threads"]))
    cv2.setNumThreads(int(config["threads"]))
    preprocess = ImagePreprocess(**config["preprocess"])
    settings = FitSettings(**config["fit"])
    pictures = read_pictures(data / "image", folds=config["folds"])
    pairs = make_pairs(pictures, config["fakes"], weights=weights, output=output)
    drawer = Drawer(pictures, pairs, preprocess=preprocess, settings=BankSettings(**config["bank"]))
    bank = build_bank(drawer, folder=output / "bank")
    first = new_network(config["network"], weights=weights, seed=settings.seed)
    features: torch.Tensor | None = None
    records: list[FileLogits] = []
    networks: dict[int | None, PictureNet] = {}
    for fold in (*range(len(config["folds"])), None):
        stored = output / f"network-{'all' if fold is None else fold}.safetensors"
        network = new_network(config["network"], weights=weights, seed=settings.seed)
        if stored.exists():
            network.load_state_dict(load_file(stored))
        else:
            if features is None:
                features = low_features(first, bank, preprocess=preprocess)
            network = fit(
                network,
                bank,
                features,
                fold=fold,
                preprocess=preprocess,
                settings=settings,
                checkpoint=stored.with_suffix(".checkpoint"),
            )
            store_network(network, stored)
        networks[fold] = network.eval()
        if fold is not None:
            held_out = [picture for picture in pictures if picture.fold == fold]
            path = output / f"fold-{fold}.jsonl"
            if not path.exists():
                write_records(path, score(network, held_out, preprocess=preprocess, output=output))
            records += read_records(path)
    facts = {
        "seed": settings.seed,
        "data_sha256": data_sha256(picture.item for picture in pictures),
        "files": len(pictures),
        "couples": len(bank.crops),
        "aligned_couples": int(bank.aligned.sum()),
        "epochs": settings.epochs,
        "wall_seconds": round(time.monotonic() - started),
        "machine": f"{platform.machine()}, {config['threads']} thread",
        "folds": ["+".join(sources) for sources in config["folds"]],
        "tried": config.get("tried", []),
    }
    return Trained(
        network=networks[None].to(memory_format=torch.contiguous_format),
        network_name=NETWORK,
        network_options=dict(config["network"]),
        preprocess=preprocess,
        records=records,
        limits=Applicability(**config["limits"]),
        facts=facts,
    )


def make_pairs(
    pictures: Sequence[Picture], settings: dict[str, Any], *, weights: Path, output: Path
) -> list[Pair]:
    """Reconstructions of all genuine photos: by the published autoencoder, and each also by every
    second of our own decoders.
    """
    photos = [picture for picture in pictures if picture.label == 0]
    cache, seed = output / "pairs", int(settings["seed"])
    autoencoder = load_autoencoder(weights / "taef2.safetensors")
    pairs = reconstruct(photos, autoencoder.reconstruct, maker="taef2", cache=cache, seed=seed)
    family = train_decoders(
        [photo.pixels for photo in photos],
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
    compiled = openvino.Core().compile_model(path, "CPU", runtime)
    records = []
    for picture in tqdm(pictures, desc="scoring", unit="file", mininterval=5):
        for view, perturb in PICTURE_VIEWS.items():
            logits = compiled(preprocess(perturb(picture.pixels)).batch)["logits"]
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
