"""PDQ: the bits of the reference, and what its parts and wholes are for."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from deepfake.known.fingerprints import Fingerprint
from deepfake.known.pictures import distances, hash_frames, hash_picture
from deepfake.known.shelf import Shelf
from deepfake.preprocess import Pixels
from deepfake.types import Kind
from tests.known.patterns import pattern

REFERENCE = {
    (200, 150): "2bf043f5a5a56befff4de008cb9bf31b4673c0ff87f01f007e357e0000e41e00",
    (512, 300): "fa2bfbfff8fafbfff871000072ae1020f3fe1020f3bed220f3aed220f3881000",
    (97, 131): "70ebe3e2870e4e5c86894c7998f033c2d48eb3d6568fb59ca9303db4a930bbb4",
}
"""What pdqhash 0.2.8 makes of the pictures of ``ramps``."""


def fingerprint(pixels: Pixels) -> Fingerprint:
    found = hash_picture(pixels)
    return Fingerprint(kind=Kind.IMAGE, wholes=found.wholes.tobytes(), parts=found.parts.tobytes())


def ramps(width: int, height: int) -> Pixels:
    """A picture of whole numbers alone, so that every machine makes the same."""
    row, column = np.mgrid[0:height, 0:width]
    red = (row * row // 7 + 3 * column) % 256
    green = (column * column // 11 + row * 5) % 256
    blue = (row * column // 13) % 256
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("size", REFERENCE)
def test_the_bits_are_those_of_the_reference(size: tuple[int, int]) -> None:
    (found,) = hash_frames([ramps(*size)])
    assert bytes(found).hex() == REFERENCE[size]


def test_a_plain_or_tiny_picture_has_no_hash() -> None:
    for pixels in (np.full((200, 300, 3), 90, np.uint8), pattern(1, width=15, height=15)):
        found = hash_picture(pixels)
        assert len(found.wholes) == len(found.parts) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it[:, 7:-3],
        lambda it: it[3:-13, 18:-2],
        lambda it: np.pad(it, ((30, 30), (0, 0), (0, 0))),
        lambda it: np.pad(it, ((16, 16), (16, 16), (0, 0)), constant_values=255),
        lambda it: it[::2, ::2],
        lambda it: np.clip(it.astype(int) + 20, 0, 255).astype(np.uint8),
        lambda it: cv2.resize(it, None, fx=3, fy=3),
    ],
    ids=["crop", "crop more", "letterbox", "frame", "half", "brighter", "three times"],
)
def test_a_copy_is_near_and_others_are_not(change: Callable[[Pixels], Pixels]) -> None:
    shelf = Shelf([fingerprint(pattern(seed)) for seed in range(20)])
    copy = fingerprint(np.ascontiguousarray(change(pattern(7))))
    assert [near.place for near in shelf.near(copy)] == [7]
    assert 7 in [near.place for near in Shelf([copy] * 8).near(fingerprint(pattern(7)))]


def test_a_crop_is_found_by_its_parts_alone() -> None:
    shelf = Shelf([fingerprint(pattern(1))])
    crop = fingerprint(np.ascontiguousarray(pattern(1)[12:-12, 16:-16]))
    assert shelf.near(crop)
    assert not shelf.near(crop, parts=False)
    assert distances(crop.whole_hashes, fingerprint(pattern(1)).whole_hashes).min() > 31
