"""Sources of evidence: one module each, listed in :func:`shipped_analyzers`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from ..types import Evidence, Kind

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..media.opening import Media
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


class DeferredAnalyzer:
    """An analyzer whose module is imported for the first file that it is asked about: pictures
    need none of what sounds and videos do.
    """

    def __init__(self, name: str, kinds: frozenset[Kind], *, attribute: str) -> None:
        self.name, self.kinds, self._attribute = name, kinds, attribute

    def analyze(self, media: Media, engine: Engine, options: DetectOptions) -> list[Evidence]:
        analyzer: Analyzer = getattr(import_module(f".{self.name}", __name__), self._attribute)()
        return analyzer.analyze(media, engine, options)


def shipped_analyzers(settings: Settings) -> tuple[Analyzer, ...]:
    """Every analyzer, in the order in which a report lists their evidence."""
    from .face import Faces
    from .image import Image
    from .metadata import Metadata
    from .provenance import Provenance, read_trust_anchors
    from .watermark import Watermark

    return (
        Provenance(trust_anchors=read_trust_anchors(settings.trust_anchors)),
        Metadata(),
        Watermark(),
        Image(),
        Faces(),
        DeferredAnalyzer("video", frozenset({Kind.VIDEO}), attribute="Video"),
        DeferredAnalyzer("audio", frozenset({Kind.AUDIO, Kind.VIDEO}), attribute="Audio"),
    )
