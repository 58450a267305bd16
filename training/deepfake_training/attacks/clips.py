"""Laundering of clips: re-encoded, re-framed, filmed from a screen, sent twice; each is written as
H.264 and AAC by :func:`..evaluation.views.code_clip`, after the histories that Nimble challenge
data (Guan et al. 2019, "MFC Datasets") met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from deepfake.media.opening import Media, open_media
from deepfake.preprocess import Pixels

from .. import perturb
from ..evaluation.views import View, code_clip

_UPRIGHT = 9 / 16


def crop_upright(pixels: Pixels) -> Pixels:
    """The middle of a frame in the shape of a phone held upright."""
    height, width = pixels.shape[:2]
    across = min(width, max(2, round(height * _UPRIGHT)))
    left = (width - across) // 2
    return np.ascontiguousarray(pixels[:, left : left + across])


def frame_with_bars(pixels: Pixels) -> Pixels:
    """A frame on a blurred copy of itself, as wide clips are shown upright."""
    height, width = pixels.shape[:2]
    wide = round(width * 0.8), round(height * 0.8)
    inner = cv2.resize(pixels, wide, interpolation=cv2.INTER_AREA)
    page = cv2.GaussianBlur(pixels, (0, 0), max(2.0, height / 24))
    top, left = (height - wide[1]) // 2, (width - wide[0]) // 2
    page[top : top + wide[1], left : left + wide[0]] = inner
    return np.asarray(page, np.uint8)


def send_twice(media: Media) -> bytes:
    """A messenger's copy, sent on by another messenger."""
    first = code_clip(crf=34, most_height=480)(media)
    with open_media(first, limits=media.limits) as sent:
        return code_clip(crf=36, most_height=360)(sent)


def _view(says: str, make: Callable[[Media], bytes]) -> View:
    return View(says=says, suffix=".mp4", make=make)


CLIPS: Mapping[str, View] = {
    "messenger-twice": _view("480 lines at CRF 34, then 360 lines at CRF 36", send_twice),
    "upright": _view("cropped to 9:16, H.264 at CRF 26", code_clip(crf=26, change=crop_upright)),
    "bars": _view(
        "on a blurred copy of itself, H.264 at CRF 26", code_clip(crf=26, change=frame_with_bars)
    ),
    "mirror": _view("left and right exchanged, CRF 23", code_clip(crf=23, change=perturb.flip)),
    "blurred": _view(
        "every frame blurred by a pixel, CRF 23",
        code_clip(crf=23, change=lambda pixels: perturb.blur(pixels, sigma=1.0)),
    ),
    "quicker": _view("8 % faster, sound too, CRF 26", code_clip(crf=26, speed=1.08)),
}
