"""Was this whole picture made by a generative model? The ``image`` slot on its crops."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..bundle import FULL_TIERS, QUICK_TIERS
from ..content import localisation as localise
from ..content.inputs import read_picture, sides
from ..engine.places import draw_places
from ..preprocess import Box, Crops, ImagePreprocess, Pixels
from ..reasons import Code
from ..types import Evidence, Kind, Status
from . import manipulation
from .claims import MISSING, skip, word_full_tier, word_score

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..engine.engine import Engine
    from ..engine.scores import Scored
    from ..media.opening import Media
    from ..settings import DetectOptions

STABILITY_QUALITY = 75
STABILITY_WINDOWS = 4
FULL_STABILITY_WINDOWS = 1
"""Of a full tier that judges alone, whose windows cost several times as much. Beside a quick one it
has none: what the quick one makes of the copy moves both."""
UNIT = 16


class Image:
    """One score for the picture, its interval under a recompression, and a heat map on request.

    Where a photo is found within borders or on a screenshot, it is judged as if it were alone. The
    quick tier of the slot looks first, and the full one as the effort says. The heat map is that of
    the quick tier.
    """

    name = "image"
    kinds = frozenset({Kind.IMAGE})

    def analyze(self, media: Media, engine: Engine, options: DetectOptions) -> list[Evidence]:
        bundle = engine.bundle("image")
        picture = read_picture(media.image(), bundle, key=engine.crop_key)
        if isinstance(picture, Code):
            return [skip(self.name, picture)]
        pixels, crops, panel, caution = picture
        look, first, details, said = look_closer(engine, pixels, options, crops=crops)
        heatmaps, place = [], sides(panel) if panel else None
        if options.heatmap:
            heatmap = localise.heatmap(engine, bundle, pixels)
            heatmaps.append(replace(heatmap, box=place))
        if caution is None and MISSING in details:
            caution = Code.FULL_TIER_MISSING
        points = look.bundle.calibration.points
        where = "the photo within the picture" if panel else "the picture"
        claim = word_score(look.scored.score, points, where=where, caution=caution)
        sentences = [claim, *([_word_panel(panel)] if panel else []), *said]
        found = Evidence(
            source=self.name,
            status=Status.OK,
            reason=caution,
            claim=" ".join(sentences),
            score=look.scored.score,
            interval=look.interval,
            points=points,
            bundle=look.bundle.name,
            box=place,
            heatmaps=tuple(heatmaps),
            details=look.details() | details,
        )
        if first is None or not options.stability or look.scored.score >= points.authentic:
            return [found]
        told = manipulation.tell(look_aside(engine, first, pixels, crops=crops))
        return [found, *([replace(told, bundle=first.bundle.name)] if told else [])]


@dataclass(frozen=True)
class Look:
    """What one tier says of a picture, and what it would say of it once saved again, if asked."""

    bundle: Bundle
    scored: Scored
    again: Scored | None

    @property
    def scores(self) -> list[float]:
        return [one.score for one in (self.scored, self.again) if one is not None]

    @property
    def interval(self) -> tuple[float, float]:
        low, high = self.scored.interval
        return min(low, *self.scores), max(high, *self.scores)

    def beside(self, quick: Look) -> Look:
        """The full tier's look with that of the quick one counted in, where it does so."""
        if self.bundle.calibration.quick is None:
            return self
        again = quick.again and self.scored.beside(quick.again)
        return Look(self.bundle, self.scored.beside(quick.scored), again)

    def details(self) -> dict[str, object]:
        found: dict[str, object] = {"windows": len(self.scored.windows)}
        if self.again is not None:
            found["recompressed_score"] = round(self.again.score, 6)
        return found


def look_closer(
    engine: Engine, pixels: Pixels, options: DetectOptions, *, crops: Crops
) -> tuple[Look, Look | None, dict[str, object], list[str]]:
    """The look of the tier that has the last word on RGB ``pixels`` (height, width, 3), whose
    ``crops`` are those of the quick tier, and the look of the quick tier, if it was asked; details
    of how it came to that, and sentences about it.
    """
    quick, full = engine.bundle("image"), engine.full_tier("image")
    missing = engine.missing.get(FULL_TIERS["image"])
    height, width = pixels.shape[:2]
    refused = full and full.limits.why_not(width=width, height=height)
    forced = options.effort == "full"
    if full and forced and not refused and full.calibration.quick is None:
        said = ["The full tier judged alone, as was asked."]
        return _look_anew(engine, full, pixels, options), None, {"tier": "full"}, said
    first = look_at(engine, quick, pixels, options, crops=crops)
    details: dict[str, object] = {"tier": "quick"}
    if not (full or missing) or not quick.asks_for_more(first.scores, effort=options.effort):
        return first, first, details, []
    if full is None:
        return first, first, details | {MISSING: missing}, []
    if refused:
        return (
            first,
            first,
            details,
            ["The quick tier judged alone: the picture is too small for the full one."],
        )
    second = _look_anew(engine, full, pixels, options).beside(first)
    details = {"tier": "full", "quick_bundle": quick.name}
    details["quick_score"] = round(first.scored.score, 6)
    said = [word_full_tier(first.scored.score, asked=forced, counted=True)]
    return second, first, details, said


def look_aside(engine: Engine, look: Look, pixels: Pixels, *, crops: Crops) -> float:
    """By how much the log-odds of the quick tier's ``look`` rise with a small step aside; see
    :mod:`.manipulation`.
    """
    chosen = spread_over(len(crops.boxes), most=STABILITY_WINDOWS)
    boxes, before = [crops.boxes[index] for index in chosen], look.scored.only(chosen)
    return manipulation.measure_rise(engine, look.bundle, pixels, boxes=boxes, before=before)


def _look_anew(engine: Engine, bundle: Bundle, pixels: Pixels, options: DetectOptions) -> Look:
    """What a tier says of crops of its own."""
    preprocess = bundle.preprocess
    assert isinstance(preprocess, ImagePreprocess)
    crops = preprocess(pixels, draw=draw_places(pixels, engine.crop_key))
    return look_at(engine, bundle, pixels, options, crops=crops)


def look_at(
    engine: Engine, bundle: Bundle, pixels: Pixels, options: DetectOptions, *, crops: Crops
) -> Look:
    """What one tier says of RGB ``pixels``: of its ``crops`` and, with ``stability``, of some of
    them after a recompression, all in one batch, which a runtime does quicker than two.
    """
    preprocess = bundle.preprocess
    assert isinstance(preprocess, ImagePreprocess)
    batch, boxes = crops
    most = STABILITY_WINDOWS
    if bundle.slot in QUICK_TIERS:
        most = 0 if bundle.calibration.quick else FULL_STABILITY_WINDOWS
    chosen = spread_over(len(boxes), most=most) if most and options.stability else []
    if chosen:
        changed = [preprocess.fit(recompress(pixels, boxes[index])) for index in chosen]
        batch = np.concatenate([batch, np.stack(changed)])
    together = engine.score(bundle, batch)
    scored = together.only(range(len(boxes)))
    if not chosen:
        return Look(bundle, scored, None)
    before, after = together.only(chosen), together.only(range(len(boxes), len(batch)))
    return Look(bundle, scored, scored.shifted(before, after))


def _word_panel(panel: Box) -> str:
    left, top, right, bottom = sides(panel)
    return (
        f"Only that photo was judged, from {left},{top} to {right},{bottom}; not what is around it."
    )


def spread_over(count: int, *, most: int) -> list[int]:
    """At most ``most`` of ``count`` indexes, evenly spread. Where it is one, the middle one or the
    first of two, so that it is never an overview, which comes after the crops.
    """
    if most == 1:
        return [(count - 1) // 2]
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
