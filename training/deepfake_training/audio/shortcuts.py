"""What tells the classes apart without a look at synthesis, before and after equalisation.

Bandwidth, pauses and level differ between pages for reasons of their own. A classifier of these
alone, fitted on one half of the pages and asked about the other, should know nothing of what a
network is trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier

from deepfake.preprocess import AudioPreprocess, Samples

from ..files import read_lines, write_lines
from ..known import Known
from ..metrics import auc
from ..perturb import SAMPLE_RATE
from .recordings import Recordings
from .tuned import Batches

PIECES = 1500
"""Of each half."""
_GROUPS = {"bandwidth": slice(0, 3), "pauses": slice(3, 6), "level": slice(6, 7)}


def measure_shortcuts(
    files: Sequence[Known],
    recordings: Recordings,
    *,
    preprocess: AudioPreprocess,
    path: Path,
    seed: int,
) -> dict[str, dict[str, float]]:
    """AUC of each kind of description and of all together, by half of the pages asked about the
    other (the mean of both), of pieces "as they are" and as training "equalised" them; or what
    ``path`` tells of it already.
    """
    if path.exists():
        return dict(read_lines(path))
    folds = np.array([file.fold for file in files])
    told: dict[str, dict[str, float]] = {}
    for manner in ("as they are", "equalised"):
        halves = []
        for half in (0, 1):
            batches = Batches(
                files, recordings, chosen=folds == half, preprocess=preprocess, seed=seed
            )
            pieces, labels = batches.pieces(PIECES, changed=manner == "equalised")
            halves.append((np.stack([describe(piece) for piece in pieces]), labels))
        for name, columns in (*_GROUPS.items(), ("all", slice(None))):
            areas = [_ask(halves[one], halves[1 - one], columns) for one in (0, 1)]
            told.setdefault(name, {})[manner] = round(float(np.mean(areas)), 3)
    write_lines(path, told.items())
    return told


def describe(samples: Samples) -> npt.NDArray[np.float64]:
    """Frequencies below which 95, 99 and 99.9 % of the power lie, how far the 5th, 20th and 50th
    percentile of the level of 20 ms frames lie below the 95th, and the level of all (7,).
    """
    power = np.square(np.abs(np.fft.rfft(samples.astype(np.float64))))
    below = np.cumsum(power) / max(power.sum(), 1e-12)
    edges = np.searchsorted(below, (0.95, 0.99, 0.999)) * SAMPLE_RATE / len(samples)
    frames = samples[: len(samples) // 320 * 320].reshape(-1, 320).astype(np.float64)
    decibels = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-9)
    low = np.percentile(decibels, 95) - np.percentile(decibels, (5, 20, 50))
    return np.array([*edges, *low, 10 * np.log10(np.square(samples).mean() + 1e-9)])


def _ask(
    known: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    asked: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    columns: slice,
) -> float:
    model = HistGradientBoostingClassifier(max_iter=60, max_depth=3, random_state=0)
    model.fit(known[0][:, columns], known[1])
    return auc(asked[1], model.decision_function(asked[0][:, columns]))
