"""Was this whole picture made by a generative model? The ``image`` slot on its crops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import explain
from ..preprocess import ImagePreprocess, Pixels
from ..types import Evidence, Kind, Status
from .claims import skip, word_score

if TYPE_CHECKING:
    from ..engine import Engine
    from ..media import Media
    from ..settings import DetectOptions

GRAPHIC_FLAT_SHARE = 0.7
STABILITY_QUALITY = 75


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
        scored = engine.score(bundle, preprocess(pixels).batch)
        low, high = scored.interval
        details: dict[str, object] = {"bundle": bundle.name, "windows": len(scored.windows)}
        if options.stability:
            again = engine.score(bundle, preprocess(recompress(pixels)).batch)
            low, high = min(low, again.score), max(high, again.score)
            details["recompressed_score"] = round(again.score, 6)
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
                heatmaps=(explain.heatmap(engine, bundle, pixels),) if options.heatmap else (),
                details=details,
            )
        ]


def recompress(pixels: Pixels, *, quality: int = STABILITY_QUALITY) -> Pixels:
    """The picture after one JPEG round."""
    import cv2

    _, jpeg = cv2.imencode(
        ".jpg",
        cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, quality],
    )
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB), np.uint8)


def flat_share(pixels: Pixels) -> float:
    """Share of 8×8 blocks whose brightness spans at most one step: large in graphics and
    screenshots, small in photographs even after strong compression.
    """
    height, width = (side - side % 8 for side in pixels.shape[:2])
    if not height or not width:
        return 0.0
    green = pixels[:height, :width, 1].reshape(height // 8, 8, width // 8, 8)
    extent = green.max(axis=(1, 3)).astype(int) - green.min(axis=(1, 3))
    clipped = (green.max(axis=(1, 3)) == 0) | (green.min(axis=(1, 3)) == 255)
    flat = extent <= 1
    return float((flat & ~clipped).mean()) if clipped.mean() < 0.5 else float(flat.mean())
