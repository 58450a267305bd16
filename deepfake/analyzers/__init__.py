"""Sources of evidence: one module each, listed in :func:`shipped_analyzers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

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
    from .face import Faces
    from .image import Image
    from .metadata import Metadata
    from .provenance import Provenance, read_trust_anchors
    from .video import Video
    from .watermark import Watermark

    return (
        Provenance(trust_anchors=read_trust_anchors(settings.trust_anchors)),
        Metadata(),
        Watermark(),
        Image(),
        Faces(),
        Video(),
        Audio(),
    )
