"""Is a clean score an accident of the very pixels that were judged?

What an attack adds to a picture is tuned to the crops that the network sees, and loses its hold
once they lie a few pixels aside or are a little smaller, while the score of a picture that nobody
tuned hardly moves (Xu et al. 2018, "Feature Squeezing"; Guo et al. 2018, "Countering Adversarial
Images using Input Transformations"). So the quick tier is asked again about some of its crops, seen
aside. This accuses nobody: a score that does not survive it clears nobody either.

An attacker who knows of it can tune for it; ``docs/security/hardening.md`` has what that does, what
it finds of other attacks, and how often it speaks of genuine pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..preprocess import Box, ImagePreprocess, Pixels
from ..reasons import Code
from ..types import Evidence, Status

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..engine.engine import Engine
    from ..engine.scores import Scored

SOURCE = "manipulation"
DOWN, ACROSS = 5, 3
"""Pixels by which a crop is moved: no multiples of a network's strides or of blocks of JPEG."""
SHRUNK = 0.9
MOST_RISE = 1.0
"""In log-odds, by which a score may rise that nobody tuned."""


def measure_rise(
    engine: Engine, bundle: Bundle, pixels: Pixels, *, boxes: Sequence[Box], before: Scored
) -> float:
    """By how much the mean log-odds of the crops ``boxes`` of RGB ``pixels`` (height, width, 3)
    rise when they are seen aside, by the way of looking that raises them most. ``before`` is what
    the ``bundle`` said of those crops.
    """
    preprocess = bundle.preprocess
    assert isinstance(preprocess, ImagePreprocess)
    seen = [preprocess.fit(look(pixels, box)) for look in (move, reduce) for box in boxes]
    odds = engine.score(bundle, np.stack(seen)).log_odds.reshape(2, len(boxes)).mean(axis=1)
    return float(odds.max() - before.log_odds.mean())


def tell(rise: float) -> Evidence | None:
    """What a rise says of a score that is clean; None where it is as small as it should be."""
    if rise <= MOST_RISE:
        return None
    return Evidence(
        source=SOURCE,
        status=Status.OK,
        reason=Code.SCORE_DOES_NOT_LAST,
        claim="The score is clean for exactly these pixels alone: with crops moved by a few, or a "
        f"tenth smaller, the odds of synthesis are {np.exp(min(rise, 7)):.3g} times as high. "
        "Attacks on detectors leave pictures like that.",
        details={"rise": round(rise, 4)},
    )


def move(pixels: Pixels, box: Box) -> Pixels:
    """The crop a few pixels further down and across, or, at an edge, the other way; a picture that
    is no larger than the crop loses as many at its side.
    """
    top, height = _aside(box.top, box.height, pixels.shape[0], DOWN)
    left, width = _aside(box.left, box.width, pixels.shape[1], ACROSS)
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def reduce(pixels: Pixels, box: Box) -> Pixels:
    """What lies in and around the crop, a tenth smaller."""
    import cv2

    (top, down), (left, across) = (
        _around(start, length, whole)
        for start, length, whole in zip(
            (box.top, box.left), (box.height, box.width), pixels.shape[:2], strict=True
        )
    )
    size = min(box.width, round(across * SHRUNK)), min(box.height, round(down * SHRUNK))
    part = np.ascontiguousarray(pixels[top : top + down, left : left + across])
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)


def _aside(start: int, length: int, whole: int, step: int) -> tuple[int, int]:
    if start + length + step <= whole:
        return start + step, length
    if start >= step:
        return start - step, length
    return start + step, max(1, length - step)


def _around(start: int, length: int, whole: int) -> tuple[int, int]:
    wanted = min(whole, round(length / SHRUNK))
    first = min(max(0, start - (wanted - length) // 2), whole - wanted)
    return first, wanted
