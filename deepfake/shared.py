"""The one call: a detector that is made when it is first needed and kept."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from .media.process import POOL
from .settings import Limits

if TYPE_CHECKING:
    from .detector import Detector
    from .media.opening import Source
    from .settings import DetectOptions
    from .types import Report


@functools.cache
def shared_detector() -> Detector:
    """The detector behind :func:`detect`, made at its first call with default settings."""
    POOL.prepare(memory_bytes=Limits().decode_memory_bytes)  # it starts during the next import
    from .detector import Detector

    return Detector()


def detect(
    source: Source,
    options: DetectOptions | None = None,
    *,
    name: str | None = None,
    sample_rate: int | None = None,
) -> Report:
    """Examine one file with default settings; see :meth:`Detector.detect`."""
    return shared_detector().detect(source, options, name=name, sample_rate=sample_rate)
