"""The web page over a Detector: ``build`` makes it, ``serve`` opens it on this machine.

gradio is imported by the first call, not by ``import app``. Nothing on the page comes from another
machine, and nothing is sent to one.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

from deepfake.errors import MissingDependency

if TYPE_CHECKING:
    import gradio

    from deepfake.detector import Detector

__all__ = ["build", "serve"]

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",  # gradio takes themes from there
}


def build(detector: Detector) -> gradio.Blocks:
    """The page as gradio ``Blocks``, to launch or to mount. Raises ``MissingDependency``.

    Its uploads go to the folder that ``GRADIO_TEMP_DIR`` names at the time of this call.
    """
    _prepare()
    from .page import build as build_page

    return build_page(detector)


def serve(detector: Detector, *, host: str, port: int) -> None:
    """Serve the page at ``host`` and ``port`` until Ctrl-C or SIGTERM, then delete every upload.

    Raises ``MissingDependency`` without gradio and ``SettingsError`` when the address is taken.
    """
    _prepare()
    from .server import serve as serve_page

    serve_page(detector, host=host, port=port)


def _prepare() -> None:
    if importlib.util.find_spec("gradio") is None:
        raise MissingDependency("gradio", extra="app")
    os.environ.update(_OFFLINE)
