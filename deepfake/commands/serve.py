"""``deepfake serve``: the web page, and the HTTP interface beside it."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependency, SettingsError
from .audit import add_audit_options, auditing
from .options import read_settings

if TYPE_CHECKING:
    from ..trust.audit import AuditLog

WATCH_ACTIONS = ("tell", "slow", "coarsen", "suspend")


def add_serve(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command."""
    serve = commands.add_parser(
        "serve", parents=parents, help="open the web page and the HTTP interface on this machine"
    )
    _add_listening(serve)
    service = serve.add_argument_group("HTTP interface", "needs the extra server")
    _add_examining(service)
    add_aftermath(service)
    _add_telling(service)
    _add_sign_in(service)
    _add_reach(service)
    add_audit_options(serve, what="alarms, changed models and what was done")
    add_audit_requests(serve)
    serve.set_defaults(run=run_serve)


def _add_listening(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, default=7860, help="port, 0 for any free one (7860)")
    serve.add_argument(
        "--public",
        action="store_true",
        help="show the page under a --host that other machines can reach; without an account it "
        "asks nobody for a password",
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


def _add_examining(service: Any) -> None:
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
        help="reports, kept media with them, and jobs that have ended are deleted after so many "
        "(%(default)s)",
    )
    service.add_argument(
        "--watch-files",
        type=int,
        default=40,
        metavar="N",
        help="alarm when a key sends so many files that hardly differ (%(default)s)",
    )
    service.add_argument(
        "--watch-action",
        choices=WATCH_ACTIONS,
        default="coarsen",
        help="what an alarm does to the key for a day: tell others alone, slow it, coarsen what it "
        "sees, or suspend it (%(default)s)",
    )


def _add_telling(service: Any) -> None:
    service.add_argument(
        "--log",
        choices=("text", "json"),
        default="text",
        help="warnings as text, or every request as JSON, on standard error (%(default)s)",
    )
    service.add_argument(
        "--log-names",
        action="store_true",
        help="tell names of files in the JSON log, in place of hashes of them",
    )


def _add_sign_in(service: Any) -> None:
    service.add_argument(
        "--openid-issuer",
        metavar="URL",
        help="provider of OpenID Connect at which people may sign in; its secret is in the "
        "environment variable DEEPFAKE_OPENID_SECRET",
    )
    service.add_argument(
        "--openid-client", metavar="ID", default="", help="what the provider calls this service"
    )
    service.add_argument(
        "--openid-address",
        metavar="URL",
        default="http://127.0.0.1:7860",
        help="where a browser finds this service, to return to (%(default)s)",
    )


def _add_reach(service: Any) -> None:
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


def add_aftermath(parser: Any) -> None:
    """Add the options of what follows an alarm and a report."""
    parser.add_argument(
        "--policies",
        type=Path,
        metavar="TOML",
        help="what is done by itself on alarms (notify alone)",
    )
    parser.add_argument(
        "--keep-thumbnails",
        action="store_true",
        help="keep a small picture of each file with its report, for the lists of moderators",
    )


def add_audit_requests(parser: Any) -> None:
    """Add the option by which requests are audited."""
    parser.add_argument(
        "--audit-requests",
        action="store_true",
        help="add to --audit FILE who had which file examined, by the prefix of the key and the "
        "sha256 of the file, which bundles answered what, who read which report, and rulings",
    )


def read_audit(options: argparse.Namespace, log: AuditLog | None) -> dict[str, Any]:
    """The settings of the service that :func:`add_audit_requests` has options for.

    Raises ``SettingsError`` where requests would be audited in no log.
    """
    if options.audit_requests and log is None:
        raise SettingsError("--audit-requests: belongs to --audit FILE")
    return {"audit": log, "audit_requests": options.audit_requests}


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
        help="with --database: a folder that all machines see, or an object store as s3://…, for "
        "this service alone (jobs in the folder of --data)",
    )
    parser.add_argument(
        "--kept-media",
        type=Path,
        metavar="FOLDER",
        help="where media lie, sealed, that tenants want kept, for this service alone; with "
        "--database a folder that all machines see, without which workers keep none (kept in the "
        "folder of --data)",
    )


def read_store(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of the service that :func:`add_data` has options for."""
    service = importlib.import_module("deepfake_service")
    return {
        "folder": options.data or service.default_folder(),
        "database_url": options.database,
        "media_url": options.job_media,
        "kept_media": options.kept_media,
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
            watch=service.WatchSettings(
                files=options.watch_files, action=service.Action(options.watch_action)
            ),
            policies=options.policies,
            log_json=options.log == "json",
            log_names=options.log_names,
            thumbnails=options.keep_thumbnails,
            openid=_read_openid(service, options),
            limits_url=options.limits,
            fetch_hosts=tuple(options.fetch_host),
            private_hosts=tuple(options.private_host),
        )
        service.check_binding(options.host, options.port, settings=how["settings"])
    with auditing(options) as log, Detector(settings) as detector:
        if service is not None:
            how["settings"] = replace(how["settings"], **read_audit(options, log))
        detector.engine.check(detector.engine.active)
        detector.engine.warm()
        (page if service is None else service).serve(detector, **how)
    return 0


def _read_openid(service: Any, options: argparse.Namespace) -> Any:
    """The provider that signs people in, None where none is named."""
    if options.openid_issuer is None:
        return None
    return service.OpenId(
        issuer=options.openid_issuer,
        client=options.openid_client,
        secret=os.environ.get("DEEPFAKE_OPENID_SECRET", ""),
        address=options.openid_address,
    )


def find_service() -> Any:
    """The package of the service; None where a package that it needs is not installed."""
    needed = (
        *("sqlalchemy", "alembic", "limits", "prometheus_client", "structlog"),
        *("argon2", "authlib", "fpdf", "httpcore"),
    )
    if any(importlib.util.find_spec(name) is None for name in needed):
        return None
    return importlib.import_module("deepfake_service")
