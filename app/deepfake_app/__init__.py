"""The web page over a Detector: ``serve`` opens it on this machine, ``build`` makes it alone.

gradio is imported by the first call, not by ``import app``. Nothing on the page comes from another
machine, and nothing is sent to one.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from deepfake.errors import MissingDependency

from .address import check_address
from .limits import PageLimits

if TYPE_CHECKING:
    from deepfake.detector import Detector

__all__ = ["PageLimits", "check_address", "prepare", "serve"]

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",  # gradio takes themes from there
}


def serve(
    detector: Detector,
    *,
    host: str,
    port: int,
    public: bool = False,
    allowed_hosts: Iterable[str] = (),
    limits: PageLimits | None = None,
) -> None:
    """Serve the page at ``host`` and ``port`` until Ctrl-C or SIGTERM, then delete every upload.

    An address that other machines can reach needs ``public``; ``allowed_hosts`` are more names
    under which the page answers. Raises ``MissingDependency`` without gradio, and
    ``SettingsError`` when the address is taken or not allowed.
    """
    prepare()
    from .server import serve as serve_page

    serve_page(
        detector,
        host=host,
        port=port,
        public=public,
        allowed_hosts=allowed_hosts,
        limits=limits or PageLimits(),
    )


def prepare() -> None:
    """What must come before gradio is imported. Raises ``MissingDependency`` without it."""
    if importlib.util.find_spec("gradio") is None:
        raise MissingDependency("gradio", extra="app")
    os.environ.update(_OFFLINE)
