"""A network tuned end to end on augmented pieces of recordings, both classes alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from deepfake.networks.speech import MobileSpeech
from deepfake.preprocess import AudioPreprocess, Samples

from ..known import Known, draw_probabilities
from ..tuning import Tuning, tune_network
from .channels import change_channel
from .recordings import Recordings


@dataclass(frozen=True, kw_only=True)
class TuneSettings(Tuning):
    """As :class:`Tuning`, on so many ``pieces``."""

    pieces: int


def tune(
    files: Sequence[Known],
    recordings: Recordings,
    *,
    chosen: npt.NDArray[np.bool_],
    preprocess: AudioPreprocess,
    settings: TuneSettings,
    weights: Path,
    path: Path,
    by_band: bool = False,
    start: MobileSpeech | None = None,
) -> MobileSpeech:
    """A network tuned on the files (files,) that are ``chosen``, or the one that ``path`` holds; an
    interrupted run goes on from its checkpoint. It begins with ImageNet weights, or with those of
    ``start``.
    """

    batches = Batches(files, recordings, chosen=chosen, preprocess=preprocess, seed=settings.seed)
    return tune_network(
        lambda: MobileSpeech(by_band=by_band),
        batches.draw,
        examples=settings.pieces,
        settings=settings,
        weights=weights,
        path=path,
        start=start.state_dict() if start else None,
    )


class Batches:
    """Seeded batches of windows after random channels, half of each class."""

    def __init__(
        self,
        files: Sequence[Known],
        recordings: Recordings,
        *,
        chosen: npt.NDArray[np.bool_],
        preprocess: AudioPreprocess,
        seed: int,
    ) -> None:
        self._recordings, self._preprocess, self._seed = recordings, preprocess, seed
        labels = np.array([file.label for file in files])
        weights = draw_probabilities(files) * (chosen & recordings.readable)
        self._classes = [np.flatnonzero((weights > 0) & (labels == label)) for label in (0, 1)]
        self._weights = [weights[some] / weights[some].sum() for some in self._classes]

    def draw(self, step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Windows (size, samples) and labels (size,) of a step, the same at every call."""
        rng = np.random.default_rng([self._seed, step])
        labels = np.arange(size) % 2
        windows = np.stack([self._window(int(label), rng) for label in labels])
        return torch.from_numpy(windows), torch.from_numpy(labels.astype(np.float32))

    def pieces(self, count: int, *, changed: bool) -> tuple[list[Samples], npt.NDArray[np.float64]]:
        """So many pieces, as they are or ``changed`` to windows as a network sees them, and labels
        (count,).
        """
        rng = np.random.default_rng([self._seed, count])
        labels = np.arange(count) % 2
        make = self._window if changed else self._piece
        return [make(int(label), rng) for label in labels], labels.astype(np.float64)

    def window(self, file: int, rng: np.random.Generator, *, changed: bool) -> Samples:
        """A window (samples,) of a file: the middle of it, or a random piece after a channel."""
        samples, length = self._recordings[file], self._preprocess.window_samples
        if changed:
            return self._change(self._cut(samples, rng), rng)
        start = max(0, (len(samples) - length) // 2)
        return self._preprocess.level(self._preprocess.fit(samples[start : start + length]))

    def _window(self, label: int, rng: np.random.Generator) -> Samples:
        return self._change(self._piece(label, rng), rng)

    def _change(self, piece: Samples, rng: np.random.Generator) -> Samples:
        crowd = [self._piece(0, rng) for _ in range(3)] if rng.random() < 0.1 else []
        changed = change_channel(piece, rng=rng, babble=crowd)
        return self._preprocess.level(self._preprocess.fit(changed))

    def _piece(self, label: int, rng: np.random.Generator) -> Samples:
        file = int(rng.choice(self._classes[label], p=self._weights[label]))
        return self._cut(self._recordings[file], rng)

    def _cut(self, samples: Samples, rng: np.random.Generator) -> Samples:
        """A random part, mostly a little longer than one window, sometimes shorter."""
        window = self._preprocess.window_samples
        length = round(window * (rng.uniform(0.4, 1.0) if rng.random() < 0.2 else 1.15))
        start = int(rng.integers(max(1, len(samples) - length + 1)))
        return samples[start : start + length]
