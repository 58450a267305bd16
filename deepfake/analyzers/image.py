"""Was this whole picture made by a generative model? The ``image`` slot on its crops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import localise
from ..preprocess import Box, ImagePreprocess, Pixels
from ..types import Evidence, Kind, Status
from .claims import skip, word_score

if TYPE_CHECKING:
    from ..engine import Engine
    from ..media import Media
    from ..settings import DetectOptions

GRAPHIC_FLAT_SHARE = 0.7
STABILITY_QUALITY = 75
STABILITY_WINDOWS = 4
UNIT = 16
FLAT_PIXELS = 500_000
"""Of larger pictures every second, third … row of blocks is looked at."""


class Image:
    """One score for the picture, its interval under a recompression, and a heat map on request."""

    name = "image"
    kinds = frozenset({Kind.IMAGE})

    def analyze(self, media: Media, engine: Engine, options: DetectOptions) -> list[Evidence]:
        bundle = engine.bundle("image")
        preprocess = bundle.preprocess
        assert isinstance(preprocess, ImagePreprocess)
        pixels = media.image()
        height, width = pixels.shape[:2]
        reason = bundle.why_not(width=width, height=height)
        if reason:
            return [skip(self.name, reason)]
        batch, boxes = preprocess(pixels)
        chosen = spread_over(len(boxes), most=STABILITY_WINDOWS) if options.stability else []
        if chosen:  # in the same batch, which a runtime does quicker than two
            changed = [preprocess.pad(recompress(pixels, boxes[index])) for index in chosen]
            batch = np.concatenate([batch, np.stack(changed)])
        together, calibration = engine.score(bundle, batch), bundle.calibration
        scored = together.only(range(len(boxes)), calibration)
        low, high = scored.interval
        details: dict[str, object] = {
            "bundle": bundle.name,
            "windows": len(scored.windows),
        }
        if chosen:
            before = together.only(chosen, calibration)
            after = together.only(range(len(boxes), len(batch)), calibration)
            again = scored.shifted(before, after, calibration)
            low, high = min(low, again), max(high, again)
            details["recompressed_score"] = round(again, 6)
        caution = "graphic_not_photo" if flat_share(pixels) > GRAPHIC_FLAT_SHARE else None
        points = bundle.calibration.points
        return [
            Evidence(
                source=self.name,
                status=Status.OK,
                reason=caution,
                claim=word_score(scored.score, points, where="the picture", caution=caution),
                score=scored.score,
                interval=(low, high),
                points=points,
                heatmaps=(localise.heatmap(engine, bundle, pixels),) if options.heatmap else (),
                details=details,
            )
        ]


def spread_over(count: int, *, most: int) -> list[int]:
    """At most ``most`` of ``count`` indexes, evenly spread."""
    chosen = np.linspace(0, count - 1, min(count, most)).round().astype(int)
    return [int(index) for index in chosen]


def recompress(pixels: Pixels, box: Box, *, quality: int = STABILITY_QUALITY) -> Pixels:
    """What ``box`` shows after one JPEG round of the whole picture.

    Only whole coding units (16 pixels, with 4:2:0) around the box go through the codec, one more on
    each side than it touches, because colours are smoothed across their edges.
    """
    import cv2

    top, left = (max(0, start // UNIT - 1) * UNIT for start in (box.top, box.left))
    bottom, right = (
        (end + UNIT - 1) // UNIT * UNIT + UNIT
        for end in (box.top + box.height, box.left + box.width)
    )
    part = cv2.cvtColor(pixels[top:bottom, left:right], cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB), np.uint8)
    down, across = box.top - top, box.left - left
    return decoded[down : down + box.height, across : across + box.width]


def flat_share(pixels: Pixels) -> float:
    """Share of 8×8 blocks whose brightness spans at most one step: large in graphics and
    screenshots, small in photographs even after strong compression.
    """
    import cv2

    height, width = (side - side % 8 for side in pixels.shape[:2])
    if not height or not width:
        return 0.0
    every = -(-height * width // FLAT_PIXELS)
    bands = pixels[:height, :width].reshape(height // 8, 8, width, 3)[::every]
    green = np.asarray(cv2.extractChannel(bands.reshape(-1, width, 3), 1))
    rows = green.reshape(-1, 8, width)
    highest = rows.max(axis=1).reshape(-1, width // 8, 8).max(axis=2)
    lowest = rows.min(axis=1).reshape(-1, width // 8, 8).min(axis=2)
    clipped = (highest == 0) | (lowest == 255)
    flat = highest - lowest <= 1
    return float((flat & ~clipped).mean()) if clipped.mean() < 0.5 else float(flat.mean())
