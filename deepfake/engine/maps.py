"""The map that a face finder gives for a picture, as faces with probabilities.

Every eighth, 16th and 32nd pixel of the picture is a place, rows of each grid after the other; at
each place are the log-odds of a face, the logarithms of its reach and its landmarks.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MOST_PLACES = 400

Floats = npt.NDArray[np.float64]


class FacePlaces(NamedTuple):
    """Places of a map where a face is, the most certain first; many show the same face.

    ``scores`` (places,) are P(face), ``boxes`` (places, 4) left, top, right, bottom and ``points``
    (places, 5, 2) the landmarks, in pixels of the picture.
    """

    scores: Floats
    boxes: Floats
    points: Floats


def read_map(
    values: npt.NDArray[np.float32], *, rows: int, columns: int, zoom: float, least: float
) -> FacePlaces:
    """The at most 400 best places with a P(face) over ``least`` in a map (places, 15) of a canvas
    of ``rows`` by ``columns`` pixels, of which one is ``zoom`` pixels of the picture.

    A place holds the log-odds of a face, the logarithms of the distances from the middle of the
    cell to the left, top, right and bottom of its box, and its five landmarks from the cell's
    centre; lengths are in cells.
    """
    places, cells = map_places(rows, columns)
    odds = values[:, 0].astype(np.float64)
    kept = np.flatnonzero(odds > np.log(least / (1 - least)))
    kept = kept[np.argsort(-odds[kept])][:MOST_PLACES]
    centres, cell = places[kept], cells[kept, None]
    reach = np.exp(np.clip(values[kept, 1:5].astype(np.float64), -4, 6)) * cell
    landmarks = values[kept, 5:15].astype(np.float64).reshape(-1, 5, 2) * cell[..., None]
    return FacePlaces(
        scores=1 / (1 + np.exp(-odds[kept])),
        boxes=np.hstack([centres - reach[:, :2], centres + reach[:, 2:]]) * zoom,
        points=(centres[:, None] + landmarks) * zoom,
    )


@functools.lru_cache(maxsize=16)
def map_places(rows: int, columns: int) -> tuple[Floats, Floats]:
    """The centres (places, 2) of a map's cells, as x and y, and their sides (places,)."""
    centres, sides = [], []
    for side in (8, 16, 32):
        down, across = np.mgrid[0 : rows // side, 0 : columns // side]
        centres.append((np.stack([across, down], axis=-1).reshape(-1, 2) + 0.5) * side)
        sides.append(np.full(len(centres[-1]), float(side)))
    return np.concatenate(centres), np.concatenate(sides)
