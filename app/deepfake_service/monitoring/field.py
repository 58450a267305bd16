"""How often the verdicts hold in the field, as far as moderators have ruled on them."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

from sqlalchemy import func, select

from ..store.database import Database
from ..store.tables import Feedback, Ruling, StoredReport, Tenant

_QUANTILE = NormalDist().inv_cdf(0.975)


class Held(NamedTuple):
    """Of the reports with a verdict of a tenant, how many the last ruling confirmed, overturned or
    escalated, and the share that held of those that were confirmed or overturned, with its 95 %
    interval.

    It is about the reports that somebody chose to look at, and about no others.
    """

    tenant: str
    verdict: str
    confirmed: int
    overturned: int
    escalated: int
    share: float | None
    low: float
    high: float


def read_field(database: Database) -> list[Held]:
    """What moderators have ruled, by tenant and verdict."""
    last = select(func.max(Feedback.number)).group_by(Feedback.report)
    query = (
        select(Tenant.name, StoredReport.verdict, Feedback.ruling, func.count())
        .select_from(Feedback)
        .join(StoredReport, StoredReport.id == Feedback.report)
        .join(Tenant, Tenant.number == StoredReport.tenant)
        .where(Feedback.number.in_(last))
        .group_by(Tenant.name, StoredReport.verdict, Feedback.ruling)
    )
    counts: dict[tuple[str, str], dict[str, int]] = {}
    with database.reading() as session:
        for tenant, verdict, ruling, number in session.execute(query):
            counts.setdefault((tenant, verdict), {})[ruling] = number
    return [_hold(*place, own) for place, own in sorted(counts.items())]


def wilson(successes: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share after Wilson 1927; all of 0…1 for no observation."""
    if not of:
        return 0.0, 1.0
    share, square = successes / of, _QUANTILE**2
    middle = (share + square / (2 * of)) / (1 + square / of)
    inner = share * (1 - share) / of + square / (4 * of**2)
    half = _QUANTILE * inner**0.5 / (1 + square / of)
    return max(0.0, middle - half), min(1.0, middle + half)


def _hold(tenant: str, verdict: str, own: dict[str, int]) -> Held:
    confirmed, overturned, escalated = (own.get(it, 0) for it in Ruling)
    ruled = confirmed + overturned
    share = confirmed / ruled if ruled else None
    return Held(tenant, verdict, confirmed, overturned, escalated, share, *wilson(confirmed, ruled))
