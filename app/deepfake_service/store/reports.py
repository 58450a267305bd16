"""Reports that were given, and what moderators ruled on them."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from deepfake.errors import ServiceError
from deepfake.reasons import Code
from deepfake.types import Report

from .budgets import charge
from .database import Database
from .keys import DAY_MS, Identity
from .tables import ENDED, Event, Feedback, Job, Repeat, Ruling, StoredReport, Usage, new_id, now_ms
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

    def rule(self, identity: Identity, report: str, *, ruling: Ruling, note: str) -> Feedback:
        """Keep what a moderator says of a report. Raises as :meth:`find`."""
        with self._database.writing() as session:
            row = Feedback(
                created=now_ms(),
                id=new_id("fbk"),
                tenant=identity.tenant,
                key=identity.key,
                report=_find(session, identity.tenant, report).id,
                ruling=ruling,
                note=note,
            )
            session.add(row)
            told = {"feedback": row.id, "report": report, "ruling": ruling}
            announce(session, Event.REPORT_RULED, tenant=identity.tenant, data=told)
            return row

    def forget(self, *, keep_days: float) -> list[str]:
        """Delete what is older: reports, rulings on them, jobs that have ended; and where the files
        of those jobs lay. Answers for an Idempotency-Key are kept for a day, budgets for a week.
        """
        now = now_ms()
        limit = now - round(keep_days * DAY_MS)
        old = select(StoredReport.id).where(StoredReport.created < limit)
        with self._database.writing() as session:
            session.execute(delete(Feedback).where(Feedback.report.in_(old)))
            session.execute(delete(StoredReport).where(StoredReport.created < limit))
            media = session.scalars(
                delete(Job).where(Job.state.in_(ENDED), Job.ended < limit).returning(Job.media)
            ).all()
            session.execute(delete(Repeat).where(Repeat.created < now - DAY_MS))
            session.execute(delete(Usage).where(Usage.created < now - 7 * DAY_MS))
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
    charge(session, key, report.media.seconds or 0.0)
    return row


def _find(session: Session, tenant: int, id: str) -> StoredReport:
    row = session.scalar(
        select(StoredReport).where(StoredReport.tenant == tenant, StoredReport.id == id)
    )
    if row is None:
        raise ServiceError("report: there is none of this id", code=Code.NOTHING_HERE, status=404)
    return row
