"""Small pictures of media, for lists."""

from __future__ import annotations

from ..media.opening import Media
from ..preprocess import Pixels, shrink
from ..types import Kind

THUMBNAIL_SIDE_PIXELS = 128
THUMBNAIL_SECONDS = 10.0
"""How long it may take to open what one is drawn of."""


def draw_thumbnail(media: Media) -> bytes | None:
    """A small JPEG of a picture or of the first frame of a video, or nothing if there is none."""
    if media.info.kind is Kind.IMAGE:
        return _jpeg(media.image())
    frame = next(iter(media.frames(most=1)), None)
    return None if frame is None else _jpeg(frame.pixels)


def _jpeg(pixels: Pixels) -> bytes:
    import cv2

    height, width = pixels.shape[:2]
    scale = min(1.0, THUMBNAIL_SIDE_PIXELS / max(height, width))
    small = shrink(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
    _, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 75]
    )
    content: bytes = encoded.tobytes()
    return content
