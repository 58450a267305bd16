"""JPEG through which gradients pass (Shin and Song 2017, "JPEG-resistant Adversarial Images"): the
rounding of coefficients is replaced by one whose slope is that of a cubic around each whole number.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

BLOCK = 8
# ITU-T T.81, tables K.1 and K.2
_LUMA = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87
80 62 18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98
112 100 103 99"""
_CHROMA = """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99
99 99"""


def compress_softly(pixels: torch.Tensor, *, quality: int = 75) -> torch.Tensor:
    """RGB (height, width, 3) in 0…255 after one round of JPEG with 4:2:0 at a libjpeg quality of
    1…100, of the same shape, differentiable.
    """
    height, width = pixels.shape[:2]
    padded = pixels.movedim(-1, 0)[None]
    padded = functional.pad(padded, (0, -width % 16, 0, -height % 16), mode="replicate")
    red, green, blue = padded[0]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    blueness = (blue - luma) / 1.772 + 128
    redness = (red - luma) / 1.402 + 128
    luma = _quantise(luma, _scale(_LUMA, quality))
    halved = functional.avg_pool2d(torch.stack([blueness, redness])[None], 2)[0]
    coarse = torch.stack([_quantise(plane, _scale(_CHROMA, quality)) for plane in halved])
    blueness, redness = functional.interpolate(
        coarse[None], scale_factor=2, mode="bilinear", align_corners=False
    )[0]
    red = luma + 1.402 * (redness - 128)
    blue = luma + 1.772 * (blueness - 128)
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    decoded = torch.stack([red, green, blue], dim=-1)[:height, :width]
    return decoded.clamp(0, 255)


def round_softly(values: torch.Tensor) -> torch.Tensor:
    """The nearest whole number plus the cube of what is left."""
    whole = values.round()
    return whole + (values - whole) ** 3


def _quantise(plane: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """A plane (height, width), sides multiples of 8, after its coefficients were quantised."""
    height, width = plane.shape
    waves = _waves()
    blocks = (plane - 128).reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(1, 2)
    coefficients = waves @ blocks @ waves.T
    kept = round_softly(coefficients / table) * table
    decoded = (waves.T @ kept @ waves).transpose(1, 2).reshape(height, width)
    return decoded + 128


def _waves() -> torch.Tensor:
    """The orthonormal cosine transform (8, 8)."""
    places = torch.arange(BLOCK, dtype=torch.float32)
    waves = torch.cos(math.pi * (2 * places[None] + 1) * places[:, None] / (2 * BLOCK)) / 2
    waves[0] /= math.sqrt(2)
    return waves


def _scale(table: str, quality: int) -> torch.Tensor:
    """The table of a quality, as libjpeg makes it."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = torch.tensor([int(step) for step in table.split()], dtype=torch.float32)
    return ((steps * percent + 50) / 100).floor().clamp(1, 255).reshape(BLOCK, BLOCK)
