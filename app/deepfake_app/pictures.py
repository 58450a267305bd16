"""What was examined, with its heat maps and faces, small enough for a page."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import NamedTuple

import cv2

from deepfake.media.opening import open_media
from deepfake.preprocess import Pixels
from deepfake.progress import Watch
from deepfake.settings import Limits
from deepfake.show.contact_sheet import choose_grid, exact_clock
from deepfake.show.exhibits import Exhibit, find_exhibits
from deepfake.show.heatmaps import DEFAULT_LIMIT
from deepfake.types import Kind, Report

LONGEST_SIDE_PIXELS = 1280
JPEG_QUALITY = 88


class Pictures(NamedTuple):
    """Data URLs of equal size; ``subject`` says what they show, ``over`` what the second adds.

    ``limit`` is the score from which the heat map is drawn; None where all of it lies below.
    """

    plain: str
    drawn: str
    subject: str
    over: str = "heat map"
    limit: float | None = DEFAULT_LIMIT


class Tile(NamedTuple):
    """A frame of a video as a data URL, and what is to be said of it."""

    url: str
    caption: str


class Shown(NamedTuple):
    """A picture or the spectrogram of a sound, or the ``tiles`` of a video with their captions."""

    pictures: Pictures | None = None
    tiles: tuple[Tile, ...] = ()


def draw_pictures(
    path: Path, report: Report, *, limits: Limits, watch: Watch | None = None
) -> Shown:
    """Decode the file again for what the report can show; nothing when nothing was scored.

    Raises ``MediaError`` when it can no longer be decoded, and as ``watch`` does.
    """
    most = choose_grid(report.media.width, report.media.height).most
    with open_media(path, limits=limits, name=report.path, watch=watch) as media:
        exhibits = [
            exhibit.shrunk(LONGEST_SIDE_PIXELS)
            for exhibit in find_exhibits(media, report, most=most)
        ]
    if report.media.kind is Kind.VIDEO:
        return Shown(
            tiles=tuple(Tile(_data_url(exhibit.draw()), caption(exhibit)) for exhibit in exhibits)
        )
    if not exhibits:
        return Shown()
    subject = "The spectrogram" if report.media.kind is Kind.AUDIO else "The picture"
    (exhibit,) = exhibits
    plain, drawn = _data_url(exhibit.pixels), _data_url(exhibit.draw())
    limit = min(exhibit.limits.values(), default=DEFAULT_LIMIT) if exhibit.shows_heat else None
    return Shown(Pictures(plain, drawn, subject, _overlay_words(exhibit), limit))


def caption(exhibit: Exhibit) -> str:
    """The time of a frame, the faces framed in it and the scores at that time."""
    parts = [exact_clock(exhibit.second or 0.0), *(face.text for face in exhibit.faces)]
    named = {face.name for face in exhibit.faces}
    ordered = sorted(exhibit.scores, key=lambda item: -item[1])
    parts += [f"{name} {score:.2f}" for name, score in ordered if name not in named]
    return " · ".join(parts)


def _overlay_words(exhibit: Exhibit) -> str:
    words = ["heat map"] if exhibit.heatmaps else []
    words += ["faces"] if exhibit.faces else []
    return " and the ".join(words)


def _data_url(pixels: Pixels) -> str:
    _, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode("ascii")
