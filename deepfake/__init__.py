"""Detects generated and manipulated images, speech and video.

>>> import deepfake
>>> report = deepfake.detect("photo.jpg")     # doctest: +SKIP
>>> report.verdict, report.probability        # doctest: +SKIP

Names are imported when they are first used, so that a process that reports on one file can do so
while the process that decodes it starts. The one thing that the import does is to keep dependencies
quiet, which must come before theirs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .quiet import silence

if TYPE_CHECKING:
    from .detector import Detector
    from .errors import DeepfakeError
    from .media.opening import open_media
    from .settings import DetectOptions, Limits, Settings
    from .shared import detect
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
    "detect": "shared",
    "open_media": "media",
}

silence()


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'deepfake' has no attribute {name!r}")
    value = getattr(import_module(f".{_PLACES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
