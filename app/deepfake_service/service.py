"""Everything that the endpoints share, opened and closed together."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from deepfake_app.storage import Uploads
from sqlalchemy import URL

from deepfake.detector import Detector
from deepfake.errors import ServiceError, SettingsError

from .examination import Examiner
from .metrics import Metrics
from .settings import ServiceSettings
from .store.budgets import Budgets, Rates
from .store.cases import Cases
from .store.database import Database
from .store.jobs import Jobs
from .store.keys import Keys, read_secret
from .store.repeats import Repeats
from .store.reports import Reports
from .store.thumbnails import Thumbnails
from .store.users import Users
from .store.visits import Visits
from .workers import Workers

LOG = logging.getLogger("deepfake_service")
SWEEP_SECONDS = 600.0
LEAST_FREE_BYTES = 64 * 1024**2


class Streams:
    """How many clients follow a job now; more than ``most`` of them are refused."""

    def __init__(self, most: int) -> None:
        self.most, self.open = most, 0


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service over ``detector``; safe to share between threads."""

    settings: ServiceSettings
    detector: Detector
    database: Database
    keys: Keys
    jobs: Jobs
    reports: Reports
    cases: Cases
    thumbnails: Thumbnails
    users: Users
    visits: Visits
    repeats: Repeats
    budgets: Budgets
    rates: Rates
    uploads: Uploads
    metrics: Metrics
    examiner: Examiner
    workers: Workers
    streams: Streams

    def forget(self) -> None:
        """Delete what is older than it is to be kept."""
        media = self.reports.forget(keep_days=self.settings.keep_days)
        self.uploads.drop([str(self.uploads.folder / place) for place in media])
        self.users.forget()
        self.visits.forget()

    def check(self) -> dict[str, str]:
        """What is in order. Raises ``DeepfakeError`` for what is not."""
        self.detector.engine.require_open()
        self.database.check()
        if shutil.disk_usage(self.settings.folder).free < LEAST_FREE_BYTES:
            raise ServiceError("service: its disk is full", status=503, retry_seconds=60)
        return {"models": "ok", "database": "ok", "disk": "ok"}


@contextlib.contextmanager
def open_store(settings: ServiceSettings) -> Iterator[tuple[Database, Keys]]:
    """The database with its tables as they should be, and the keys in it.

    Raises ``SettingsError`` for a folder that cannot be used.
    """
    try:
        settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.database.touch(mode=0o600)
        secret = read_secret(settings.folder / "hash.key")
    except OSError as error:
        raise SettingsError(
            f"folder {settings.folder}: cannot be used ({error.strerror})",
            hint="choose another with --data",
        ) from error
    database = Database(URL.create("sqlite", database=str(settings.database)))
    try:
        database.migrate()
        yield database, Keys(database, secret)
    finally:
        database.close()


@contextlib.contextmanager
def opened(detector: Detector, settings: ServiceSettings) -> Iterator[Service]:
    """The service, with its workers at work, until the end of the block.

    What a process before has left in work is put in line again. Raises ``SettingsError`` when
    another process serves from the same folder.
    """
    with open_store(settings) as (database, keys), _alone(settings):
        jobs = Jobs(
            database, attempts=settings.attempts, back_off_seconds=settings.back_off_seconds
        )
        jobs.recover()
        repeats = Repeats(database)
        repeats.recover()
        folder = settings.media_folder
        folder.mkdir(mode=0o700, exist_ok=True)
        uploads = Uploads(folder, settings.limits)
        uploads.adopt(folder / place for place in jobs.media_in_use())
        metrics = Metrics(jobs.count)
        examiner = Examiner(
            detector,
            metrics,
            threads=settings.examinations,
            waiting=settings.waiting,
            file_seconds=settings.limits.file_seconds,
        )
        thumbnails = Thumbnails(database, kept=settings.thumbnails, limits=detector.settings.limits)
        workers = Workers(
            jobs, examiner, uploads, threads=settings.workers, reported=thumbnails.add
        )
        service = Service(
            settings=settings,
            detector=detector,
            database=database,
            keys=keys,
            jobs=jobs,
            reports=Reports(database),
            cases=Cases(database),
            thumbnails=thumbnails,
            users=Users(database, keys.derive("users")),
            visits=Visits(database, keys.derive("visits")),
            repeats=repeats,
            budgets=Budgets(database),
            rates=Rates(),
            uploads=uploads,
            metrics=metrics,
            examiner=examiner,
            workers=workers,
            streams=Streams(settings.streams),
        )
        with examiner, workers, _sweeping(service):
            yield service


@contextlib.contextmanager
def _alone(settings: ServiceSettings) -> Iterator[None]:
    """Hold the lock of the folder, which ends with the process however that ends."""
    lock = os.open(settings.folder / "in-use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(
                f"folder {settings.folder}: another service is at work in it",
                hint="end that one, or choose another folder with --data",
            ) from error
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def _sweeping(service: Service) -> Iterator[None]:
    """Delete what is old now and from time to time until the end of the block."""
    end = threading.Event()

    def sweep() -> None:
        while True:
            try:
                service.forget()
            except ServiceError as error:
                LOG.warning("sweep: %s", error)
            if end.wait(SWEEP_SECONDS):
                return

    thread = threading.Thread(target=sweep, name="sweeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
