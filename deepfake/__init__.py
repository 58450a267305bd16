"""Detects generated and manipulated images, speech and video.

>>> import deepfake
>>> report = deepfake.detect("photo.jpg")     # doctest: +SKIP
>>> report.verdict, report.probability        # doctest: +SKIP

Names are imported when they are first used, so that a process that reports on one file can do so
while the process that decodes it starts. The one thing that the import does is to keep dependencies
quiet, which must come before theirs.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .quiet import silence
from .version import VERSION as __version__  # noqa: N811

if TYPE_CHECKING:
    from .detector import Detector
    from .errors import DeepfakeError
    from .media.opening import Source, open_media
    from .settings import DetectOptions, Limits, Settings
    from .types import Evidence, Kind, Report, Verdict

__all__ = [
    "DeepfakeError",
    "DetectOptions",
    "Detector",
    "Evidence",
    "Kind",
    "Limits",
    "Report",
    "Settings",
    "Verdict",
    "__version__",
    "detect",
    "open_media",
]

_PLACES = {
    "DeepfakeError": "errors",
    "DetectOptions": "settings",
    "Detector": "detector",
    "Evidence": "types",
    "Kind": "types",
    "Limits": "settings",
    "Report": "types",
    "Settings": "settings",
    "Verdict": "types",
    "open_media": "media.opening",
}

silence()


def detect(
    source: Source,
    options: DetectOptions | None = None,
    *,
    name: str | None = None,
    sample_rate: int | None = None,
) -> Report:
    """Examine one file with default settings; see :meth:`Detector.detect`.

    The detector is made at the first call and kept.
    """
    return _default_detector().detect(source, options, name=name, sample_rate=sample_rate)


@functools.cache
def _default_detector() -> Detector:
    from .media.process import POOL
    from .settings import Limits

    POOL.prepare(memory_bytes=Limits().decode_memory_bytes)  # it starts during the next import
    from .detector import Detector

    return Detector()


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'deepfake' has no attribute {name!r}")
    value = getattr(import_module(f".{_PLACES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
