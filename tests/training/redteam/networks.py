"""Bundles of the shipped architectures with small random networks, for attacks that derive."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from deepfake import networks
from deepfake.bundle import WEIGHTS, Bundle, Calibration, QuickShare
from deepfake.preprocess import AudioPreprocess, ImagePreprocess, Preprocess
from tests.bundles import POINTS, make_models, sign

SPEECH = AudioPreprocess(window_seconds=1.0, hop_seconds=0.5)
SPEECH_AT_LARGE = AudioPreprocess(window_seconds=0.75, hop_seconds=0.75, max_windows=3)
PICTURES = ImagePreprocess(side_pixels=48, max_windows=4, overview=True)


def make_derivable(
    models: Path, name: str, *, quick: QuickShare | None = None, **calibration: float | int
) -> Bundle:
    """A bundle of pictures or speech of the known models with a random network of torch in its
    place, which the backend ``torch`` runs.
    """
    picture = name.startswith("image")
    network, options = ("face_net", {"stages": 2}) if picture else ("mobile_speech", {})
    torch.manual_seed(1)
    made = networks.create(network, **options)
    folder = models / name
    save_file(made.state_dict(), folder / WEIGHTS)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    bundle = Bundle.read(folder)
    preprocess: Preprocess = PICTURES
    if not picture:
        preprocess = SPEECH_AT_LARGE if name.endswith("-large") else SPEECH
    values: dict[str, float | int] = {"slope": 1.0, "intercept": 0.0, "spread": 0.1} | calibration
    bundle = replace(
        bundle,
        network=network,
        network_options=options,
        preprocess=preprocess,
        calibration=Calibration(points=POINTS, quick=quick, **values),  # type: ignore[arg-type]
        files={**bundle.files, WEIGHTS: {"sha256": digest, "precision": "fp32"}},
    )
    bundle.write(folder)
    sign(folder)
    return Bundle.read(folder)


def make_derivable_models(folder: Path) -> Path:
    """Random networks for pictures and speech, and no bundle for any other slot."""
    make_models(folder)
    for name in ("frame-1", "face-1", "face-finder-1", "video-1"):
        shutil.rmtree(folder / name)
    make_derivable(folder, "image-1", slope=3.0, intercept=-1.5)
    make_derivable(folder, "audio-1", slope=4.0, intercept=-5.0)
    return folder
