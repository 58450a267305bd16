"""An upload as the page's server keeps it, for tests that call a handler directly."""

from __future__ import annotations

from typing import Any

from deepfake_app.storage import Uploads

DEFAULTS = (True, False, 0.5, 240, 30.0, False, "auto")
"""heatmap, stability, prior, max_frames_per_minute, max_audio_seconds, trust_claims, effort"""


def sent(uploads: Uploads, content: bytes, name: str) -> dict[str, Any]:
    """``content`` received by ``uploads``, and what the page then says of it."""
    with uploads.receiving(name) as incoming:
        incoming.write(content)
    return {"path": str(incoming.path), "name": name}
