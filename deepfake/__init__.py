"""Detects generated and manipulated images, speech and video.

>>> import deepfake
>>> report = deepfake.detect("photo.jpg")     # doctest: +SKIP
>>> report.verdict, report.probability        # doctest: +SKIP
"""

from .detector import Detector, detect
from .errors import DeepfakeError
from .media import open_media
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
    "detect",
    "open_media",
]
