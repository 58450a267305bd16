"""The one picture of a report that people look at, and the file that it is written to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SettingsError
from ..preprocess import Pixels
from ..types import Kind, Report
from .contact_sheet import contact_sheet
from .exhibits import find_exhibits

if TYPE_CHECKING:
    from pathlib import Path

    from ..media.opening import Media

MOST_DRAWN_PIXELS = 2400


def draw(media: Media, report: Report) -> Pixels | None:
    """The picture, or the spectrogram of a sound, under its heat maps and with its faces; the
    contact sheet of a video. None where nothing was scored.
    """
    if report.media.kind is Kind.VIDEO:
        return contact_sheet(media, report)
    shown = find_exhibits(media, report, most=1)
    return shown[0].shrunk(MOST_DRAWN_PIXELS).draw() if shown else None


def write_png(pixels: Pixels, path: Path) -> None:
    """Write RGB ``pixels`` as PNG; raises ``SettingsError`` when the file cannot be written."""
    import cv2

    _, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    try:
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise SettingsError(
            f"picture {str(path)!r}: cannot be written ({error.strerror})",
            hint="choose another place or free space",
        ) from error
