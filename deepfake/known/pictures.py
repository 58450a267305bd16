"""PDQ, the perceptual hash of pictures of ThreatExchange, and the views of a picture that it is of.

After "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm" (Facebook, 2019):
luma is smoothed twice by a box along rows and columns, sampled at 64×64 points, and the signs of
16×16 low frequencies of its DCT against their median are the 256 bits. Written by hand because the
package ``pdqhash`` comes as source and needs a compiler; all bits were the same as its own over 198
photographs and generated pictures. Pictures over 512 pixels are shrunk first, as its own tools do.

A hash stands a crop of about 2 % only. So a picture has, beside the hashes of the whole and of what
lies within its borders, those of its parts of 96, 93 and 90 % of both sides, spread over it; two
pictures are near when a whole of one is near to a whole or, a little less strictly, to a part of
the other. ``python -m benchmarks.known`` measures what is found, and what is found wrongly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..content.borders import trim
from ..preprocess import Box, Pixels, shrink

Hashes = npt.NDArray[np.uint8]
"""(count, 32): PDQ hashes as bytes, in the order of their hexadecimal form."""

BYTES = 32
MOST_SIDE, LEAST_SIDE = 512, 16
"""Pixels. A larger side is shrunk; a smaller picture has no hash."""
LEAST_QUALITY = 50
"""Below which a hash says nothing, as of a blank picture."""
PARTS = ((0.96, 3), (0.93, 4), (0.9, 5))
"""Shares of both sides, and at how many places along each."""
_GRID, _LOW = 64, 16
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_WAVES = np.sqrt(2 / _GRID) * np.cos(
    np.pi / 2 / _GRID * np.outer(np.arange(1, _LOW + 1), 2 * np.arange(_GRID) + 1)
)
_Plane = npt.NDArray[np.float32]


class PictureHashes(NamedTuple):
    """``wholes`` are of the whole picture and, where it has borders, of what lies within them;
    ``parts`` of crops. Both are empty for a picture without enough structure.
    """

    wholes: Hashes
    parts: Hashes


def hash_picture(pixels: Pixels, *, parts: bool = True) -> PictureHashes:
    """The hashes of RGB ``pixels`` (height, width, 3) and, if wanted, of their ``parts``."""
    seen = _shrink(pixels)
    boxes = [Box(0, 0, seen.shape[1], seen.shape[0])]
    within = trim(seen)
    if within is not None:
        boxes.append(within)
    smooth = _smooth(seen)
    crops = [part for share, places in PARTS for part in _parts(boxes[-1], share, places)]
    return PictureHashes(_hash(smooth, boxes), _hash(smooth, crops if parts else []))


def hash_frames(frames: Iterable[Pixels]) -> Hashes:
    """The hashes of what lies within the borders of the RGB ``frames`` (height, width, 3) of a
    clip, of each that has enough structure. Its borders are those that most of the frames show,
    since coding blurs some, and makes others.
    """
    seen = [_shrink(frame) for frame in frames]
    if not seen:
        return np.empty((0, BYTES), np.uint8)
    height, width = seen[0].shape[:2]
    boxes = np.array([trim(frame) or Box(0, 0, width, height) for frame in seen])
    left, top = (int(side) for side in np.quantile(boxes[:, :2], 0.5, axis=0, method="lower"))
    ends = boxes[:, :2] + boxes[:, 2:]
    right, bottom = (int(side) for side in np.quantile(ends, 0.5, axis=0, method="higher"))
    box = Box(left, top, right - left, bottom - top)
    return np.concatenate([_hash(_smooth(frame), [box]) for frame in seen])


def distances(ours: Hashes, theirs: Hashes) -> npt.NDArray[np.int64]:
    """How many of 256 bits differ, between each of ``ours`` and each of ``theirs``."""
    differ = np.bitwise_count(_words(ours)[:, None] ^ _words(theirs)[None])
    bits: npt.NDArray[np.int64] = differ.sum(axis=-1, dtype=np.int64)
    return bits


def _words(hashes: Hashes) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(hashes).view(np.uint64)


def _shrink(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = MOST_SIDE / max(height, width)
    if scale >= 1:
        return pixels
    return shrink(pixels, max(1, round(height * scale)), max(1, round(width * scale)))


def _smooth(pixels: Pixels) -> _Plane:
    """Luma, smoothed twice by a box of the size of two samples, of which that counts which lies
    within the picture.
    """
    import cv2

    plane: _Plane = pixels @ _LUMA
    rows, columns = map(_box, plane.shape)
    size, anchor = (columns[0], rows[0]), (columns[1], rows[1])
    counts = np.outer(rows[2], columns[2]).astype(np.float32)
    for _ in range(2):
        plane = np.asarray(
            cv2.boxFilter(
                plane,
                cv2.CV_32F,
                size,
                anchor=anchor,
                normalize=False,
                borderType=cv2.BORDER_CONSTANT,
            ),
            np.float32,
        )
        plane /= counts
    return plane


def _box(side: int) -> tuple[int, int, npt.NDArray[np.int64]]:
    """Along one side: the length of the box, its place before a pixel, and what of it counts."""
    length = (side + 2 * _GRID - 1) // (2 * _GRID)
    after = (length + 2) // 2
    start = np.maximum(np.arange(side) - (length - after), 0)
    return length, length - after, np.minimum(np.arange(side) + after, side) - start


def _parts(box: Box, share: float, places: int) -> list[Box]:
    """The crops of a box that keep a share of both sides, at ``places`` × ``places`` places."""
    width, height = round(share * box.width), round(share * box.height)
    return [
        Box(left, top, width, height)
        for top in _spread(box.top, box.height - height, places)
        for left in _spread(box.left, box.width - width, places)
    ]


def _spread(start: int, spare: int, places: int) -> list[int]:
    return [start + round(spare * place / (places - 1)) for place in range(places)]


def _hash(smooth: _Plane, boxes: list[Box]) -> Hashes:
    """The hashes of those parts of a smoothed plane that have enough structure."""
    found = []
    if min(smooth.shape) < LEAST_SIDE:
        boxes = []
    for box in boxes:
        rows = box.top + _samples(box.height)
        columns = box.left + _samples(box.width)
        grid = smooth[np.ix_(rows, columns)]
        if _quality(grid) < LEAST_QUALITY:
            continue
        low = (_WAVES @ grid @ _WAVES.T).ravel()
        bits = low > np.partition(low, len(low) // 2 - 1)[len(low) // 2 - 1]
        found.append(np.packbits(bits[::-1]))
    return np.stack(found) if found else np.empty((0, BYTES), np.uint8)


def _samples(size: int) -> npt.NDArray[np.int64]:
    places: npt.NDArray[np.int64] = ((np.arange(_GRID) + 0.5) * size / _GRID).astype(np.int64)
    return places


def _quality(grid: _Plane) -> int:
    steps = (np.abs(np.trunc(np.diff(grid, axis=axis) * (100 / 255))).sum() for axis in (0, 1))
    return min(100, int(sum(steps) / 90))
