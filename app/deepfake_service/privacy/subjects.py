"""What is known of a file or of a tenant, given to who may have it, or erased; and the proof."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from deepfake.errors import SettingsError
from deepfake.trust.audit import AuditLog, search_entries

from ..store.database import Database
from ..store.tables import (
    ENDED,
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
    StoredReport,
    Tenant,
    TenantKey,
    Thumbnail,
    Usage,
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
    """How much was erased."""

    reports: int
    rulings: int
    jobs: int
    media: int


class Subjects:
    """Exports and erasures in ``database``, entered in ``log`` under pseudonyms by ``secret``."""

    def __init__(
        self, database: Database, kept: KeptFiles, *, secret: bytes, uploads: Path
    ) -> None:
        self._database, self._kept = database, kept
        self._secret, self._uploads = secret, uploads

    def export(self, subject: Subject, target: Path, log: AuditLog) -> int:
        """Write reports, rulings, jobs and kept media of a subject to a new ZIP file; how many
        reports there are. Raises ``SettingsError`` for a target that exists or cannot be written.
        """
        with self._database.reading() as session:
            _tenant_of(session, subject)
        try:
            with target.open("xb") as file:
                try:
                    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                        count = self._write(subject, archive)
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
        for a tenant that is unknown, on legal hold, or has jobs in work.
        """
        pseudonym, what = subject.pseudonym(self._secret), _kind(subject)
        with self._database.reading() as session:
            self._require_free(session, subject)
        log.append(f"erasing_{what}", media=pseudonym)
        with self._database.writing() as session:
            self._require_free(session, subject)
            erased, places, uploads = _delete(session, subject)
        self._kept.drop(places)
        for name in uploads:
            (self._uploads / name).unlink(missing_ok=True)
        self._database.scrub()
        log.append(f"{ERASED}_{what}", media=pseudonym)
        return erased

    def prove(self, subject: Subject, log: Path) -> list[dict[str, Any]]:
        """The entries of the log about a subject."""
        return [*search_entries(log, media=subject.pseudonym(self._secret))]

    def _write(self, subject: Subject, archive: zipfile.ZipFile) -> int:
        with self._database.reading() as session:
            _tenant_of(session, subject)
            reports = [*session.scalars(select(StoredReport).where(*_reports_of(session, subject)))]
            ids = select(StoredReport.id).where(*_reports_of(session, subject))
            rulings = session.scalars(select(Feedback).where(Feedback.report.in_(ids))).all()
            jobs = session.scalars(select(Job).where(_jobs_of(session, subject))).all()
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

    def _require_free(self, session: Session, subject: Subject) -> None:
        """Raise ``SettingsError`` for what may not be erased now."""
        _tenant_of(session, subject)
        tenants = select(StoredReport.tenant).where(*_reports_of(session, subject))
        held = (
            Tenant.number.in_(tenants) if subject.tenant is None else Tenant.name == subject.tenant
        )
        names = [*session.scalars(select(Tenant.name).where(held, Tenant.retention == Class.HOLD))]
        if names:
            raise SettingsError(
                f"tenant {names[0]}: is on legal hold, under which nothing is erased",
                hint=f"lift it first: deepfake privacy retain {names[0]} none",
            )
        if subject.sha256 is None:
            owner = _tenant_of(session, subject)
            running = select(Job.number).where(Job.tenant == owner, Job.state.not_in(ENDED))
            if session.scalar(running.limit(1)) is not None:
                raise SettingsError(
                    f"tenant {subject.tenant}: has jobs that have not ended",
                    hint="revoke its keys, cancel its jobs and try again",
                )


def _delete(session: Session, subject: Subject) -> tuple[Erased, list[str], list[str]]:
    """Delete rows; how many, the places of kept media, and of media of jobs."""
    owner = _tenant_of(session, subject)
    whole = subject.sha256 is None
    if whole:
        session.execute(delete(TenantKey).where(TenantKey.tenant == owner))
    mine = [*_reports_of(session, subject)]
    reports = select(StoredReport.id).where(*mine)
    tenants = {*session.scalars(select(StoredReport.tenant).where(*mine).distinct())}
    if owner is not None:
        tenants.add(owner)
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
    jobs = delete(Job).where(_jobs_of(session, subject)).returning(Job.media)
    uploads = [*session.scalars(jobs)]
    count = _count(session, delete(StoredReport).where(*mine))
    if whole:
        _empty_tenant(session, subject)
    return Erased(count, rulings, len(uploads), len(places)), places, uploads


def _empty_tenant(session: Session, subject: Subject) -> None:
    """Take everything from a tenant but the rows of its keys, which open nothing any more: where
    there was never a key, whoever is on this machine may ask.
    """
    owner = _tenant_of(session, subject)
    lineages = select(Key.lineage).where(Key.tenant == owner)
    session.execute(delete(Usage).where(Usage.lineage.in_(lineages)))
    for table in (DriftStream, Delivery, Webhook):
        session.execute(delete(table).where(table.tenant == owner))
    bare = {"label": "", "hash": "", "revoked": func.coalesce(Key.revoked, now_ms())}
    session.execute(update(Key).where(Key.tenant == owner).values(bare))
    session.execute(
        update(Tenant)
        .where(Tenant.number == owner)
        .values(name=f"erased-{secrets.token_hex(8)}", retention=Class.NONE)
    )


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


def _jobs_of(session: Session, subject: Subject) -> ColumnElement[bool]:
    """The jobs of the reports on a file, or all of a tenant."""
    if subject.sha256 is None:
        return Job.tenant == _tenant_of(session, subject)
    return Job.report.in_(select(StoredReport.id).where(*_reports_of(session, subject)))


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
