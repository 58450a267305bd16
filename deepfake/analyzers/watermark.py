"""Invisible watermarks that open image generators embed: Stable Diffusion 1, SDXL and FLUX.

All three use method ``dwtDct`` of the package ``invisible-watermark`` (MIT), which, despite its
name, takes one Haar level of the U channel and no DCT: each 4×4 block of the low-pass band votes
for one bit, by whether its largest coefficient (the block's first is left out) lies in the upper
half of a period of 36. Blocks take the bits of the payload in turn.

Two readings of the votes are used:

* *package*: a bit is 1 where more than 127/255 of its blocks say so. This is bit for bit what
  ``WatermarkDecoder`` 0.2.0 returns (compared over 972 decodes of marked, unmarked, odd-sized and
  flat pictures: no difference).
* *ranked*: the payload's number of ones is given to the bits with most votes. A picture whose
  blocks vote 1 everywhere (or 0) defeats the fixed threshold, not this one.

Generators embed before they round to bytes, in float YUV, where U is centred on 0 instead of 128;
blocks with negative U are then written mirrored, which the package cannot read back. So the ranked
reading is taken around both centres. That is why the decoder is written by hand, and because the
package needs PyTorch.

``python -m benchmarks.watermark`` measured, with all readings together: 0 of 870 unmarked real
pictures flagged; 100 of 100 marked ones found when embedded in float and kept as PNG or JPEG 95
4:4:4, 98 or more at JPEG 75 4:4:4 (by the package's rule alone 26 to 32 and 12 to 19); 0 after
4:2:0 JPEG or resizing. The bound of one in a million holds if the payload's bits are fair coins
(package) or equally likely in every order (ranked) in an unmarked picture.

That bound is about chance, not about intent: payloads and method are public, and ``deepfake
redteam`` plants a mark at 42 dB. So a mark is a claim, as a label is, and no proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import comb
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..reasons import Code
from ..types import Declares, Evidence, Kind, Status, Weight

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..media.opening import Media
    from ..settings import DetectOptions

Bytes = NDArray[np.uint8]
Bits = NDArray[np.bool_]
Floats = NDArray[np.float64]

PERIOD = 36
BLOCK = 4
LEAST_PIXELS = 256 * 256
MOST_PIXELS = 512 * 1024
"""Of a larger picture the upper rows are read: blocks take the bits in turn from the first, and so
many of them (60 a bit and more) are as sure as all of a picture of that size."""
FRAMES = 3
FALSE_POSITIVES_PER_PICTURE = 1e-6
"""Bound over all payloads and readings of one picture."""


@dataclass(frozen=True)
class Payload:
    """The fixed bits that a generator embeds."""

    generator: str
    bits: Bits

    @property
    def ones(self) -> int:
        return int(self.bits.sum())


def _bits(text: str) -> Bits:
    return np.array([digit == "1" for digit in text])


PAYLOADS = (
    Payload("Stable Diffusion 1", np.unpackbits(np.frombuffer(b"StableDiffusionV1", np.uint8)) > 0),
    Payload("SDXL", _bits("101100111110110010010000011110111011000110011110")),
    Payload("FLUX", _bits("1010101111111010000111100111001111010100101110")),
)
READINGS = ("package", "ranked", "ranked_float")


@dataclass(frozen=True)
class Match:
    """A payload found by one reading; ``false_positive_bound`` is the chance of so many matches."""

    generator: str
    reading: str
    matching_bits: int
    payload_bits: int
    false_positive_bound: float


def low_pass(u: Bytes) -> NDArray[np.uint16]:
    """Sums of 2×2 pixels: twice the Haar low-pass band, exact. Size is cut to multiples of four."""
    height, width = (side // BLOCK * BLOCK for side in u.shape)
    rows = u[0:height:2, :width].astype(np.uint16)
    rows += u[1:height:2, :width]
    return rows[:, 0::2] + rows[:, 1::2]


def votes(u: Bytes, sums: NDArray[np.uint16], *, float_centre: bool = False) -> Bits:
    """One vote per 4×4 block of the low-pass band ``sums`` of ``u``, in reading order.

    ``float_centre`` measures U from the zero of float YUV (255 below in the low-pass band).
    """
    rows, columns = (side // BLOCK for side in sums.shape)
    blocks = sums[: rows * BLOCK, : columns * BLOCK].astype(np.int16)
    if float_centre:
        blocks -= 510
        np.abs(blocks, out=blocks)
    blocks[::BLOCK, ::BLOCK] = -1
    largest = np.maximum.reduce([blocks[row::BLOCK] for row in range(BLOCK)])
    largest = np.maximum.reduce([largest[:, column::BLOCK] for column in range(BLOCK)])
    found: Bits = largest % (2 * PERIOD) > PERIOD
    if not float_centre:
        _settle_ties(u, largest, found)
    return found.ravel()


def _settle_ties(u: Bytes, largest: NDArray[np.int16], found: Bits) -> None:
    """Blocks on the edge of a period, where the package's own rounding decides, as it does it.

    PyWavelets filters with 0.7071…, rows before columns, in double precision; the result may lie
    1e-13 to either side of a multiple of 18.
    """
    rows, columns = np.nonzero(largest % PERIOD == 0)
    if not len(rows):
        return
    offsets = np.arange(2 * BLOCK)
    y = rows[:, None, None] * 2 * BLOCK + offsets[:, None]
    x = columns[:, None, None] * 2 * BLOCK + offsets
    root = 0.7071067811865476
    pixels = u[y, x] * root
    halves = pixels[:, 1::2] + pixels[:, 0::2]
    halves *= root
    low = (halves[:, :, 1::2] + halves[:, :, 0::2]).reshape(len(rows), -1)
    value = low[:, 1:].max(axis=1)
    found[rows, columns] = value % PERIOD > 0.5 * PERIOD


def shares(block_votes: Bits, *, bits: int) -> Floats:
    """Share of 1-votes of each payload bit; NaN for a bit without a block."""
    turn = np.arange(len(block_votes)) % bits
    count = np.bincount(turn, minlength=bits)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(turn, block_votes, bits) / count)


def read_as_package(bit_shares: Floats) -> Bits:
    """The bits that ``WatermarkDecoder.decode(..., "dwtDct")`` returns."""
    return np.asarray(bit_shares * 255 > 127)


def read_ranked(bit_shares: Floats, *, ones: int) -> Bits:
    """The ``ones`` bits with most votes are 1; among equals the earlier."""
    bits = np.zeros(len(bit_shares), bool)
    bits[np.argsort(-bit_shares, kind="stable")[:ones]] = True
    return bits


def coin_bound(payload: Payload, matching: int) -> float:
    """P(at least ``matching`` of the bits match) when every bit is a fair coin (binomial)."""
    return _coin_bound(len(payload.bits), matching)


def ranked_bound(payload: Payload, matching: int) -> float:
    """The same when all orders of the bits are equally likely (hypergeometric)."""
    return _ranked_bound(len(payload.bits), payload.ones, matching)


@cache
def _coin_bound(size: int, matching: int) -> float:
    return float(sum(comb(size, count) for count in range(matching, size + 1)) / 2**size)


@cache
def _ranked_bound(size: int, ones: int, matching: int) -> float:
    least = ones - (size - matching) // 2
    ways = sum(comb(ones, hit) * comb(size - ones, ones - hit) for hit in range(least, ones + 1))
    return ways / comb(size, ones)


def find_watermarks(pixels: Bytes, *, readings: Sequence[str] = READINGS) -> list[Match]:
    """The payloads in an upright RGB picture (height, width, 3), the surest reading of each.

    Flat pictures, whose blocks all vote alike, never match. Pictures under 65,536 pixels carry no
    mark: the embedder refuses them.
    """
    import cv2

    height, width = pixels.shape[:2]
    if height * width < LEAST_PIXELS:
        return []
    rows = min(height, -(-MOST_PIXELS // width // 8) * 8)
    yuv = cv2.cvtColor(pixels[:rows], cv2.COLOR_RGB2YUV)
    u = np.asarray(cv2.extractChannel(yuv, 1), np.uint8)
    sums = low_pass(u)
    found = []
    ballots = {centre: votes(u, sums, float_centre=centre) for centre in (False, True)}
    for payload in PAYLOADS:
        matches = [
            match
            for reading in readings
            if (match := _match(payload, reading, ballots[reading == "ranked_float"])) is not None
        ]
        if matches:
            found.append(min(matches, key=lambda match: match.false_positive_bound))
    return found


def _match(payload: Payload, reading: str, ballot: Bits) -> Match | None:
    size = len(payload.bits)
    if len(ballot) < size:
        return None
    bit_shares = shares(ballot, bits=size)
    if np.ptp(bit_shares) == 0:
        return None
    ranked = reading != "package"
    bits = read_ranked(bit_shares, ones=payload.ones) if ranked else read_as_package(bit_shares)
    if bits.all() or not bits.any():
        return None
    matching = int((bits == payload.bits).sum())
    bound = (ranked_bound if ranked else coin_bound)(payload, matching)
    if bound > FALSE_POSITIVES_PER_PICTURE / (len(PAYLOADS) * len(READINGS)):
        return None
    return Match(payload.generator, reading, matching, size, bound)


class Watermark:
    """Looks for the marks in a picture, or in the first frames of a video."""

    name = "watermark"
    kinds = frozenset({Kind.IMAGE, Kind.VIDEO})

    def analyze(self, media: Media, engine: Engine, options: DetectOptions) -> list[Evidence]:
        pictures = list(self._pictures(media))
        if all(picture.shape[0] * picture.shape[1] < LEAST_PIXELS for picture in pictures):
            return [
                Evidence(
                    source=self.name,
                    status=Status.SKIPPED,
                    reason=Code.TOO_SMALL,
                    claim="The picture is too small to carry a known invisible watermark.",
                )
            ]
        matches = [match for picture in pictures for match in find_watermarks(picture)]
        if not matches:
            return [
                Evidence(
                    source=self.name,
                    status=Status.OK,
                    claim="No known generator watermark was found; its absence means nothing, "
                    "because compression and resizing remove it.",
                    details={"found": False, "payloads": [p.generator for p in PAYLOADS]},
                )
            ]
        return [_evidence(min(matches, key=lambda match: match.false_positive_bound))]

    @staticmethod
    def _pictures(media: Media) -> Iterator[Bytes]:
        if media.info.kind is Kind.IMAGE:
            yield media.image()
        else:
            for frame in media.frames(most=FRAMES):
                yield frame.pixels


def _evidence(match: Match) -> Evidence:
    return Evidence(
        source=Watermark.name,
        status=Status.OK,
        weight=Weight.CLAIM,
        declares=Declares.GENERATED,
        claim=f"The picture carries the invisible watermark of {match.generator}: "
        f"{match.matching_bits} of {match.payload_bits} bits match, which happens by chance in "
        f"fewer than 1 of {1 / FALSE_POSITIVES_PER_PICTURE:,.0f} pictures.",
        details={
            "found": True,
            "declares": "generated",
            "generator": match.generator,
            "reading": match.reading,
            "matching_bits": match.matching_bits,
            "payload_bits": match.payload_bits,
            "false_positive_bound": match.false_positive_bound,
            "false_positive_bound_per_picture": FALSE_POSITIVES_PER_PICTURE,
        },
    )
