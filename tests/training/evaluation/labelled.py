"""A small labelled folder: dark pictures are genuine, bright ones synthetic, as the known bundles
(``tests/bundles.py``) see it; one of each class looks like the other.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from deepfake_training.evaluation.material import Sample
from deepfake_training.evaluation.run import Outcome

from tests.media_files import image_bytes, scene

SOURCES = {
    "genuine": {"camera": (30, 40, 50), "phone": (45, 55, 230)},
    "synthetic": {"alpha": (200, 210, 220), "beta": (190, 60, 240)},
}


def make_picture(level: int, *, seed: int = 0) -> bytes:
    grain = np.random.default_rng(seed).normal(0, 8, (48, 64, 3))
    pixels = scene(64, 48, seed=seed).astype(np.float32) / 8 + level - 16 + grain
    return image_bytes(np.clip(pixels, 0, 255).astype(np.uint8))


def make_folder(folder: Path) -> Path:
    """Twelve pictures of two sources a class."""
    for label, sources in SOURCES.items():
        for source, levels in sources.items():
            place = folder / label / source
            place.mkdir(parents=True)
            for number, level in enumerate(levels):
                (place / f"{number}.png").write_bytes(make_picture(level, seed=number))
    return folder


def make_sample(path: Path, *, synthetic: bool = False, source: str = "camera") -> Sample:
    return Sample(path=path, name=path.name, synthetic=synthetic, source=source, group=source)


def make_outcome(name: str, *, synthetic: bool, score: float, **values: object) -> Outcome:
    facts: dict[str, object] = {
        "sha256": hashlib.sha256(name.encode()).hexdigest(),
        "source": "alpha" if synthetic else "camera",
        "group": "alpha" if synthetic else "camera",
        "kind": "image",
        "view": "as-is",
        "verdict": "synthetic" if score > 0.9 else "inconclusive",
        "scores": {"fused": score, "image": score},
    }
    return Outcome(name=name, synthetic=synthetic, **facts | values)  # type: ignore[arg-type]
