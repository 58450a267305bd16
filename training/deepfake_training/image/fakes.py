"""Aligned fakes: a real photo and the same photo through a generator's last stage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from deepfake.preprocess import Pixels

from ..files import write_arrays
from .data import Picture

PAIR_SIDE = 224
PAIR_LEAST = 104


@dataclass(frozen=True)
class Pair:
    """A crop of a photo and its reconstruction, pixel for pixel; ``quality`` is the photo's last
    JPEG round if the crop still lies on its 8×8 grid, else 0. ``maker`` names the decoder.
    """

    photo: Pixels
    fake: Pixels
    quality: int
    maker: str
    source: str
    fold: int
    reserved: bool = False


Maker = Callable[[Pixels], Pixels]


def reconstruct(
    photos: Sequence[Picture], make: Maker, *, maker: str, cache: Path, seed: int
) -> list[Pair]:
    """Each photo's crop with what ``make`` made of it; made once, then read from ``cache``.

    Half of the photos are first shrunk (×0.5…0.9), which wipes out their own compression, so that
    the pair differs by the decoder alone.
    """
    folder = cache / maker
    folder.mkdir(parents=True, exist_ok=True)
    pairs = []
    for photo in tqdm(photos, desc=maker, unit="photo", mininterval=5):
        path = folder / f"{photo.item.facts['sha256'][:20]}.npz"
        if not path.exists():
            crop, quality = _choose_crop(photo, seed=seed)
            write_arrays(path, photo=crop, fake=make(crop), quality=quality)
        with np.load(path, allow_pickle=False) as stored:
            crop, fake, quality = stored["photo"], stored["fake"], int(stored["quality"])
        pairs.append(Pair(crop, fake, quality, maker, photo.source, photo.fold, photo.reserved))
    return pairs


def mix_pixels(photo: Pixels, fake: Pixels, *, share: float) -> Pixels:
    """``share`` of the fake and the rest of the photo, pixel by pixel."""
    return np.asarray(cv2.addWeighted(fake, share, photo, 1 - share, 0), dtype=np.uint8)


def mix_frequencies(photo: Pixels, fake: Pixels, *, share: float) -> Pixels:
    """The photo with the fake's amplitudes above a radius: at ``share`` 1 all of the fake, at 0
    nothing; low frequencies stay the photo's.
    """
    height, width = photo.shape[:2]
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    above = (np.hypot(down, across) >= 0.5 * (1 - share))[:, :, None]
    spectra = [np.fft.rfft2(pixels.astype(np.float32), axes=(0, 1)) for pixels in (photo, fake)]
    mixed = np.fft.irfft2(np.where(above, spectra[1], spectra[0]), s=(height, width), axes=(0, 1))
    return mixed.round().clip(0, 255).astype(np.uint8)


def _choose_crop(photo: Picture, *, seed: int) -> tuple[Pixels, int]:
    digest = hashlib.sha256(f"{seed} {photo.item.facts['sha256']}".encode()).digest()
    rng = np.random.default_rng(list(digest[:8]))
    pixels, quality = photo.pixels, photo.quality
    factor = float(rng.uniform(0.5, 0.9))
    if rng.random() < 0.5 and factor * min(pixels.shape[:2]) >= PAIR_LEAST:
        shrunk = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        pixels = np.asarray(shrunk, np.uint8)
        quality = 0
    height, width = (min(PAIR_SIDE, side // 8 * 8) for side in pixels.shape[:2])
    top, left = (
        8 * int(rng.integers((have - want) // 8 + 1))
        for have, want in zip(pixels.shape[:2], (height, width), strict=True)
    )
    return np.ascontiguousarray(pixels[top : top + height, left : left + width]), quality
