"""Augmented crops of cut-outs, both classes alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deepfake.preprocess import ImagePreprocess, Pixels

from ..known import Known
from ..perturb import SUBSAMPLINGS, draw_picture_chain, jpeg
from .cutouts import SIDE, Cutouts

Numbers = npt.NDArray[np.int64]
SMALL = 0.2
"""Of the crops that meet a random history so many show a picture smaller than the crop, of either
class, so that no size is a sign.
"""


@dataclass(frozen=True)
class Cropper:
    """Draws crops of one side. ``qualities`` are those of genuine JPEG files: a picture that no
    JPEG round has met yet mostly meets one of these first, so that no class is told by its
    container.
    """

    cutouts: Cutouts
    preprocess: ImagePreprocess
    qualities: Numbers

    def plain(self, number: int, rng: np.random.Generator) -> Pixels:
        """A crop of cut-out ``number`` as it is, but for a first JPEG round."""
        return self._crop(self._compressed(number, rng), rng)

    def augmented(self, number: int, rng: np.random.Generator) -> Pixels:
        """A crop of cut-out ``number`` after a random history."""
        pixels = self._compressed(number, rng)
        chain = draw_picture_chain(
            rng, smallest=self.preprocess.side_pixels / SIDE, largest=1.6, resized=0.5
        )
        most = int(np.ceil(self.preprocess.side_pixels / chain.factor)) + 24
        pixels = _part(pixels, most, rng)  # little more than the crop will show
        changed = chain(np.ascontiguousarray(pixels))
        if rng.random() < SMALL:
            side = self.preprocess.side_pixels
            changed = _part(changed, int(rng.integers(side // 2, side)), rng)
        return self._crop(changed, rng)

    def _compressed(self, number: int, rng: np.random.Generator) -> Pixels:
        pixels = self.cutouts[number]
        if self.cutouts.quality[number] > 0 or rng.random() > 0.7:
            return pixels
        quality = int(rng.choice(self.qualities))
        subsampling = str(rng.choice(list(SUBSAMPLINGS)))
        return jpeg(np.ascontiguousarray(pixels), quality=quality, subsampling=subsampling)

    def _crop(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        return self.preprocess.fit(_part(pixels, self.preprocess.side_pixels, rng))


def _part(pixels: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    top = int(rng.integers(0, max(0, height - side) + 1))
    left = int(rng.integers(0, max(0, width - side) + 1))
    return pixels[top : top + side, left : left + side]


def make_cropper(
    cutouts: Cutouts, pictures: Sequence[Known], preprocess: ImagePreprocess
) -> Cropper:
    """With the qualities of all genuine JPEG files."""
    genuine = np.array([pictures[file].label == 0 for file in cutouts.files])
    return Cropper(cutouts, preprocess, cutouts.quality[genuine & (cutouts.quality > 0)])
