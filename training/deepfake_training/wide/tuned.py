"""A small network tuned end to end on augmented crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from deepfake.networks.pictures import MobilePicture
from deepfake.preprocess import ImagePreprocess

from ..adversarial import Hardening, mislead_half
from ..fitting import mean_state
from ..known import Known, draw_probabilities
from ..tuning import Tuning, tune_network
from .crops import make_cropper
from .cutouts import Cutouts
from .tokens import halve


@dataclass(frozen=True, kw_only=True)
class TuneSettings(Tuning):
    """As :class:`Tuning`, on so many ``crops``, half of which are ``hardening`` ones, if any."""

    crops: int
    hardening: Hardening = field(default_factory=Hardening)


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
    scales: int = 1,
) -> MobilePicture:
    """A network tuned on the files (files,) that are ``chosen``, or the one that ``path`` holds; an
    interrupted run goes on from its checkpoint. It begins with ImageNet weights, or with the mean
    of the networks ``start`` that began so (Wortsman et al. 2022). With two ``scales`` it learns
    from single crops of each and judges by both, in crops as ``preprocess`` gives them.
    """

    batches = Batches(
        pictures,
        cutouts,
        chosen=chosen,
        preprocess=preprocess,
        seed=settings.seed,
        scales=scales,
    )

    def mislead(
        network: torch.nn.Module, batch: torch.Tensor, goal: torch.Tensor, step: int
    ) -> torch.Tensor:
        return mislead_half(
            network,
            batch,
            goal,
            hardening=settings.hardening,
            scale=preprocess.scale,
            seed=(settings.seed, step),
        )

    network = tune_network(
        MobilePicture,
        batches.draw,
        examples=settings.crops,
        settings=settings,
        weights=weights,
        path=path,
        start=mean_state(start) if start else None,
        change=mislead,
    )
    network.scales = scales
    return network


class Batches:
    """Seeded batches of augmented crops, half of each class. With two ``scales`` they have half the
    side of ``preprocess``: each is a smaller crop or, as often, one of the whole side shrunk.
    """

    def __init__(
        self,
        pictures: Sequence[Known],
        cutouts: Cutouts,
        *,
        chosen: npt.NDArray[np.bool_],
        preprocess: ImagePreprocess,
        seed: int,
        scales: int = 1,
    ) -> None:
        near = replace(preprocess, side_pixels=preprocess.side_pixels // scales)
        self._near = make_cropper(cutouts, pictures, near)
        self._far = make_cropper(cutouts, pictures, preprocess) if scales > 1 else None
        self._preprocess, self._seed = preprocess, seed
        self._places = cutouts.places()
        readable = chosen & np.isin(np.arange(len(pictures)), list(self._places))
        labels = np.array([picture.label for picture in pictures])
        weights = draw_probabilities(pictures) * readable
        self._classes = [np.flatnonzero(readable & (labels == label)) for label in (0, 1)]
        self._weights = [weights[some] / weights[some].sum() for some in self._classes]

    def draw(self, step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops (size, 3, side, side) and labels (size,) of a step, the same at every call."""
        rng = np.random.default_rng([self._seed, step])
        crops, labels = [], np.arange(size) % 2
        for label in labels:
            file = int(rng.choice(self._classes[label], p=self._weights[label]))
            place = int(rng.choice(self._places[file]))
            if self._far is not None and rng.random() < 0.5:
                far = self._preprocess.scale(self._far.augmented(place, rng)[None])
                crops.append(halve(far))
            else:
                crops.append(self._preprocess.scale(self._near.augmented(place, rng)[None]))
        batch = torch.from_numpy(np.concatenate(crops)).to(memory_format=torch.channels_last)
        return batch, torch.from_numpy(labels.astype(np.float32))
