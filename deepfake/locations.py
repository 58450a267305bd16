"""Where the bytes of a scan lie: local paths and the URLs of object stores."""

from __future__ import annotations

from .progress import Watch
from .settings import Limits
from .sources import OpenFile, display_name, open_path


def open_location(location: str, *, limits: Limits, watch: Watch) -> OpenFile:
    """Open and hash a local path."""
    return open_path(location, name=display_name(location), limits=limits, check=watch.check)
