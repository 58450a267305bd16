"""Pictures of the training material as they were stored: pixels and the last compression."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from deepfake.preprocess import Pixels

FACE_SOURCES = ("ciplab_faces_photoshop", "lfw_faceswap")


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
