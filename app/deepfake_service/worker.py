"""A process that examines jobs, on any machine that reaches the database and the media."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from deepfake_app import server as page_server

from deepfake.detector import Detector
from deepfake.errors import SettingsError

from .examination import Examiner
from .media import SharedMedia
from .metrics import Metrics
from .monitoring.tracing import tracing
from .privacy.master import is_given
from .service import make_jobs, open_database
from .settings import ServiceSettings
from .store.alarms import Alarms
from .store.known import KnownMedia
from .watch import Watch, log_alarm
from .workers import Workers


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
    with open_database(settings) as database, tracing() as traces:
        jobs, metrics = make_jobs(database, settings), Metrics()
        examiner = Examiner(
            detector,
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
            Watch(Alarms(database), settings.watch, listeners=(metrics.note_run, log_alarm)),
            threads=settings.workers,
            lease_seconds=settings.lease_seconds,
        )
        with examiner, workers:
            yield
