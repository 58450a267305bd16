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
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from deepfake.detector import Detector
from deepfake.errors import MediaError, MissingDependency, ServiceError, SettingsError
from deepfake.reasons import Code

from .examination import Examiner
from .media import JobMedia, OwnMedia, SharedMedia
from .metrics import Metrics
from .outside.addresses import Guard
from .outside.deliverer import Deliverer
from .outside.fetching import Fetcher
from .settings import ServiceSettings
from .store.budgets import Budgets, Rates
from .store.database import Database, require_shared
from .store.jobs import Jobs
from .store.keys import Keys, read_secret
from .store.repeats import Repeats
from .store.reports import Reports
from .store.webhooks import Webhooks
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
    repeats: Repeats
    budgets: Budgets
    rates: Rates
    uploads: Uploads
    metrics: Metrics
    examiner: Examiner
    workers: Workers
    streams: Streams
    media: JobMedia
    webhooks: Webhooks
    guard: Guard
    fetcher: Fetcher

    def forget(self) -> None:
        """Delete what is older than it is to be kept, and media that no job uses."""
        for place in self.reports.forget(keep_days=self.settings.keep_days):
            self.media.drop(place)
        self.webhooks.forget(keep_days=self.settings.keep_days)
        self.media.sweep(self.jobs.media_in_use())

    def require_room(self, count: int) -> None:
        """Raise ``MediaError`` (``no_room``) when the files of jobs that all machines share take as
        much as they may.
        """
        if self.jobs.bytes_in_use() + count > self.settings.limits.disk_bytes:
            raise MediaError(
                "upload: there is no room for the files of more jobs",
                code=Code.NO_ROOM,
                hint="others are being examined; try again in a few minutes",
            )

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
        secret = read_secret(settings.folder / "hash.key")
        if settings.database_url is None:
            settings.database.touch(mode=0o600)
    except OSError as error:
        raise SettingsError(
            f"folder {settings.folder}: cannot be used ({error.strerror})",
            hint="choose another with --data",
        ) from error
    with open_database(settings) as database:
        yield database, Keys(database, secret)


@contextlib.contextmanager
def open_database(settings: ServiceSettings) -> Iterator[Database]:
    """The database with its tables as they should be.

    Raises ``SettingsError`` for a URL that is none, and ``ServiceError`` when it does not answer.
    """
    url = URL.create("sqlite", database=str(settings.database))
    try:
        if settings.database_url is not None:
            url = make_url(settings.database_url)
            require_shared(url)
        database = Database(url)
    except ArgumentError as error:
        raise SettingsError("database: its URL is none", hint="write postgresql://…") from error
    except ImportError as error:
        raise MissingDependency("psycopg", extra="postgres") from error
    try:
        database.migrate()
        yield database
    finally:
        database.close()


def make_jobs(database: Database, settings: ServiceSettings) -> Jobs:
    """The jobs as the settings want them."""
    return Jobs(
        database,
        attempts=settings.attempts,
        back_off_seconds=settings.back_off_seconds,
        lease_seconds=settings.lease_seconds,
    )


@contextlib.contextmanager
def opened(detector: Detector, settings: ServiceSettings) -> Iterator[Service]:
    """The service, with its workers at work, until the end of the block.

    What a process before has left in work is put in line again. Raises ``SettingsError`` when
    another process serves from the same folder.
    """
    with open_store(settings) as (database, keys), _alone(settings):
        jobs = make_jobs(database, settings)
        if not database.shared:
            jobs.recover()
        repeats = Repeats(database, server=read_secret(settings.folder / "server.id").hex()[:40])
        repeats.recover()
        folder = settings.media_folder
        folder.mkdir(mode=0o700, exist_ok=True)
        uploads = Uploads(folder, settings.limits)
        media: JobMedia
        if database.shared:
            uploads.adopt(())
            media = SharedMedia(settings.shared_media)
        else:
            uploads.adopt(folder / place for place in jobs.media_in_use())
            media = OwnMedia(uploads)
        metrics = Metrics(jobs.count)
        examiner = Examiner(
            detector,
            metrics,
            threads=settings.examinations,
            waiting=settings.waiting,
            file_seconds=settings.limits.file_seconds,
        )
        workers = Workers(
            jobs,
            examiner,
            media,
            threads=settings.workers,
            lease_seconds=settings.lease_seconds,
        )
        webhooks = Webhooks(database, keys.derive("webhooks"), pauses=settings.webhook_pauses)
        guard = Guard(settings.private_hosts)
        service = Service(
            settings=settings,
            detector=detector,
            database=database,
            keys=keys,
            jobs=jobs,
            reports=Reports(database),
            repeats=repeats,
            budgets=Budgets(database),
            rates=Rates(settings.limits_url),
            uploads=uploads,
            metrics=metrics,
            examiner=examiner,
            workers=workers,
            streams=Streams(settings.streams),
            media=media,
            webhooks=webhooks,
            guard=guard,
            fetcher=Fetcher(
                guard=guard, hosts=settings.fetch_hosts, seconds=settings.fetch_seconds
            ),
        )
        deliverer = Deliverer(webhooks, guard, threads=settings.deliverers)
        with examiner, workers, deliverer, _sweeping(service):
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
