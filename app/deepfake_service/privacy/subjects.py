"""What is known of a file or of a tenant, given to who may have it, or erased; and the proof."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from deepfake.errors import SettingsError
from deepfake.trust.audit import AuditLog, search_entries

from ..media import JobMedia
from ..store.database import Database
from ..store.tables import (
    ENDED,
    HOLDING,
    AlarmRow,
    Case,
    Delivery,
    DriftStream,
    Feedback,
    Job,
    KeptMedia,
    Key,
    KnownFile,
    Repeat,
    Revision,
    State,
    StoredReport,
    Tenant,
    TenantKey,
    Thumbnail,
    Usage,
    User,
    Visit,
    Webhook,
    now_ms,
    word_time,
)
from .kept import Class, KeptFiles, no_tenant

ERASED, EXPORTED = "erased", "exported"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Whom it is about: a file by its sha256, a tenant by its name, or a file of a tenant."""

    sha256: str | None = None
    tenant: str | None = None

    def __post_init__(self) -> None:
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise SettingsError(
                f"subject {self.sha256[:64]!r}: is no sha256", hint="give 64 hexadecimal digits"
            )
        if self.sha256 is None and self.tenant is None:
            raise SettingsError("subject: none is given", hint="give --subject or --tenant")

    def pseudonym(self, secret: bytes) -> str:
        """What the audit log has in place of it. Who has the secret of the service can tell that an
        entry is about a subject that he knows; nobody can tell a subject from an entry.
        """
        text = f"subject {self.sha256 or ''} {self.tenant or ''}"
        return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


class Erased(NamedTuple):
    """How much was erased; of ``missing`` jobs that ended without a report no file was found."""

    reports: int
    rulings: int
    jobs: int
    media: int
    missing: int


class _Held(NamedTuple):
    """Numbers of jobs, how many of them have a file still, and how many dead letters have none."""

    jobs: list[int]
    media: int
    missing: int


class Subjects:
    """Exports and erasures in ``database``, of ``kept`` media and of the ``media`` of jobs, entered
    in ``log`` under pseudonyms by ``secret``.
    """

    def __init__(
        self, database: Database, kept: KeptFiles, media: JobMedia, *, secret: bytes
    ) -> None:
        self._database, self._kept, self._media = database, kept, media
        self._secret = secret

    def export(self, subject: Subject, target: Path, log: AuditLog) -> int:
        """Write reports, rulings, jobs and kept media of a subject to a new ZIP file; how many
        reports there are. Raises ``SettingsError`` for a target that exists or cannot be written,
        and ``ServiceError`` when the media of jobs cannot be looked at.
        """
        holding = self._find_media(subject).jobs
        try:
            with target.open("xb") as file:
                try:
                    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                        count = self._write(subject, archive, holding)
                except BaseException:
                    target.unlink()
                    raise
        except OSError as error:
            raise SettingsError(
                f"output {str(target)!r}: cannot be written ({error.strerror})",
                hint="choose a new file",
            ) from error
        log.append(f"{EXPORTED}_{_kind(subject)}", media=subject.pseudonym(self._secret))
        return count

    def erase(self, subject: Subject, log: AuditLog) -> Erased:
        """Delete everything of a subject; of a whole tenant its key first, so that no copy of what
        was sealed can be opened any more.

        The entry of the log is written before, as an intent, and after. Raises ``SettingsError``
        for a tenant that is unknown or on legal hold, for jobs in work, and for media of jobs that
        cannot be deleted; and ``ServiceError`` when those cannot be looked at.
        """
        pseudonym, what = subject.pseudonym(self._secret), _kind(subject)
        held = self._find_media(subject)
        with self._database.reading() as session:
            self._require_free(session, subject, held.jobs)
        log.append(f"erasing_{what}", media=pseudonym)
        with self._database.writing() as session:
            self._require_free(session, subject, held.jobs)
            erased, places, uploads = _delete(session, subject, held)
            self._drop(uploads)  # a job stays in the database until its file is gone
        self._kept.drop(places)
        self._database.scrub()
        log.append(f"{ERASED}_{what}", media=pseudonym)
        return erased

    def prove(self, subject: Subject, log: Path) -> list[dict[str, Any]]:
        """The entries of the log about a subject."""
        return [*search_entries(log, media=subject.pseudonym(self._secret))]

    def _find_media(self, subject: Subject) -> _Held:
        """The jobs that are about a subject though no report says so. Files of jobs of a release
        that kept no sha256 are read.
        """
        with self._database.reading() as session:
            owner = _tenant_of(session, subject)
            found: ColumnElement[bool] = Job.state.in_(HOLDING)
            if subject.sha256 is not None:
                found = or_(Job.sha256 == subject.sha256, and_(Job.sha256.is_(None), found))
            query = select(Job.number, Job.media, Job.state, Job.sha256).where(found)
            rows = session.execute(query if owner is None else query.where(Job.tenant == owner))
            jobs = rows.all()
        held, media, missing = [], 0, 0
        for number, place, state, sha256 in jobs:
            there = state in HOLDING and self._media.holds(place)
            known = subject.sha256 in (None, sha256)
            if there and not known and self._digest(place) != subject.sha256:
                continue
            if there or (known and state != State.DEAD):
                held.append(number)
            media += there
            missing += state == State.DEAD and not there
        return _Held(held, media, missing)

    def _digest(self, place: str) -> str | None:
        """The sha256 of the file of a job; None where it has just gone."""
        try:
            with self._media.opened(place) as path, path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None

    def _drop(self, places: Sequence[str]) -> None:
        """Delete files of jobs. Raises ``SettingsError`` for one that stays."""
        for place in places:
            self._media.drop(place)
            if self._media.holds(place):
                raise SettingsError(
                    f"media {place!r}: cannot be deleted",
                    hint="run this as the user who runs the service",
                )

    def _write(self, subject: Subject, archive: zipfile.ZipFile, holding: Sequence[int]) -> int:
        with self._database.reading() as session:
            _tenant_of(session, subject)
            reports = [*session.scalars(select(StoredReport).where(*_reports_of(session, subject)))]
            ids = select(StoredReport.id).where(*_reports_of(session, subject))
            rulings = session.scalars(select(Feedback).where(Feedback.report.in_(ids))).all()
            found = _jobs_of(session, subject, holding)
            jobs = session.scalars(select(Job).where(found)).all()
            ruled = select(KnownFile).where(*_those_of(KnownFile, session, subject))
            _add_json(archive, "known.json", [_word(row) for row in session.scalars(ruled)])
            for row in reports:
                _add_json(archive, f"reports/{row.id}.json", row.document)
            _add_json(archive, "rulings.json", [_word(row) for row in rulings])
            _add_json(archive, "jobs.json", [_word(row) for row in jobs])
            if subject.sha256 is None:
                owner = _tenant_of(session, subject)
                keys = session.scalars(select(Key).where(Key.tenant == owner)).all()
                _add_json(archive, "keys.json", [_word(row) for row in keys])
        for row in reports:
            parts = self._kept.open(row.tenant, row.id)
            if parts is not None:
                with archive.open(f"media/{row.id}", "w") as file:
                    for part in parts:
                        file.write(part)
        return len(reports)

    def _require_free(self, session: Session, subject: Subject, holding: Sequence[int]) -> None:
        """Raise ``SettingsError`` for what may not be erased now."""
        owner = _tenant_of(session, subject)
        names = [
            *session.scalars(
                select(Tenant.name)
                .where(Tenant.number.in_(_tenants_of(session, subject, holding)))
                .where(Tenant.retention == Class.HOLD)
            )
        ]
        if names:
            raise SettingsError(
                f"tenant {names[0]}: is on legal hold, under which nothing is erased",
                hint=f"lift it first: deepfake privacy retain {names[0]} none",
            )
        who, how = "subject", "cancel them, or wait, and try again"
        jobs: ColumnElement[bool] = Job.number.in_(holding)
        if subject.sha256 is None:
            who, how = f"tenant {subject.tenant}", "revoke its keys, cancel its jobs and try again"
            jobs = Job.tenant == owner
        # Locked, so that none is sent again meanwhile.
        states = session.scalars(select(Job.state).where(jobs).with_for_update())
        if not all(state in ENDED for state in states):
            raise SettingsError(
                f"{who}: has jobs that have not ended",
                hint=how,
            )


def _delete(session: Session, subject: Subject, held: _Held) -> tuple[Erased, list[str], list[str]]:
    """Delete rows; how many, the places of kept media, and of media of jobs."""
    owner = _tenant_of(session, subject)
    whole = subject.sha256 is None
    if whole:
        session.execute(delete(TenantKey).where(TenantKey.tenant == owner))
    mine = [*_reports_of(session, subject)]
    reports = select(StoredReport.id).where(*mine)
    tenants = _tenants_of(session, subject, held.jobs)
    rulings = _count(session, delete(Feedback).where(Feedback.report.in_(reports)))
    for column in (Revision.report, Revision.revised):
        session.execute(delete(Revision).where(column.in_(reports)))
    for part in (Case, Thumbnail):
        session.execute(delete(part).where(part.report.in_(reports)))
    for table in (KnownFile, AlarmRow):
        session.execute(delete(table).where(*_those_of(table, session, subject)))
    kept = delete(KeptMedia).where(KeptMedia.report.in_(reports)).returning(KeptMedia.place)
    places = [*session.scalars(kept)]
    # Answers that are kept for an Idempotency-Key hold reports too.
    session.execute(delete(Repeat).where(Repeat.tenant.in_(tenants)))
    # Messages of webhooks hold names of files; those that are still to be sent are sent.
    sent = Delivery.tenant.in_(tenants), Delivery.ended.is_not(None)
    session.execute(delete(Delivery).where(*sent))
    jobs = delete(Job).where(_jobs_of(session, subject, held.jobs)).returning(Job.media)
    uploads = [*session.scalars(jobs)]
    count = _count(session, delete(StoredReport).where(*mine))
    if whole:
        _empty_tenant(session, subject)
    media = len(places) + held.media
    return Erased(count, rulings, len(uploads), media, held.missing), places, uploads


def _empty_tenant(session: Session, subject: Subject) -> None:
    """Take everything from a tenant but the rows of its keys and accounts, which open nothing any
    more: where there was never one, whoever is on this machine may ask.
    """
    owner = _tenant_of(session, subject)
    lineages = select(Key.lineage).where(Key.tenant == owner)
    session.execute(delete(Usage).where(Usage.lineage.in_(lineages)))
    for table in (DriftStream, Delivery, Webhook):
        session.execute(delete(table).where(table.tenant == owner))
    bare = {"label": "", "hash": "", "revoked": func.coalesce(Key.revoked, now_ms())}
    session.execute(update(Key).where(Key.tenant == owner).values(bare))
    accounts = session.scalars(select(User).where(User.tenant == owner)).all()
    session.execute(delete(Visit).where(Visit.account.in_([user.number for user in accounts])))
    for user in accounts:
        user.name, user.password, user.subject = _no_name(), None, None
        user.disabled = user.disabled or now_ms()
    session.execute(
        update(Tenant).where(Tenant.number == owner).values(name=_no_name(), retention=Class.NONE)
    )


def _no_name() -> str:
    """What stands in place of a name, none of which stands twice."""
    return f"erased-{secrets.token_hex(8)}"


def _count(session: Session, change: Any) -> int:
    return int(session.execute(change).rowcount)  # type: ignore[attr-defined]


def _reports_of(session: Session, subject: Subject) -> Iterator[ColumnElement[bool]]:
    return _those_of(StoredReport, session, subject)


def _those_of(
    table: type[StoredReport | KnownFile | AlarmRow], session: Session, subject: Subject
) -> Iterator[ColumnElement[bool]]:
    """Which rows of a table are about a subject."""
    owner = _tenant_of(session, subject)
    if subject.sha256 is not None:
        yield table.sha256 == subject.sha256
    if owner is not None:
        yield table.tenant == owner


def _jobs_of(session: Session, subject: Subject, holding: Sequence[int]) -> ColumnElement[bool]:
    """The jobs of the reports on a file and those ``holding`` it, or all of a tenant."""
    if subject.sha256 is None:
        return Job.tenant == _tenant_of(session, subject)
    reports = select(StoredReport.id).where(*_reports_of(session, subject))
    return or_(Job.report.in_(reports), Job.number.in_(holding))


def _tenants_of(session: Session, subject: Subject, holding: Sequence[int]) -> set[int]:
    """Those that have reports on a file or jobs ``holding`` it; the tenant that was named."""
    owner = _tenant_of(session, subject)
    if owner is not None:
        return {owner}
    reports = select(StoredReport.tenant).where(*_reports_of(session, subject)).distinct()
    jobs = select(Job.tenant).where(Job.number.in_(holding)).distinct()
    return {*session.scalars(reports), *session.scalars(jobs)}


def _tenant_of(session: Session, subject: Subject) -> int | None:
    if subject.tenant is None:
        return None
    number = session.scalar(select(Tenant.number).where(Tenant.name == subject.tenant))
    if number is None:
        raise no_tenant(subject.tenant)
    return number


def _kind(subject: Subject) -> str:
    return "tenant" if subject.sha256 is None else "subject"


def _word(row: Any) -> dict[str, Any]:
    """A row without what opens or places anything."""
    hidden = {"hash", "media", "tenant", "key", "number"}
    names = [column.key for column in row.__table__.columns if column.key not in hidden]
    values = {name: getattr(row, name) for name in names}
    return values | {"created": word_time(row.created)}


def _add_json(archive: zipfile.ZipFile, name: str, value: Any) -> None:
    archive.writestr(name, json.dumps(value, ensure_ascii=False, indent=1))
