"""Files on which moderators ruled: each tenant's own index of known media."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from deepfake.known.fingerprints import Fingerprint
from deepfake.known.index import Entry, Known, Ruled, utc_of
from deepfake.types import Verdict

from .database import Database
from .keys import Identity
from .tables import KnownFile, Ruling, StoredReport, now_ms

_RULED = {
    (Ruling.CONFIRM, Verdict.SYNTHETIC): Ruled.SYNTHETIC,
    (Ruling.CONFIRM, Verdict.AUTHENTIC): Ruled.GENUINE,
    (Ruling.OVERTURN, Verdict.SYNTHETIC): Ruled.GENUINE,
    (Ruling.OVERTURN, Verdict.SUSPICIOUS): Ruled.GENUINE,
    (Ruling.OVERTURN, Verdict.AUTHENTIC): Ruled.SYNTHETIC,
}
"""What a ruling on a report says of its file; others say nothing firm."""
MOST_TENANTS = 100
"""Whose index is kept in memory."""


def learn(session: Session, identity: Identity, report: StoredReport, ruling: Ruling) -> None:
    """Note what a ruling says of a file, in place of what an earlier one on its report said."""
    latest = _latest(session, identity.tenant) or 0
    session.execute(delete(KnownFile).where(KnownFile.report == report.id))
    ruled = _RULED.get((Ruling(ruling), Verdict(report.verdict)))
    if ruled is not None:
        session.add(
            KnownFile(
                created=max(now_ms(), latest + 1),  # by which others see that it is new
                tenant=identity.tenant,
                report=report.id,
                ruled=ruled,
                ruled_by=identity.shown,
                sha256=report.sha256,
                fingerprint=report.document.get("fingerprint"),
            )
        )


def _latest(session: Session, tenant: int) -> int | None:
    query = select(func.max(KnownFile.created)).where(KnownFile.tenant == tenant)
    latest: int | None = session.scalar(query)
    return latest


class KnownMedia:
    """The indexes in ``database``, each with the entries of ``shared``, which the service was given
    for all tenants.
    """

    def __init__(self, database: Database, shared: Known) -> None:
        self._database, self._shared = database, shared
        self._lock = threading.Lock()
        self._made: dict[int, tuple[tuple[int, int], Known]] = {}

    def of(self, tenant: int) -> Known:
        """What is known to a tenant, made anew after a ruling in whatever process."""
        with self._database.reading() as session:
            latest = _latest(session, tenant)
            if latest is None:
                return self._shared
            count = session.scalar(
                select(func.count()).select_from(KnownFile).where(KnownFile.tenant == tenant)
            )
            with self._lock:
                made = self._made.get(tenant)
            if made is not None and made[0] == (count, latest):
                return made[1]
            rows = session.scalars(select(KnownFile).where(KnownFile.tenant == tenant)).all()
            known = Known([*self._shared.entries, *map(_entry, rows)])
        with self._lock:
            while len(self._made) >= MOST_TENANTS and tenant not in self._made:
                del self._made[next(iter(self._made))]
            self._made[tenant] = (count or 0, latest), known
        return known


def _entry(row: KnownFile) -> Entry:
    try:
        fingerprint = Fingerprint.from_dict(row.fingerprint or {})
    except ValueError:
        fingerprint = None  # a plain file, or a report of another release
    return Entry(
        id=row.report,
        ruled=Ruled(row.ruled),
        by=row.ruled_by,
        at=utc_of(datetime.fromtimestamp(row.created / 1000, UTC)),
        sha256=row.sha256,
        fingerprint=fingerprint,
    )
