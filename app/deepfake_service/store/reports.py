"""Reports that were given, and what moderators ruled on them."""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from deepfake.errors import ServiceError
from deepfake.reasons import Code
from deepfake.types import Report

from .budgets import charge
from .database import Database
from .keys import DAY_MS, Identity
from .known import learn
from .tables import (
    ENDED,
    HOLD,
    AlarmRow,
    Case,
    Event,
    Feedback,
    Job,
    KeptMedia,
    Repeat,
    Revision,
    Ruling,
    StoredReport,
    Tenant,
    Thumbnail,
    Usage,
    new_id,
    now_ms,
)
from .webhooks import announce


class Reports:
    """The reports in ``database``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, identity: Identity, report: Report) -> StoredReport:
        """Keep a report that belongs to no job."""
        with self._database.writing() as session:
            return add_report(session, report, tenant=identity.tenant, key=identity.key)

    def find(self, tenant: int, id: str) -> StoredReport:
        """Raises ``ServiceError`` (``nothing_here``) for a report that is none of this tenant's."""
        with self._database.reading() as session:
            return _find(session, tenant, id)

    def revision_of(self, id: str) -> str | None:
        """The id of the report that took the place of another last; None without one."""
        query = select(Revision.revised).where(Revision.report == id)
        with self._database.reading() as session:
            return session.scalar(query.order_by(Revision.number.desc()).limit(1))

    def rule(self, identity: Identity, report: str, *, ruling: Ruling, note: str) -> Feedback:
        """Keep what a moderator says of a report. Raises as :meth:`find`."""
        with self._database.writing() as session:
            found = _find(session, identity.tenant, report)
            row = Feedback(
                created=now_ms(),
                id=new_id("fbk"),
                tenant=identity.tenant,
                key=identity.key,
                report=found.id,
                ruling=ruling,
                note=note,
                account=identity.account,
            )
            session.add(row)
            learn(session, identity, found, ruling)
            session.execute(update(Case).where(Case.report == report).values(ruling=ruling))
            told = {"feedback": row.id, "report": report, "ruling": ruling}
            announce(session, Event.REPORT_RULED, tenant=identity.tenant, data=told)
            return row

    def forget(self, *, keep_days: float) -> list[str]:
        """Delete what is older: reports, rulings on them, jobs that have ended; and where the files
        of those jobs lay. Answers for an Idempotency-Key are kept for a day, budgets for a week.
        Of a tenant on legal hold no report, ruling or job is deleted.
        """
        now = now_ms()
        limit = now - round(keep_days * DAY_MS)
        held = select(Tenant.number).where(Tenant.retention == HOLD)
        past = StoredReport.created < limit, StoredReport.tenant.not_in(held)
        with self._database.writing() as session:
            old = select(StoredReport.id).where(*past)
            for table in (Feedback, KeptMedia, Case, Thumbnail):
                session.execute(delete(table).where(table.report.in_(old)))
            for column in (Revision.report, Revision.revised):
                session.execute(delete(Revision).where(column.in_(old)))
            session.execute(delete(StoredReport).where(*past))
            ended = Job.state.in_(ENDED), Job.ended < limit, Job.tenant.not_in(held)
            media = session.scalars(delete(Job).where(*ended).returning(Job.media)).all()
            session.execute(delete(Repeat).where(Repeat.created < now - DAY_MS))
            session.execute(delete(Usage).where(Usage.created < now - 7 * DAY_MS))
            session.execute(delete(AlarmRow).where(AlarmRow.until < limit))
        return list(media)


def add_report(
    session: Session, report: Report, *, tenant: int, key: int | None, job: str | None = None
) -> StoredReport:
    """Keep a report, and count its seconds for the key; a second one of the same job is an
    ``IntegrityError``.
    """
    row = StoredReport(
        created=now_ms(),
        id=new_id("rep"),
        tenant=tenant,
        key=key,
        job=job,
        verdict=report.verdict,
        sha256=report.media.sha256,
        document=report.to_dict(),
    )
    session.add(row)
    session.flush()
    session.add(
        Case(
            created=row.created,
            report=row.id,
            tenant=tenant,
            name=report.path[:200],
            kind=report.media.kind,
            verdict=report.verdict,
            probability=report.probability,
            sha256=report.media.sha256,
        )
    )
    charge(session, key, report.media.seconds or 0.0)
    return row


def _find(session: Session, tenant: int, id: str) -> StoredReport:
    row = session.scalar(
        select(StoredReport).where(StoredReport.tenant == tenant, StoredReport.id == id)
    )
    if row is None:
        raise ServiceError("report: there is none of this id", code=Code.NOTHING_HERE, status=404)
    return row
