"""``deepfake worker``: examine jobs of the service, on this machine and any number of others."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from ..errors import MissingDependency
from .audit import add_audit_options, auditing
from .options import read_settings
from .serve import add_aftermath, add_audit_requests, add_data, find_service, read_audit, read_store


def add_worker(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command."""
    worker = commands.add_parser(
        "worker", parents=parents, help="examine jobs of a service that has a PostgreSQL database"
    )
    add_data(worker)
    worker.add_argument(
        "--job-workers",
        type=int,
        default=1,
        help="threads that examine jobs (%(default)s)",
    )
    worker.add_argument(
        "--file-seconds",
        type=float,
        default=600.0,
        help="longest examination of one file (%(default)g)",
    )
    add_aftermath(worker)
    add_audit_options(worker, what="alarms, changed models and what was done")
    add_audit_requests(worker)
    worker.set_defaults(run=run_worker)


def run_worker(options: argparse.Namespace) -> int:
    """``deepfake worker``, until Ctrl-C or SIGTERM."""
    service = find_service()
    if service is None:
        raise MissingDependency("sqlalchemy", extra="server")
    from ..detector import Detector

    limits = importlib.import_module("deepfake_app").PageLimits(file_seconds=options.file_seconds)
    with auditing(options) as log, Detector(read_settings(options)) as detector:
        settings = service.ServiceSettings(
            **read_store(options),
            **read_audit(options, log),
            limits=limits,
            workers=options.job_workers,
            policies=options.policies,
            thumbnails=options.keep_thumbnails,
        )
        detector.engine.check(detector.engine.active)
        detector.engine.warm()
        importlib.import_module("deepfake_service.worker").work(detector, settings)
    return 0
