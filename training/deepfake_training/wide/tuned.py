"""A small network tuned end to end on augmented crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from deepfake.networks.pictures import MobilePicture
from deepfake.preprocess import ImagePreprocess

from ..fitting import Loop, Losses, fit_once, fit_steps, mean_state
from ..imagenet import load_mobilenet
from ..known import Known, draw_probabilities
from .crops import make_cropper
from .cutouts import Cutouts

_PARTS = ("conv_stem", "bn1", "blocks", "conv_head", "bn2")


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """So many ``crops`` in batches of ``batch``, half of each class; ``smoothing`` moves the labels
    off 0 and 1; weights are averaged with decay ``average``.
    """

    crops: int
    seed: int
    batch: int = 32
    learning_rate: float = 4e-4
    weight_decay: float = 0.02
    smoothing: float = 0.03
    average: float = 0.998


def tune(
    pictures: Sequence[Known],
    cutouts: Cutouts,
    *,
    chosen: npt.NDArray[np.bool_],
    preprocess: ImagePreprocess,
    settings: TuneSettings,
    weights: Path,
    path: Path,
    start: Sequence[MobilePicture] = (),
) -> MobilePicture:
    """A network tuned on the files (files,) that are ``chosen``, or the one that ``path`` holds; an
    interrupted run goes on from its checkpoint. It begins with ImageNet weights, or with the mean
    of the networks ``start`` that began so (Wortsman et al. 2022).
    """

    def fit(network: MobilePicture) -> MobilePicture:
        if start:
            network.load_state_dict(mean_state(start))
        else:
            load_mobilenet(network, weights, places={part: f"trunk.{part}" for part in _PARTS})
        network.to(memory_format=torch.channels_last)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        steps = max(2, settings.crops // settings.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=settings.learning_rate, total_steps=steps, pct_start=0.05
        )
        batches = Batches(
            pictures, cutouts, chosen=chosen, preprocess=preprocess, seed=settings.seed
        )

        def losses_at(step: int) -> Losses:
            crops, labels = batches.draw(step, size=settings.batch)
            goal = labels * (1 - 2 * settings.smoothing) + settings.smoothing
            logits = network(crops.to(memory_format=torch.channels_last))
            return {"loss": nn.functional.binary_cross_entropy_with_logits(logits, goal)}

        return fit_steps(
            network,
            losses_at,
            optimiser,
            schedule,
            Loop(steps=steps, round_steps=100, average=settings.average, warm_up=True),
            checkpoint=path.with_suffix(".checkpoint"),
            name=path.stem,
        )

    return fit_once(MobilePicture(), path, fit)


class Batches:
    """Seeded batches of augmented crops, half of each class."""

    def __init__(
        self,
        pictures: Sequence[Known],
        cutouts: Cutouts,
        *,
        chosen: npt.NDArray[np.bool_],
        preprocess: ImagePreprocess,
        seed: int,
    ) -> None:
        self._cropper = make_cropper(cutouts, pictures, preprocess)
        self._preprocess, self._seed = preprocess, seed
        self._places = cutouts.places()
        readable = chosen & np.isin(np.arange(len(pictures)), list(self._places))
        labels = np.array([picture.label for picture in pictures])
        weights = draw_probabilities(pictures) * readable
        self._classes = [np.flatnonzero(readable & (labels == label)) for label in (0, 1)]
        self._weights = [weights[some] / weights[some].sum() for some in self._classes]

    def draw(self, step: int, *, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops (size, 3, side, side) and labels (size,) of a step, the same at every call."""
        rng = np.random.default_rng([self._seed, step])
        crops, labels = [], np.arange(size) % 2
        for label in labels:
            file = int(rng.choice(self._classes[label], p=self._weights[label]))
            crops.append(self._cropper.augmented(int(rng.choice(self._places[file])), rng))
        batch = self._preprocess.scale(np.stack(crops))
        return torch.from_numpy(batch), torch.from_numpy(labels.astype(np.float32))
