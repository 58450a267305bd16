"""Stored reports that an incident is about, and what takes their place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import select

from deepfake.trust.incidents import Scope
from deepfake.types import Report

from .events import Event, Events
from .store.database import Database
from .store.reports import add_report
from .store.tables import Key, Revision, StoredReport, Tenant, now_ms

MOST_AT_ONCE = 200


class Affected(NamedTuple):
    """A stored report that rests on what an incident is about; ``revised`` in that incident."""

    id: str
    tenant: str
    name: str
    time: str
    verdict: str
    sha256: str
    revised: bool


def find_affected(database: Database, scope: Scope, *, incident: str) -> Iterator[Affected]:
    """The reports of all tenants that a scope covers, the oldest first. What rescans made of others
    is none of them.
    """
    after = 0
    while True:
        query = (
            select(StoredReport, Tenant.name, Key.prefix)
            .join(Tenant, Tenant.number == StoredReport.tenant)
            .outerjoin(Key, Key.number == StoredReport.key)
            .where(StoredReport.number > after)
            .where(StoredReport.id.not_in(select(Revision.revised)))
            .order_by(StoredReport.number)
            .limit(MOST_AT_ONCE)
        )
        with database.reading() as session:
            rows = session.execute(query).all()
            ids = [row.id for row, _, _ in rows]
            done = set(
                session.scalars(
                    select(Revision.report).where(
                        Revision.report.in_(ids), Revision.incident == incident
                    )
                )
            )
        if not rows:
            return
        for row, tenant, prefix in rows:
            after = row.number
            document = row.document
            if scope.covers(document) and scope.key in (None, prefix):
                yield Affected(
                    row.id,
                    tenant,
                    str(document.get("path", "")),
                    str(document.get("examined_at") or ""),
                    row.verdict,
                    row.sha256,
                    row.id in done,
                )


def revise(
    database: Database, events: Events, affected: Affected, report: Report, *, incident: str
) -> str:
    """Keep what the present models say beside a report, for its tenant, and tell of it
    (``report.revised``) where the verdict is another; the id of the new one.
    """
    with database.writing() as session:
        old = session.scalars(select(StoredReport).where(StoredReport.id == affected.id)).one()
        new = add_report(session, report, tenant=old.tenant, key=None)
        session.add(Revision(created=now_ms(), report=old.id, revised=new.id, incident=incident))
        tenant = old.tenant
    if report.verdict != affected.verdict:
        data = {
            "report": affected.id,
            "revised": new.id,
            "sha256": affected.sha256,
            "verdict_before": affected.verdict,
            "verdict": report.verdict.value,
            "incident": incident,
        }
        events.emit(Event(type="report.revised", tenant=tenant, data=data))
    return new.id
