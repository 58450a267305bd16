"""Two classes with a difference that is planted, and a small network whose head can learn it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepfake_training.export import Trained, write_bundle
from torch import nn

from deepfake.bundle import Applicability, Bundle, Calibration
from deepfake.preprocess import AudioPreprocess, ClipPreprocess, ImagePreprocess, Preprocess
from tests.bundles import POINTS, roughen, sign
from tests.media_files import image_bytes, scene, speech, wav_bytes

PREPROCESSES: dict[str, Preprocess] = {
    "image": ImagePreprocess(side_pixels=32, max_windows=2),
    "audio": AudioPreprocess(window_seconds=1.0, hop_seconds=1.0),
    "video": ClipPreprocess(side_pixels=16),
}


class Tiny(nn.Module):
    """A network for any batch that exports in a second: how strong colours and edges are."""

    def __init__(self, *, kind: str, features: int = 6) -> None:
        super().__init__()
        self.kind = kind
        convolution: Any = nn.Conv1d if kind == "audio" else nn.Conv2d
        self.first = convolution(1 if kind == "audio" else 3, features, 3, stride=2, bias=False)
        self.last = nn.Linear(features, 1)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if self.kind == "video":
            batch = batch.mean(dim=1)
        hidden = self.first(batch[:, None] if self.kind == "audio" else batch).abs()
        return self.last(hidden.flatten(2).mean(2)).squeeze(1)


def create_tiny(name: str, **options: Any) -> nn.Module:
    """In place of ``deepfake.networks.create``."""
    assert name == "tiny"
    return Tiny(**options)


def make_start(models: Path, slot: str) -> Bundle:
    """A bundle ``SLOT-1`` with a :class:`Tiny` that knows nothing yet, over any that is there."""
    torch.manual_seed(3)
    trained = Trained(
        network=Tiny(kind=slot).eval(),
        network_name="tiny",
        network_options={"kind": slot},
        preprocess=PREPROCESSES[slot],
        records=(),
        limits=Applicability(min_side_pixels=16, min_seconds=0.4),
        facts={},
    )
    calibration = Calibration(slope=1.0, intercept=0.0, spread=0.2, points=POINTS)
    bundle = write_bundle(
        trained,
        name=f"{slot}-1",
        calibration=calibration,
        metrics={},
        folder=models / f"{slot}-1",
    )
    (bundle.folder / "README.md").write_text(f"# {bundle.name}\n", encoding="utf-8")
    sign(bundle.folder)
    return bundle


def picture(seed: int, *, synthetic: bool) -> bytes:
    """A PNG; a synthetic one is redder."""
    pixels = scene(72, 64, seed=seed).astype(np.int16)
    pixels[..., 0] += 90 * synthetic
    return image_bytes(pixels.clip(0, 255).astype(np.uint8))


def sound(seed: int, *, synthetic: bool) -> bytes:
    """A WAV file of speech; a synthetic one is rougher."""
    samples = speech(1.2, seed=seed)
    return wav_bytes(roughen(samples) if synthetic else samples)


def fill(folder: Path, slot: str, *, files: int = 5, planted: bool = True) -> tuple[Path, Path]:
    """``genuine`` and ``synthetic`` with two sources each."""
    make, ends = {"image": (picture, "png"), "audio": (sound, "wav")}[slot]
    seed = 0
    for word, names in (("genuine", ("camera", "scanner")), ("synthetic", ("first", "second"))):
        for name in names:
            place = folder / word / name
            place.mkdir(parents=True)
            for _ in range(files):
                seed += 1
                content = make(seed, synthetic=planted and word == "synthetic")
                (place / f"{seed}.{ends}").write_bytes(content)
    return folder / "genuine", folder / "synthetic"
