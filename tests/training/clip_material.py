"""Clips of two classes for the recipes of clips, and bundles of pictures that these begin with."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepfake_training.export import Trained, write_bundle
from deepfake_training.export_large import linear_weights, write_full_bundle

from deepfake.bundle import Applicability, Bundle, Calibration
from deepfake.networks.clip import ClipPicture
from deepfake.networks.pictures import MobilePicture
from deepfake.preprocess import ImagePreprocess
from tests.bundles import POINTS
from tests.media_files import Pixels

SETTINGS = {
    "slot": "frame",
    "name": "frame-7",
    "threads": 1,
    "workers": 1,
    "folds": 2,
    "seed": 1,
    "material": ["video"],
    "boxes": "boxes.tsv",
    "image": "image-7",
    "penalty": 0.01,
    "limits": {"min_side_pixels": 96},
}
CALIBRATION = Calibration(slope=1.0, intercept=0.0, spread=0.2, points=POINTS)
FACES = {**SETTINGS, "slot": "face-large", "name": "face-7-large", "material": ["faces"]}
FACES |= {"preprocess": {"side_pixels": 224}, "limits": {"min_side_pixels": 48}}


def frames(label: int, seed: int, *, count: int = 14) -> list[Pixels]:
    """A drifting picture with noise; a synthetic one has a grid of four pixels."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[0:144, 0:176]
    made = []
    for number in range(count):
        slopes = 110 + 60 * np.sin((across + 2 * number) / rng.uniform(25, 30))
        grid = 25 * label * ((down % 4 < 2) ^ (across % 4 < 2))
        pixels = (slopes + grid + rng.normal(0, 9, down.shape)).clip(0, 255).astype(np.uint8)
        made.append(np.repeat(pixels[..., None], 3, axis=2))
    return made


def write_material(folder: Path, clips: Sequence[tuple[str, bytes, int, str, str]]) -> None:
    """A folder with a manifest of clips: name, content, label, system and note. The system is its
    repository too, but for the mark of clips side by side.
    """
    folder.mkdir(parents=True)
    lines = ["path\tsha256\tlabel\tsystem\trepo\toriginal_path\tnote"]
    for name, content, label, system, note in clips:
        (folder / name).write_bytes(content)
        sha256, word = hashlib.sha256(content).hexdigest(), "fake" if label else "real"
        group = system.removesuffix("#split")
        lines.append(f"{name}\t{sha256}\t{word}\t{system}\tsome/{group}\tdemo/{name}\t{note}")
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")


def write_recipe(path: Path, settings: Mapping[str, Any]) -> Path:
    """A recipe as a TOML file, with a card."""
    tables = {key: one for key, one in settings.items() if isinstance(one, dict)}
    tables["card"] = dict.fromkeys(("intended", "data", "recipe", "failures"), "words")
    lines = [f"{key} = {json.dumps(one)}" for key, one in settings.items() if key not in tables]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(one)}" for key, one in table.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def make_picture_models(folder: Path, known_models: Path) -> Path:
    """``image-7`` and ``image-7-large`` with fresh weights, one block of CLIP, and the known finder
    of faces.
    """
    shutil.copytree(known_models / "face-finder-1", folder / "face-finder-1")
    torch.manual_seed(0)
    write_bundle(
        _trained(MobilePicture(), "mobile_picture", 96),
        name="image-7",
        calibration=CALIBRATION,
        metrics={},
        folder=folder / "image-7",
    )
    write_large_pictures(folder, scales=1)
    return folder


def write_large_pictures(folder: Path, *, scales: int) -> Bundle:
    """``image-7-large`` at one scale or at two."""
    network = ClipPicture(first=1, last=1, scales=scales)
    return write_full_bundle(
        _trained(network, "clip_picture", 224 * scales, first=1, last=1, scales=scales),
        name="image-7-large",
        calibration=CALIBRATION,
        metrics={},
        quantised=linear_weights(network),
        folder=folder / "image-7-large",
    )


def _trained(network: torch.nn.Module, name: str, side: int, **options: int) -> Trained:
    return Trained(
        network=network.eval(),
        network_name=name,
        network_options=options,
        preprocess=ImagePreprocess(side_pixels=side, max_windows=2),
        records=[],
        limits=Applicability(min_side_pixels=96),
        facts={},
    )
