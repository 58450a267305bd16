"""The pictures of the ``image`` slot: decoded once, assigned to folds, cropped and balanced."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from deepfake.preprocess import Pixels

from ..manifests import OfItem, read_manifest

FACE_SOURCES = ("ciplab_faces_photoshop", "lfw_faceswap")


@dataclass(frozen=True)
class Picture(OfItem):
    """A decoded file. ``quality`` estimates its last JPEG round (0: none); ``group`` names the
    sources that are held out together, ``fold`` the model that must never see it.
    """

    pixels: Pixels
    quality: int
    group: str
    fold: int

    @property
    def reserved(self) -> bool:
        """Genuine files, one in six, that no fold's model sees although it sees their source: they
        are the genuine side of leaving out a generator alone.
        """
        return not self.label and int(self.item.facts["sha256"][:8], 16) % 6 == 0


def read_pictures(folder: Path, *, folds: Sequence[Sequence[str]]) -> list[Picture]:
    """All pictures of ``folder/manifest.tsv`` except the face manipulations.

    ``folds`` lists the sources that each fold holds out; ``taef2_recon`` belongs beside
    ``bsds500``, from whose archive its photos came. Raises ``ValueError`` for a source that no fold
    names.
    """
    items = [
        item
        for item in read_manifest(folder, source_column="source")
        if item.source not in FACE_SOURCES
    ]
    homes = {source: fold for fold, sources in enumerate(folds) for source in sources}
    pictures = []
    for item in items:
        if item.source not in homes:
            raise ValueError(f"source {item.source!r}: in no fold of the configuration")
        pixels, quality = decode(item.path.read_bytes())
        fold = homes[item.source]
        pictures.append(Picture(item, pixels, quality, "+".join(folds[fold]), fold))
    return pictures


def decode(content: bytes) -> tuple[Pixels, int]:
    """RGB pixels (height, width, 3) and the estimated quality of the JPEG (0: not a JPEG)."""
    with Image.open(io.BytesIO(content)) as picture:
        quality = jpeg_quality(getattr(picture, "quantization", {}))
        return np.asarray(picture.convert("RGB")), quality


def jpeg_quality(tables: Mapping[int, Sequence[int]]) -> int:
    """The libjpeg quality whose luminance table is nearest to ``tables[0]``; 0 without tables.

    libjpeg scales the table of ITU-T T.81 annex K, whose entries sum to 3688.
    """
    if not tables:
        return 0
    scale = 100 * float(np.sum(tables[0])) / 3688
    quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
    return int(np.clip(round(quality), 1, 100))
