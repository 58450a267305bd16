"""Reports as a list for moderators: found, ruled on, and counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, and_, func, or_, select
from sqlalchemy.orm import Session

from deepfake.types import Kind, Verdict

from .database import Database
from .tables import Case, Feedback, Job, Key, Ruling, User

UNRULED = "none"
MOST_WORDS = 8
AT_ONCE = 500
_HEXADECIMAL = re.compile("[0-9a-f]{6,64}")


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which cases are wanted; None and empty texts stand for all.

    ``ruling`` is the last one, or ``none``. ``since`` and ``until`` are milliseconds since 1970,
    the first one included. ``name`` is a part of the file's name. Each word of ``words`` must be in
    the name or a note, or begin the SHA-256, or be the id of the report.
    """

    verdict: Verdict | None = None
    kind: Kind | None = None
    ruling: str | None = None
    since: int | None = None
    until: int | None = None
    name: str = ""
    words: str = ""

    @property
    def sought(self) -> list[str]:
        """The words that count."""
        return self.words.split()[:MOST_WORDS]

    @property
    def named(self) -> bool:
        """Whether names have to be looked at."""
        return bool(self.name or self.sought)


class Ruled(NamedTuple):
    """A ruling, and the name of the account or the prefix of the key that it is of."""

    created: int
    ruling: Ruling
    note: str
    by: str


class Cases:
    """The cases in ``database``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(
        self,
        tenant: int,
        wanted: Filter,
        *,
        before: int | None = None,
        after: int | None = None,
        most: int,
    ) -> list[Case]:
        """At most so many cases of a tenant, the newest first: those next below the number
        ``before``, or next above ``after``.
        """
        query = _select(tenant, wanted)
        if not wanted.named:
            query = query.limit(most)
        if after is not None:
            query = query.where(Case.number > after).order_by(Case.number)
        else:
            query = query.order_by(Case.number.desc())
        if before is not None:
            query = query.where(Case.number < before)
        with self._database.reading() as session:
            found = [*islice(_find(session, query, wanted), most)]
        return found[::-1] if after is not None else found

    def walk(
        self, tenant: int, wanted: Filter, *, most: int
    ) -> Iterator[tuple[Case, Ruled | None]]:
        """The newest cases with the last ruling on each, read in pages of 500."""
        before = None
        while most > 0:
            rows = self.page(tenant, wanted, before=before, most=min(AT_ONCE, most))
            if not rows:
                return
            ruled = self.rulings(tenant, [row.report for row in rows])
            for row in rows:
                rulings = ruled.get(row.report)
                yield row, rulings[-1] if rulings else None
            before, most = rows[-1].number, most - len(rows)

    def batch(self, tenant: int, batch: str) -> list[tuple[Job, Case | None]]:
        """The jobs of a batch in their order, with the cases of those that have a report."""
        query = (
            select(Job, Case)
            .outerjoin(Case, Case.report == Job.report)
            .where(Job.tenant == tenant, Job.batch == batch)
            .order_by(Job.number)
        )
        with self._database.reading() as session:
            return [(job, case) for job, case in session.execute(query)]

    def batches(self, tenant: int, *, most: int) -> Sequence[Row[tuple[str, int, int]]]:
        """The newest batches: id, number of files, and when they came."""
        query = (
            select(Job.batch, func.count(), func.min(Job.created))
            .where(Job.tenant == tenant, Job.batch.is_not(None))
            .group_by(Job.batch)
            .order_by(func.max(Job.number).desc())
            .limit(most)
        )
        with self._database.reading() as session:
            rows: Sequence[Any] = session.execute(query).all()
            return rows

    def rulings(self, tenant: int, reports: Sequence[str]) -> dict[str, list[Ruled]]:
        """What was ruled on reports of a tenant, the oldest first."""
        query = (
            select(Feedback, User.name, Key.prefix)
            .outerjoin(User, User.number == Feedback.account)
            .outerjoin(Key, Key.number == Feedback.key)
            .where(Feedback.tenant == tenant, Feedback.report.in_(reports))
            .order_by(Feedback.number)
        )
        found: dict[str, list[Ruled]] = {}
        with self._database.reading() as session:
            for row, user, prefix in session.execute(query):
                by = user or (f"key {prefix}" if prefix else "this machine")
                ruled = Ruled(row.created, Ruling(row.ruling), row.note, by)
                found.setdefault(row.report, []).append(ruled)
        return found

    def count(self, tenant: int, wanted: Filter) -> dict[tuple[Verdict, str], int]:
        """How many cases there are of each verdict and last ruling (``none`` without one)."""
        if wanted.named:
            with self._database.reading() as session:
                cases = _find(session, _select(tenant, wanted), wanted)
                return Counter((Verdict(it.verdict), it.ruling or UNRULED) for it in cases)
        ruling = func.coalesce(Case.ruling, UNRULED)
        query = (
            select(Case.verdict, ruling, func.count())
            .where(*_conditions(tenant, wanted))
            .group_by(Case.verdict, ruling)
        )
        with self._database.reading() as session:
            return {(Verdict(row[0]), row[1]): row[2] for row in session.execute(query)}


def _select(tenant: int, wanted: Filter) -> Select[*tuple[Any, ...]]:
    """The cases that fit all but names, each with whether it holds each word elsewhere."""
    words = (_holds(word).label(f"word_{place}") for place, word in enumerate(wanted.sought))
    return select(Case, *words).where(*_conditions(tenant, wanted))


def _find(session: Session, query: Select[*tuple[Any, ...]], wanted: Filter) -> Iterator[Case]:
    """Those of a query whose names fit, too: they are sealed, so each is opened and looked at."""
    for case, *held in session.execute(query.execution_options(yield_per=AT_ONCE)):
        name = case.name.casefold()
        if wanted.name.casefold() in name and all(
            here or word.casefold() in name for word, here in zip(wanted.sought, held, strict=True)
        ):
            yield case


def _conditions(tenant: int, wanted: Filter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [Case.tenant == tenant]
    if wanted.verdict is not None:
        conditions.append(Case.verdict == wanted.verdict)
    if wanted.kind is not None:
        conditions.append(Case.kind == wanted.kind)
    if wanted.ruling == UNRULED:
        conditions.append(Case.ruling.is_(None))
    elif wanted.ruling is not None:
        conditions.append(Case.ruling == wanted.ruling)
    if wanted.since is not None:
        conditions.append(Case.created >= wanted.since)
    if wanted.until is not None:
        conditions.append(Case.created < wanted.until)
    return conditions


def _holds(word: str) -> ColumnElement[bool]:
    """Whether a word is in a note on a case, or is its hash or id."""
    noted = select(Feedback.number).where(
        and_(Feedback.report == Case.report, Feedback.note.icontains(word, autoescape=True))
    )
    ways: list[ColumnElement[bool]] = [noted.exists()]
    if _HEXADECIMAL.fullmatch(word.lower()):
        ways.append(Case.sha256.startswith(word.lower()))
    if word.startswith("rep_"):
        ways.append(Case.report == word)
    return or_(*ways)
