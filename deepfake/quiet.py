"""Keeps dependencies from reporting to their makers: what every process of ours has set before it
imports one of them.

ONNX Runtime reads its variable once, when it is imported. Where it is not set then, it writes an
identifier to ``.ses`` in the temporary folder and another one below the cache of the user, and
looks up its maker's host nine seconds later; its ``disable_telemetry_events`` prevents neither.
OpenVINO has no such variable: its client is left out by :func:`.backends.import_openvino`.
"""

from __future__ import annotations

import os

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime from 1.29
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",  # the common one of those that agreed on it
}


def silence() -> None:
    """Set the switches in this process and for all that it starts, whatever they were before."""
    os.environ.update(SWITCHES)
