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
    session.execute(delete(KnownFile).where(KnownFile.report == report.id))
    ruled = _RULED.get((Ruling(ruling), Verdict(report.verdict)))
    if ruled is not None:
        session.add(
            KnownFile(
                created=now_ms(),
                tenant=identity.tenant,
                report=report.id,
                ruled=ruled,
                ruled_by=identity.shown,
                sha256=report.sha256,
                fingerprint=report.document.get("fingerprint"),
            )
        )


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
            count, last = session.execute(
                select(func.count(), func.coalesce(func.max(KnownFile.number), 0)).where(
                    KnownFile.tenant == tenant
                )
            ).one()
            if not count:
                return self._shared
            with self._lock:
                stamp, known = self._made.get(tenant, ((0, 0), self._shared))
            if stamp == (count, last):
                return known
            rows = session.scalars(select(KnownFile).where(KnownFile.tenant == tenant)).all()
            known = Known([*self._shared.entries, *map(_entry, rows)])
        with self._lock:
            while len(self._made) >= MOST_TENANTS and tenant not in self._made:
                del self._made[next(iter(self._made))]
            self._made[tenant] = (count, last), known
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
