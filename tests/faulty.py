"""Analyzers with a bug, or without an end, for tests of what becomes of the other files."""

from __future__ import annotations

import threading
import time
from typing import Any

from deepfake.media.opening import Media
from deepfake.types import Evidence, Kind, Status

BUG_PIXELS = 13
"""Pictures of this width meet the bug."""


class Faulty:
    """Divides by zero for pictures that are ``BUG_PIXELS`` wide."""

    name = "faulty"
    kinds = frozenset(Kind)

    def analyze(self, media: Media, engine: Any, options: Any) -> list[Evidence]:
        share = 1 / ((media.info.width or 0) - BUG_PIXELS)
        return [Evidence(source=self.name, status=Status.OK, claim=f"a share of {share}")]


class Endless:
    """Never ends by itself for pictures that are ``BUG_PIXELS`` wide."""

    name = "endless"
    kinds = frozenset(Kind)

    def __init__(self) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()

    def analyze(self, media: Media, engine: Any, options: Any) -> list[Evidence]:
        if media.info.width == BUG_PIXELS:
            self.begun.set()
            try:
                while True:
                    media.watch.check()
                    time.sleep(0.001)
            finally:
                self.ended.set()
        return [Evidence(source=self.name, status=Status.OK, claim="nothing")]
