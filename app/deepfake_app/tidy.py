"""gradio, kept to what this page uses."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from importlib import import_module
from typing import Any

routes: Any = import_module("gradio.routes")
utils: Any = import_module("gradio.utils")


@contextlib.contextmanager
def keep_tidy() -> Iterator[None]:
    """In this block gradio makes no folder of its own, and does not load matplotlib.

    With each page it makes ``gradio/vibe_edit_history`` in the temporary folder, for an editor that
    is off here, and cannot where another user owns ``gradio``. Around each event it selects how
    matplotlib draws, which this page does not need, and which lists the fonts of the machine in the
    caches of the user.
    """
    before = routes.DEFAULT_TEMP_DIR, utils.MatplotlibBackendMananger
    with tempfile.TemporaryDirectory(prefix="deepfake-") as folder:
        routes.DEFAULT_TEMP_DIR = folder
        utils.MatplotlibBackendMananger = contextlib.nullcontext
        try:
            yield
        finally:
            routes.DEFAULT_TEMP_DIR, utils.MatplotlibBackendMananger = before
