"""Everything that the endpoints share, opened and closed together."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepfake_app.storage import Incoming, Uploads
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from deepfake.detector import Detector
from deepfake.errors import (
    DeepfakeError,
    MediaError,
    MissingDependency,
    ServiceError,
    SettingsError,
)
from deepfake.reasons import Code
from deepfake.settings import DetectOptions
from deepfake.trust.incidents import note_models
from deepfake.types import Report

from .alarms import Alarm, Policies, Responder
from .auditing import RequestAudit
from .events import Event, Events
from .examination import Examiner
from .gauges import Gauges
from .golden_media import GoldenMedia
from .live import LiveDetector
from .media import JobMedia, OwnMedia, SharedMedia
from .metrics import Metrics
from .monitoring.monitor import Alarm as Drifted
from .monitoring.monitor import Monitor
from .monitoring.tracing import Tracing, tracing
from .outside.addresses import Guard
from .outside.deliverer import Deliverer
from .outside.fetching import Fetcher
from .privacy.kept import KeptFiles
from .privacy.keyring import Keyring
from .privacy.master import find_wrapper
from .settings import ServiceSettings
from .shadow import ShadowRunner
from .store.alarms import Alarms
from .store.budgets import Budgets, Rates
from .store.cases import Cases
from .store.database import Database, require_shared
from .store.jobs import Jobs, Wanted
from .store.keys import Identity, Keys, read_secret
from .store.known import KnownMedia
from .store.repeats import Repeats
from .store.reports import Reports
from .store.tables import Feedback, Job, Ruling, StoredReport
from .store.thumbnails import Thumbnails
from .store.users import Users
from .store.visits import Visits
from .store.webhooks import Webhooks, announce_event
from .watch import Watch, log_alarm
from .workers import Workers

LOG = logging.getLogger("deepfake_service")
SWEEP_SECONDS = 600.0
LEAST_FREE_BYTES = 64 * 1024**2


class Streams:
    """How many clients follow a job now; more than ``most`` of them are refused."""

    def __init__(self, most: int) -> None:
        self.most, self.open = most, 0


@dataclass(frozen=True)
class Aftermath:
    """What follows a report that was stored."""

    monitor: Monitor
    kept: KeptFiles | None
    thumbnails: Thumbnails

    def note(self, tenant: int, id: str, report: Report, path: Path) -> None:
        """Watch a report for drift, and keep its file, still at ``path``, or a small picture of it,
        where that is decided.
        """
        self.monitor.note(tenant, report, path)
        if self.kept is not None:
            self.kept.keep(tenant, id, report, path)
        self.thumbnails.add(id, path)


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service over ``detector``; safe to share between threads."""

    settings: ServiceSettings
    detector: LiveDetector
    events: Events
    responder: Responder
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
    watch: Watch
    monitor: Monitor
    kept: KeptFiles
    aftermath: Aftermath
    tracing: Tracing
    media: JobMedia
    webhooks: Webhooks
    guard: Guard
    fetcher: Fetcher
    audit: RequestAudit

    def identify(self, key: str | None) -> Identity | None:
        """Who sends this key, or none, with what the watch left of his rights; None when that is
        nobody. Raises ``ServiceError`` (``suspended``, 403).
        """
        identity = self.keys.identify(key)
        return None if identity is None else self.watch.restrain(identity)

    def forget(self) -> None:
        """Delete what is older than it is to be kept, and media that no job uses."""
        self.kept.forget(keep_days=self.settings.keep_days)
        for place in self.reports.forget(keep_days=self.settings.keep_days):
            self.media.drop(place)
        self.webhooks.forget(keep_days=self.settings.keep_days)
        self.media.sweep(self.jobs.media_in_use())
        self.users.forget()
        self.visits.forget()

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

    def put_in_line(
        self,
        identity: Identity,
        files: Sequence[Incoming],
        options: DetectOptions,
        *,
        priority: int,
        batch: str | None,
    ) -> list[Job]:
        """A job for each of the ``files``, all or none. Where media are kept in place they are the
        jobs' from then on. Raises ``MediaError`` and ``ServiceError``.
        """
        if not self.media.in_place:
            self.require_room(sum(file.bytes for file in files))
        self.budgets.take(identity, files=len(files))
        try:
            places = self.media.keep(files)
            wanted = [
                Wanted(file.name, file.bytes, place, file.sha256)
                for file, place in zip(files, places, strict=True)
            ]
            self.audit.note_line(identity, [one.id for one in wanted])
            return self.jobs.add(identity, wanted, vars(options), priority=priority, batch=batch)
        except DeepfakeError:
            self.budgets.give_back(identity, files=len(files))
            raise

    def read_report(self, identity: Identity, id: str) -> StoredReport:
        """A report that is about to be shown. Raises ``ServiceError`` (``nothing_here``) for one
        that is none of this tenant's.
        """
        row = self.reports.find(identity.tenant, id)
        self.audit.note_reading(identity, row)
        return row

    def rule(self, identity: Identity, report: str, *, ruling: Ruling, note: str) -> Feedback:
        """Keep what a moderator says of a report. Raises as :meth:`read_report`."""
        row = self.reports.find(identity.tenant, report)
        self.audit.note_ruling(identity, row, ruling)
        feedback = self.reports.rule(identity, report, ruling=ruling, note=note)
        self.metrics.note_ruling(row.verdict, ruling)
        return feedback

    def check(self) -> dict[str, str]:
        """What is in order. Raises ``DeepfakeError`` for what is not."""
        self.detector.engine.require_open()
        self.detector.check()
        self.database.check()
        if shutil.disk_usage(self.settings.folder).free < LEAST_FREE_BYTES:
            raise ServiceError("service: its disk is full", status=503, retry_seconds=60)
        suspended = dict.fromkeys(self.detector.engine.suspended, "suspended")
        return {"models": "ok", **suspended, "database": "ok", "disk": "ok"}


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
    """The database with its tables as they should be, and what it seals opened.

    Raises ``SettingsError`` for a URL or a master key that is none, and ``ServiceError`` when it
    does not answer.
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
        Keyring(database, find_wrapper(settings.folder))
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

    What a process before has left in work is put in line again; changed models are taken up. Raises
    ``SettingsError`` when another process serves from the same folder.
    """
    policies = read_policies(settings)
    with (
        open_store(settings) as (database, keys),
        _alone(settings),
        tracing() as traces,
        contextlib.ExitStack() as stack,
    ):
        events = Events(lambda event: announce_event(database, event))
        responder = Responder(
            policies,
            settings=detector.settings,
            keys=keys,
            events=events,
            incidents=settings.folder,
            audit=settings.audit,
        )
        live = stack.enter_context(follow_models(detector, settings, responder, events))
        jobs = make_jobs(database, settings)
        if not database.shared:
            jobs.recover()
        repeats = Repeats(database, server=name_server(settings))
        repeats.recover()
        folder = settings.media_folder
        folder.mkdir(mode=0o700, exist_ok=True)
        uploads = Uploads(folder, settings.limits)
        metrics, budgets = Metrics(), Budgets(database)
        kept = KeptFiles(database, Keyring.of(database), settings.kept)
        _warn_of_days(kept, settings.keep_days)
        monitor = make_monitor(database, settings, metrics, responder)
        thumbnails = Thumbnails(database, kept=settings.thumbnails, limits=detector.settings.limits)
        aftermath = Aftermath(monitor, kept, thumbnails)
        media: JobMedia
        if database.shared:
            uploads.adopt(())
            media = SharedMedia(settings.shared_media)
        else:
            uploads.adopt(folder / place for place in jobs.media_in_use())
            media = OwnMedia(uploads)
        examiner = Examiner(
            live,
            metrics,
            KnownMedia(database, detector.known).of,
            threads=settings.examinations,
            waiting=settings.waiting,
            file_seconds=settings.limits.file_seconds,
            tracing=traces,
        )
        watch = Watch(
            Alarms(database),
            settings.watch,
            listeners=(metrics.note_run, log_alarm, responder.note_probing),
        )
        audit = RequestAudit(
            settings.audit if settings.audit_requests else None,
            Alarms(database),
            secret=keys.derive("audit"),
        )
        shadow = stack.enter_context(ShadowRunner(live, settings.folder))
        examiner.examined = shadow.offer
        workers = Workers(
            jobs,
            examiner,
            media,
            watch,
            threads=settings.workers,
            lease_seconds=settings.lease_seconds,
            audit=audit,
            reported=aftermath.note,
        )
        metrics.registry.register(
            Gauges(detector=live, examiner=examiner, jobs=jobs, budgets=budgets, monitor=monitor)
        )
        webhooks = Webhooks(database, keys.derive("webhooks"), pauses=settings.webhook_pauses)
        guard = Guard(settings.private_hosts)
        service = Service(
            settings=settings,
            detector=live,
            events=events,
            responder=responder,
            database=database,
            keys=keys,
            jobs=jobs,
            reports=Reports(database),
            cases=Cases(database),
            thumbnails=thumbnails,
            users=Users(database, keys.derive("users")),
            visits=Visits(database, keys.derive("visits")),
            repeats=repeats,
            budgets=budgets,
            rates=Rates(settings.limits_url),
            uploads=uploads,
            metrics=metrics,
            examiner=examiner,
            workers=workers,
            streams=Streams(settings.streams),
            watch=watch,
            monitor=monitor,
            kept=kept,
            aftermath=aftermath,
            tracing=traces,
            media=media,
            webhooks=webhooks,
            guard=guard,
            fetcher=Fetcher(
                guard=guard, hosts=settings.fetch_hosts, seconds=settings.fetch_seconds
            ),
            audit=audit,
        )
        deliverer = Deliverer(webhooks, guard, threads=settings.deliverers)
        try:
            with examiner, workers, deliverer, _sweeping(service):
                yield service
        finally:
            monitor.close()


def read_policies(settings: ServiceSettings) -> Policies:
    """What is done on alarms. Raises ``SettingsError``."""
    return Policies() if settings.policies is None else Policies.read(settings.policies)


def make_monitor(
    database: Database, settings: ServiceSettings, metrics: Metrics, responder: Responder
) -> Monitor:
    """The watch for drift of what this process examines, whose alarms are raised."""

    def tell(alarm: Drifted) -> None:
        metrics.note_alarm(alarm.kind, alarm.signal)
        responder.raise_alarm(Alarm(name="drift", text=f"{alarm.signal} of {alarm.kind} files"))

    monitor = Monitor(database, place=name_server(settings) if database.shared else "")
    monitor.alarmed = tell
    return monitor


def name_server(settings: ServiceSettings) -> str:
    """What tells this process from others of the same database, and stays as its folder does."""
    return read_secret(settings.folder / "server.id").hex()[:40]


def follow_models(
    detector: Detector, settings: ServiceSettings, responder: Responder, events: Events
) -> LiveDetector:
    """The detector of a process of the service, which takes up changed models."""

    def tell(fresh: Detector) -> None:
        bundles = {slot: one.name for slot, one in sorted(fresh.engine.active.items())}
        events.emit(Event(type="models.changed", data={"bundles": bundles}))
        note_models(settings.folder, bundles)
        if settings.audit is not None:
            settings.audit.append("models_taken_up", bundles=fresh.engine.active)

    golden = responder.policies.golden
    record = settings.folder / "golden.json"
    return LiveDetector(
        detector,
        raise_alarm=responder.raise_alarm,
        media=GoldenMedia(golden, record) if golden else None,
        changed=tell,
    )


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


def _warn_of_days(kept: KeptFiles, keep_days: float) -> None:
    """Kept media without their report would be found by nobody, and so go with it."""
    for tenant, retention in kept.classes():
        if retention.days > keep_days:
            LOG.warning(
                "media of tenant %s are to be kept for %d days, and go with their reports after "
                "%g; see --keep-days",
                tenant,
                retention.days,
                keep_days,
            )


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
