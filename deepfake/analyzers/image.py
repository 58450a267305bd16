"""Was this whole picture made by a generative model? The ``image`` slot on its crops."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..content import localisation as localise
from ..content.inputs import read_picture, sides
from ..preprocess import Box, ImagePreprocess, Pixels
from ..reasons import Code
from ..types import Evidence, Kind, Status
from .claims import skip, word_score

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..media.opening import Media
    from ..settings import DetectOptions

STABILITY_QUALITY = 75
STABILITY_WINDOWS = 4
UNIT = 16


class Image:
    """One score for the picture, its interval under a recompression, and a heat map on request.

    Where a photo is found within borders or on a screenshot, it is judged as if it were alone.
    """

    name = "image"
    kinds = frozenset({Kind.IMAGE})

    def analyze(self, media: Media, engine: Engine, options: DetectOptions) -> list[Evidence]:
        bundle = engine.bundle("image")
        preprocess = bundle.preprocess
        assert isinstance(preprocess, ImagePreprocess)
        picture = read_picture(media.image(), bundle)
        if isinstance(picture, Code):
            return [skip(self.name, picture)]
        pixels, (batch, boxes), panel, caution = picture
        chosen = spread_over(len(boxes), most=STABILITY_WINDOWS) if options.stability else []
        if chosen:  # in the same batch, which a runtime does quicker than two
            changed = [preprocess.pad(recompress(pixels, boxes[index])) for index in chosen]
            batch = np.concatenate([batch, np.stack(changed)])
        together = engine.score(bundle, batch)
        scored = together.only(range(len(boxes)))
        low, high = scored.interval
        details: dict[str, object] = {"windows": len(scored.windows)}
        if chosen:
            before = together.only(chosen)
            after = together.only(range(len(boxes), len(batch)))
            again = scored.shifted(before, after)
            low, high = min(low, again), max(high, again)
            details["recompressed_score"] = round(again, 6)
        heatmaps, place = [], sides(panel) if panel else None
        if options.heatmap:
            heatmap = localise.heatmap(engine, bundle, pixels)
            heatmaps.append(replace(heatmap, box=place))
        points = bundle.calibration.points
        where = "the photo within the picture" if panel else "the picture"
        claim = word_score(scored.score, points, where=where, caution=caution)
        return [
            Evidence(
                source=self.name,
                status=Status.OK,
                reason=caution,
                claim=f"{claim} {_word_panel(panel)}" if panel else claim,
                score=scored.score,
                interval=(low, high),
                points=points,
                bundle=bundle.name,
                box=place,
                heatmaps=tuple(heatmaps),
                details=details,
            )
        ]


def _word_panel(panel: Box) -> str:
    left, top, right, bottom = sides(panel)
    return (
        f"Only that photo was judged, from {left},{top} to {right},{bottom}; not what is around it."
    )


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
