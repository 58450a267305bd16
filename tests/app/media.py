"""An upload as gradio hands it over, for tests that call a handler directly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DEFAULTS = (True, False, 0.5, 240, 30.0)
"""heatmap, stability, prior, max_frames_per_minute, max_audio_seconds"""


def sent(folder: Path, content: bytes, name: str) -> dict[str, Any]:
    """``content`` in a folder of its own, as gradio keeps an upload, and its ``FileData``."""
    place = folder / f"{len(list(folder.iterdir()))}-hash"
    place.mkdir()
    path = place / "stored"
    path.write_bytes(content)
    return {"path": str(path), "orig_name": name, "meta": {"_type": "gradio.FileData"}}
