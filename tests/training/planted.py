"""Features with a difference between the classes that is planted, as shelves and samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from deepfake_training.exposure.material import Shelf
from deepfake_training.own.features import Known
from deepfake_training.own.folds import make_folds
from deepfake_training.own.head import Lessons
from deepfake_training.own.network import Linear
from deepfake_training.privacy.design import Samples

from deepfake.bundle import Bundle
from deepfake.types import Kind, MediaInfo

GENUINE = ("camera", "scanner", "phone")
SYNTHETIC = ("first", "second", "third")


def planted_rows(count: int, features: int, *, seed: int, gap: float = 1.6) -> tuple:
    """Rows (count, features + 1), the last a poor shipped logit, and labels (count,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    rows = 1 + 0.3 * rng.normal(0, 1, (count, features))
    rows[:, :4] += 0.15 * gap * (2 * labels - 1)[:, None]
    logits = 0.5 * (2 * labels - 1) + rng.normal(0, 1, count)
    return np.hstack([rows, logits[:, None]]).astype(np.float32), labels


def reference_of(features: int) -> np.ndarray:
    """What is public: about where the features lie."""
    return np.append(np.full(features, 0.9), 0.1)


def planted_samples(count: int, features: int, *, seed: int) -> Samples:
    """Files with two views each."""
    rows, labels = planted_rows(count, features, seed=seed)
    noise = np.random.default_rng(seed + 99).normal(0, 0.02, (2, *rows.shape)).astype(np.float32)
    both = np.stack([rows, rows]).astype(np.float32) + noise
    return Samples(both.transpose(1, 0, 2), np.ones((count, 2), np.bool_), labels, np.ones(count))


def planted_shelf(
    base: Bundle, *, files: int = 12, features: int = 10, seed: int = 1, gap: float = 1.6
) -> Shelf:
    """Three sources a class of so many files each, with two views that heads learn from."""
    known = [
        Known(
            Path(f"{name}-{number}"),
            name,
            label,
            MediaInfo(kind=Kind.IMAGE, format="png", sha256=f"{name}{number}", bytes=9),
            Path(),
        )
        for number in range(files)
        for pair in zip(GENUINE, SYNTHETIC, strict=True)
        for label, name in enumerate(pair)
    ]
    rows, labels = planted_rows(len(known), features, seed=seed, gap=gap)
    noise = np.random.default_rng(seed + 5).normal(0, 0.05, (2, *rows.shape)).astype(np.float32)
    shipped = Linear(np.zeros(features), 0.0)
    return Shelf(
        base=base,
        files=tuple(known),
        lessons=Lessons(
            np.concatenate([rows + noise[0], rows + noise[1]]), np.tile(np.arange(len(known)), 2)
        ),
        clean=rows,
        labels=labels,
        folds=tuple(make_folds(known, split="source", seed=seed)),
        original=shipped,
        shipped=shipped,
        reference=reference_of(features),
    )


def separated(logits: np.ndarray, labels: np.ndarray) -> float:
    """AUC, by counting pairs."""
    above = logits[labels == 1][:, None] - logits[labels == 0]
    return float(((above > 0) + (above == 0) / 2).mean())
