"""A process that examines jobs, on any machine that reaches the database and the media."""

from __future__ import annotations

import contextlib
import logging
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack

from deepfake_app import server as page_server

from deepfake.detector import Detector
from deepfake.errors import SettingsError

from .alarms import Responder
from .auditing import RequestAudit
from .events import Events
from .examination import Examiner
from .media import SharedMedia
from .metrics import Metrics
from .monitoring.tracing import tracing
from .privacy.kept import Class, KeptFiles
from .privacy.keyring import Keyring
from .privacy.master import is_given
from .service import (
    Aftermath,
    follow_models,
    make_jobs,
    make_monitor,
    open_database,
    read_policies,
)
from .settings import ServiceSettings
from .store.alarms import Alarms
from .store.database import Database
from .store.keys import SECRET_BYTES, Keys
from .store.known import KnownMedia
from .store.thumbnails import Thumbnails
from .store.webhooks import announce_event
from .watch import Watch, log_alarm
from .workers import Workers

LOG = logging.getLogger("deepfake_service")


def work(detector: Detector, settings: ServiceSettings) -> None:
    """Examine jobs until Ctrl-C or SIGTERM; what is in work then is put in line again.

    Raises ``SettingsError`` where the database is that of one process, and as the service does.
    """
    with working(detector, settings):
        threads = f"{settings.workers} thread{'s' if settings.workers > 1 else ''}"
        page_server.wait_for_the_end(f"Examining jobs in {threads} (Ctrl-C ends it)\n")
        sys.stderr.flush()


@contextlib.contextmanager
def working(detector: Detector, settings: ServiceSettings) -> Iterator[None]:
    """Workers at work until the end of the block."""
    if settings.database_url is None:
        raise SettingsError(
            "worker: has no database that it could share",
            hint="name it with --database postgresql://… or DATABASE_URL",
        )
    if not is_given(settings.folder):
        raise SettingsError(
            "worker: has no master key, with which the service seals reports",
            hint="set DEEPFAKE_MASTER_KEY to the same key for the service and all workers",
        )
    settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    policies = read_policies(settings)
    with open_database(settings) as database, tracing() as traces, ExitStack() as stack:
        events = Events(lambda event: announce_event(database, event))
        responder = Responder(
            policies,
            settings=detector.settings,
            keys=Keys(database, secrets.token_bytes(SECRET_BYTES)),  # it identifies nobody
            events=events,
            incidents=settings.folder,
            audit=settings.audit,
        )
        live = stack.enter_context(follow_models(detector, settings, responder, events))
        jobs, metrics = make_jobs(database, settings), Metrics()
        monitor = make_monitor(database, settings, metrics, responder)
        stack.callback(monitor.close)
        aftermath = Aftermath(
            monitor,
            _find_kept(database, settings),
            Thumbnails(database, kept=settings.thumbnails, limits=detector.settings.limits),
        )
        examiner = Examiner(
            live,
            metrics,
            KnownMedia(database, detector.known).of,
            threads=1,
            waiting=0,
            file_seconds=settings.limits.file_seconds,
            tracing=traces,
        )
        workers = Workers(
            jobs,
            examiner,
            SharedMedia(settings.shared_media),
            Watch(
                Alarms(database),
                settings.watch,
                listeners=(metrics.note_run, log_alarm, responder.note_probing),
            ),
            threads=settings.workers,
            lease_seconds=settings.lease_seconds,
            audit=RequestAudit(
                settings.audit if settings.audit_requests else None,
                Alarms(database),
                secret=b"",  # of accounts, which a worker does not meet
            ),
            reported=aftermath.note,
        )
        with examiner, workers:
            yield


def _find_kept(database: Database, settings: ServiceSettings) -> KeptFiles | None:
    """Where media are kept that tenants want kept: a folder of this machine alone is no place."""
    kept = KeptFiles(database, Keyring.of(database), settings.kept)
    if settings.kept_media is not None:
        return kept
    wanted = [it.tenant for it in kept.classes() if it.retention.kind is not Class.NONE]
    if wanted:
        LOG.warning(
            "worker: media of tenants such as %s are to be kept, and are not kept here; name a "
            "folder that all machines see with --kept-media",
            wanted[0],
        )
    return None
