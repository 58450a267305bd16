"""``deepfake serve``: the web page, and the HTTP interface beside it."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import MissingDependency
from .options import read_settings


def add_serve(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command."""
    serve = commands.add_parser(
        "serve", parents=parents, help="open the web page and the HTTP interface on this machine"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, default=7860, help="port, 0 for any free one (7860)")
    serve.add_argument(
        "--public",
        action="store_true",
        help="show the page under a --host that other machines can reach; it asks nobody for a "
        "password",
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
    service = serve.add_argument_group("HTTP interface", "needs the extra server")
    add_data(service)
    service.add_argument(
        "--sync-megabytes",
        type=int,
        default=16,
        help="largest file that is examined while its sender waits, in MiB; larger ones become "
        "jobs (%(default)s)",
    )
    service.add_argument(
        "--job-workers",
        type=int,
        default=1,
        help="threads that examine jobs; 0 leaves them in line (%(default)s)",
    )
    service.add_argument(
        "--keep-days",
        type=float,
        default=30,
        help="reports and jobs that have ended are deleted after so many (%(default)s)",
    )
    service.add_argument(
        "--limits",
        metavar="URL",
        help="valkey://HOST:6379, where several servers count the rates of keys together (each "
        "for itself)",
    )
    service.add_argument(
        "--fetch-host",
        action="append",
        default=[],
        metavar="HOST",
        help="fetch files that requests name by URL from this host, or below it as .example.org; "
        "may be repeated (none: URLs are refused)",
    )
    service.add_argument(
        "--private-host",
        action="append",
        default=[],
        metavar="HOST",
        help="a host that webhooks and URLs may lead to although it lies in a private network; may "
        "be repeated",
    )
    serve.set_defaults(run=run_serve)


def add_data(parser: Any) -> None:
    """Add the option that names the folder of the service."""
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="where the service keeps keys, jobs and reports (service in the user's data folder)",
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        default=os.environ.get("DATABASE_URL") or None,
        help="postgresql://… in place of SQLite in that folder, for any number of workers "
        "(DATABASE_URL, which other users of this machine cannot read)",
    )
    parser.add_argument(
        "--job-media",
        metavar="PLACE",
        help="with --database: a folder that all machines see, or an object store as s3://… "
        "(jobs in the folder of --data)",
    )


def read_store(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of the service that :func:`add_data` has options for."""
    service = importlib.import_module("deepfake_service")
    return {
        "folder": options.data or service.default_folder(),
        "database_url": options.database,
        "media_url": options.job_media,
    }


def run_serve(options: argparse.Namespace) -> int:
    """``deepfake serve``: the page, and the interface where its packages are, until Ctrl-C."""
    try:
        page = importlib.import_module("deepfake_app")
    except ImportError as error:
        raise MissingDependency("gradio", extra="app") from error
    service = find_service()
    from ..detector import Detector

    settings = read_settings(options)
    disk_bytes = options.upload_megabytes * 1024**2
    limits = page.PageLimits(
        disk_bytes=disk_bytes,
        upload_bytes=min(page.PageLimits.upload_bytes, disk_bytes, settings.limits.file_bytes),
        file_seconds=options.file_seconds,
    )
    how = {
        "host": options.host,
        "port": options.port,
        "public": options.public,
        "allowed_hosts": options.allow_host,
    }
    if service is None:
        page.check_address(options.host, options.port, public=options.public)
        missing = MissingDependency("sqlalchemy", extra="server")
        print(f"The page alone: the HTTP interface needs more; {missing.hint}", file=sys.stderr)
        how["limits"] = limits
    else:
        how["settings"] = service.ServiceSettings(
            **read_store(options),
            limits=limits,
            sync_bytes=options.sync_megabytes * 1024**2,
            workers=options.job_workers,
            keep_days=options.keep_days,
            limits_url=options.limits,
            fetch_hosts=tuple(options.fetch_host),
            private_hosts=tuple(options.private_host),
        )
        service.check_binding(options.host, options.port, settings=how["settings"])
    with Detector(settings) as detector:
        detector.engine.check(detector.engine.active)
        detector.engine.warm()
        (page if service is None else service).serve(detector, **how)
    return 0


def find_service() -> Any:
    """The package of the service; None where a package that it needs is not installed."""
    needed = ("sqlalchemy", "alembic", "fpdf", "httpcore", "limits", "prometheus_client")
    if any(importlib.util.find_spec(name) is None for name in needed):
        return None
    return importlib.import_module("deepfake_service")
