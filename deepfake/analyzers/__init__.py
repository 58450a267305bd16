"""Sources of evidence: one module each, listed in :func:`shipped_analyzers`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import SettingsError
from ..types import Evidence, Kind

if TYPE_CHECKING:
    from ..engine import Engine
    from ..media import Media
    from ..settings import DetectOptions, Settings


class Analyzer(Protocol):
    """One source of evidence.

    ``analyze`` returns what was found. It raises a ``DeepfakeError`` for what the file or the
    installation does not allow (the detector turns it into failed evidence), anything else only for
    a bug.
    """

    name: str
    kinds: frozenset[Kind]

    def analyze(self, media: Media, engine: Engine, options: DetectOptions) -> list[Evidence]: ...


def shipped_analyzers(settings: Settings) -> tuple[Analyzer, ...]:
    """Every analyzer, in the order in which a report lists their evidence."""
    from .audio import Audio
    from .image import Image
    from .metadata import Metadata
    from .provenance import Provenance
    from .video import Video
    from .watermark import Watermark

    return (
        Provenance(trust_anchors=_read_anchors(settings.trust_anchors)),
        Metadata(),
        Watermark(),
        Image(),
        Video(),
        Audio(),
    )


def _read_anchors(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"trust anchors {str(path)!r}: cannot be read",
            hint="give a PEM file of certificate authorities",
        ) from error
