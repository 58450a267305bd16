"""Cut-outs of every picture, decoded once and kept on disk, from which crops are drawn.

A large picture gives some at native resolution and one from a copy shrunk to a size at which
pictures circulate, so that neither class is told by its megapixels.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from PIL import Image, ImageOps
from tqdm import tqdm

from deepfake.files import replaced
from deepfake.preprocess import Pixels

from ..image.data import jpeg_quality
from ..known import Known

SIDE = 512
LARGE = 900
"""Short side in pixels from which a picture also gives a cut-out of a shrunken copy."""
NEAR_BITS = 4
"""Hashes of which at most so many bits differ are of near-copies."""
MIDDLE = 480
"""Short side from which it gives a second one at native resolution."""


@dataclass(frozen=True)
class Cutouts:
    """``pixels`` (n, SIDE, SIDE, 3) with the part in use at the left top of each, ``sizes`` (n, 2)
    its height and width, ``files`` (n,) the number of the file, ``quality`` (n,) of its JPEG (0: no
    JPEG at native resolution, so that a cut-out may meet one more round), ``hashes`` (files,) a
    perceptual hash of each picture.
    """

    pixels: npt.NDArray[np.uint8]
    sizes: npt.NDArray[np.int64]
    files: npt.NDArray[np.int64]
    quality: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]

    def __getitem__(self, number: int) -> Pixels:
        height, width = self.sizes[number]
        return np.asarray(self.pixels[number, :height, :width])

    def places(self) -> dict[int, npt.NDArray[np.int64]]:
        """The numbers of the cut-outs of every file that gave one."""
        return {int(file): np.flatnonzero(self.files == file) for file in np.unique(self.files)}


def build_cutouts(pictures: Sequence[Known], folder: Path, *, seed: int, workers: int) -> Cutouts:
    """Cut-outs of all ``pictures`` in ``folder``, made where they are not there yet. A file that
    cannot be read gives none.
    """
    facts, store = folder / "cutouts.json", folder / "cutouts.bin"
    if not facts.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows: list[tuple[int, int, int, int]] = []
        hashes: list[int] = []
        tasks = (
            delayed(_cut)(str(picture.item.path), [seed, number])
            for number, picture in enumerate(pictures)
        )
        with store.open("wb") as stream:
            made = Parallel(n_jobs=workers, return_as="generator")(tasks)
            for number, (some, picture_hash) in enumerate(
                tqdm(made, total=len(pictures), desc="cut-outs")
            ):
                hashes.append(picture_hash)
                for pixels, quality in some:
                    slot = np.zeros((SIDE, SIDE, 3), np.uint8)
                    height, width = pixels.shape[:2]
                    slot[:height, :width] = pixels
                    stream.write(slot.tobytes())
                    rows.append((number, height, width, quality))
        with replaced(facts) as partial:
            partial.write_text(json.dumps({"rows": rows, "hashes": hashes}))
    content = json.loads(facts.read_text())
    table = np.array(content["rows"], np.int64)
    return Cutouts(
        pixels=np.memmap(store, np.uint8, "r", shape=(len(table), SIDE, SIDE, 3)),
        sizes=table[:, 1:3],
        files=table[:, 0],
        quality=table[:, 3],
        hashes=np.array(content["hashes"], np.uint64),
    )


def _cut(path: str, seed: list[int]) -> tuple[list[tuple[Pixels, int]], int]:
    try:
        pixels, quality = read_upright(Path(path).read_bytes())
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return [], 0
    rng = np.random.default_rng(seed)
    return list(_cut_pixels(pixels, quality, rng)), perceptual_hash(pixels)


def read_upright(content: bytes) -> tuple[Pixels, int]:
    """RGB pixels turned as the product turns them, and the quality of the last JPEG round."""
    with Image.open(io.BytesIO(content)) as picture:
        quality = jpeg_quality(getattr(picture, "quantization", {}))
        if picture.format == "WEBP":
            quality = 90  # lossy before, at a quality that nobody wrote down
        upright = ImageOps.exif_transpose(picture)
        return np.asarray(upright.convert("RGB")), quality


def _cut_pixels(
    pixels: Pixels, quality: int, rng: np.random.Generator
) -> Iterator[tuple[Pixels, int]]:
    yield _square(pixels, rng), quality
    short = min(pixels.shape[:2])
    if short >= LARGE:
        factor = float(np.exp(rng.uniform(np.log(400), np.log(1000)))) / short
        size = (round(pixels.shape[1] * factor), round(pixels.shape[0] * factor))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        yield _square(np.asarray(small, np.uint8), rng), 0
    if short >= MIDDLE:
        yield _square(pixels, rng), quality


def _square(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    top = int(rng.integers(0, max(0, height - SIDE) + 1))
    left = int(rng.integers(0, max(0, width - SIDE) + 1))
    return pixels[top : top + SIDE, left : left + SIDE]


def copied_elsewhere(
    hashes: npt.NDArray[np.uint64], folds: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which pictures (files,) have a near-copy in another fold; one without a hash has none."""
    found = np.zeros(len(hashes), bool)
    for number in np.flatnonzero(hashes):
        near = np.bitwise_count(hashes ^ hashes[number]) <= NEAR_BITS
        found[number] = bool((near & (folds != folds[number]) & (hashes != 0)).any())
    return found


def perceptual_hash(pixels: Pixels) -> int:
    """64 bits that are alike for near-copies: signs of the low frequencies of a shrunken grey copy
    about their median (pHash, Zauner 2010).
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return int(sum(1 << place for place, bit in enumerate(bits) if bit))
