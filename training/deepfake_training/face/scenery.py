"""Pictures without faces for the first fit: what a blend leaves behind is much the same in any
picture, and these are of no fold, so that one fit serves all networks.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from deepfake.content.faces import Face

from ..image.data import decode
from ..manifests import Item, read_manifest
from .data import Portrait
from .masks import MEAN_FACE

PLACES = 4
"""Places of a picture where a face is imagined."""


def read_scenery(data: Path, *, sources: Sequence[str], fold: int) -> list[Portrait]:
    """Genuine pictures of ``sources`` with faces imagined in them; ``fold`` is one that no network
    leaves out.
    """
    items = [
        item
        for item in read_manifest(data / "image", source_column="source")
        if item.source in sources and item.label == 0
    ]
    return [
        portrait
        for item in tqdm(items, desc="scenery", unit="file", mininterval=5)
        for portrait in imagine_portraits(item, fold=fold)
    ]


def imagine_portraits(item: Item, *, fold: int) -> list[Portrait]:
    """One picture with landmarks of faces that are not there, of many sizes and turns."""
    pixels = decode(item.path.read_bytes())[0]
    height, width = pixels.shape[:2]
    rng = np.random.default_rng(zlib.crc32(item.facts["path"].encode()))
    largest = min(height, width) / 4.4
    portraits = []
    for place in range(PLACES):
        unit = float(np.exp(rng.uniform(np.log(min(22.0, largest)), np.log(min(75.0, largest)))))
        turn = float(rng.normal(0, 0.15))
        matrix = unit * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        matrix[:, 0] *= rng.uniform(0.85, 1.05)
        room = np.array([width, height]) - 4.4 * unit
        centre = 2.2 * unit + rng.random(2) * np.maximum(room, 0)
        points = (MEAN_FACE - MEAN_FACE[2]) @ matrix.T + centre
        reach = unit * np.array([1.0, 1.4])
        low, high = centre - reach, centre + reach
        box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
        landmarks = tuple((float(x), float(y)) for x, y in points)
        face = Face(box, landmarks, 1.0)
        portraits.append(Portrait(item, pixels, face, 0, place, "scenery", fold))
    return portraits
