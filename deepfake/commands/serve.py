"""``deepfake serve``: the web page."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from ..errors import MissingDependency
from .options import read_settings


def add_serve(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command."""
    serve = commands.add_parser("serve", parents=parents, help="open the web page on this machine")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, default=7860, help="port, 0 for any free one (7860)")
    serve.add_argument(
        "--public",
        action="store_true",
        help="allow a --host that other machines can reach; the page asks nobody for a password",
    )
    serve.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="one more host name under which the page answers, as behind a proxy; may be repeated",
    )
    serve.add_argument(
        "--upload-megabytes",
        type=int,
        default=4096,
        help="most disk space of all uploads together, in MiB (%(default)s)",
    )
    serve.add_argument(
        "--file-seconds",
        type=float,
        default=600.0,
        help="longest examination of one file (%(default)g)",
    )
    serve.set_defaults(run=run_serve)


def run_serve(options: argparse.Namespace) -> int:
    """``deepfake serve``: the web page, until Ctrl-C."""
    try:
        page = importlib.import_module("deepfake_app")
    except ImportError as error:
        raise MissingDependency("gradio", extra="app") from error
    from ..detector import Detector

    page.check_address(options.host, options.port, public=options.public)
    settings = read_settings(options)
    disk_bytes = options.upload_megabytes * 1024**2
    limits = page.PageLimits(
        disk_bytes=disk_bytes,
        upload_bytes=min(page.PageLimits.upload_bytes, disk_bytes, settings.limits.file_bytes),
        file_seconds=options.file_seconds,
    )
    with Detector(settings) as detector:
        detector.engine.check(detector.engine.active)
        detector.engine.warm()
        page.serve(
            detector,
            host=options.host,
            port=options.port,
            public=options.public,
            allowed_hosts=options.allow_host,
            limits=limits,
        )
    return 0
