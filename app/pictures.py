"""The examined picture and its heat map, small enough for a page."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from deepfake.explain import located, overlay
from deepfake.media import open_media
from deepfake.preprocess import Pixels
from deepfake.settings import Limits
from deepfake.types import Report

LONGEST_SIDE_PIXELS = 1280
JPEG_QUALITY = 88


class Pictures(NamedTuple):
    """Data URLs of equal size; ``subject`` says what they show."""

    plain: str
    heat: str
    subject: str


def draw_pictures(path: Path, report: Report, *, limits: Limits) -> Pictures | None:
    """Decode the file again for the picture under its heat map; None when there is no heat map.

    Raises ``MediaError`` when it can no longer be decoded.
    """
    if not any(evidence.heatmaps for evidence in report.evidence):
        return None
    with open_media(path, limits=limits, name=report.path) as media:
        found = located(media, report)
    if found is None:
        return None
    pixels, heatmap = found
    pixels = _shrink(pixels)
    subject = "The spectrogram" if heatmap.name == "audio" else "The picture"
    if heatmap.second is not None:
        subject = f"The frame at {heatmap.second:.2f} s"
    return Pictures(_data_url(pixels), _data_url(overlay(pixels, heatmap)), subject)


def _shrink(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = LONGEST_SIDE_PIXELS / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _data_url(pixels: Pixels) -> str:
    _, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode("ascii")
