"""The tables. Times are whole milliseconds since 1970 in UTC; ids that people see are texts.

Nothing here is peculiar to one database: the same tables and migrations serve SQLite and
PostgreSQL. A row belongs to a tenant, and every query names the tenant.
"""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts rows by itself in a column of the type INTEGER alone."""


class State(StrEnum):
    """Of a job. *failed*: the file is the problem; *dead*: everything else, after every attempt."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"


ENDED = (State.DONE, State.FAILED, State.DEAD, State.CANCELLED)


class Event(StrEnum):
    """What webhooks tell of. *job.failed*: the job will get no report; its state says why."""

    JOB_DONE = "job.done"
    JOB_FAILED = "job.failed"
    REPORT_RULED = "report.ruled"


class DeliveryState(StrEnum):
    """Of one event on its way to one address. *dead*: every try has failed."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    DEAD = "dead"


class Ruling(StrEnum):
    """What a moderator says of a report."""

    CONFIRM = "confirm"
    OVERTURN = "overturn"
    ESCALATE = "escalate"


class Table(DeclarativeBase):
    """Of every table below: a number that counts up, by which pages go on."""

    number: Mapped[int] = mapped_column(NUMBER, primary_key=True, autoincrement=True)
    created: Mapped[int] = mapped_column(BigInteger)


class Tenant(Table):
    __tablename__ = "tenants"

    name: Mapped[str] = mapped_column(String(64), unique=True)


class Key(Table):
    """``hash`` is keyed; the key itself is nowhere. ``lineage`` is the number of the first key of
    those that replaced each other, which share rate and budgets.
    """

    __tablename__ = "keys"

    tenant: Mapped[int] = mapped_column(ForeignKey("tenants.number"))
    prefix: Mapped[str] = mapped_column(String(16), unique=True)
    hash: Mapped[str] = mapped_column(String(64))
    label: Mapped[str] = mapped_column(String(80))
    scopes: Mapped[list[str]] = mapped_column(JSON)
    policy: Mapped[str] = mapped_column(String(16))
    rate: Mapped[str | None] = mapped_column(String(40))
    files_a_day: Mapped[int | None] = mapped_column(BigInteger)
    seconds_a_day: Mapped[float | None] = mapped_column(Float)
    lineage: Mapped[int | None] = mapped_column(BigInteger)
    expires: Mapped[int | None] = mapped_column(BigInteger)
    revoked: Mapped[int | None] = mapped_column(BigInteger)


class Job(Table):
    """``media`` is where the file lies, relative to the media folder; ``attempt`` counts how often
    it was begun, and only the attempt that a worker has may end it. ``due`` is when a queued job
    may be begun, and when a running one is given up for lost unless its worker moves that on;
    ``progress`` and ``step`` are what the worker told when it last did.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        Index("jobs_in_line", "state", "due", "priority"),
        Index("jobs_of_tenant", "tenant", "number"),
        Index("jobs_of_batch", "tenant", "batch"),
    )

    id: Mapped[str] = mapped_column(String(40), unique=True)
    tenant: Mapped[int] = mapped_column(ForeignKey("tenants.number"))
    key: Mapped[int | None] = mapped_column(ForeignKey("keys.number"))
    batch: Mapped[str | None] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(200))
    bytes: Mapped[int] = mapped_column(BigInteger)
    media: Mapped[str] = mapped_column(String(80))
    options: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16))
    priority: Mapped[int] = mapped_column(Integer)
    attempt: Mapped[int] = mapped_column(Integer)
    due: Mapped[int] = mapped_column(BigInteger)
    started: Mapped[int | None] = mapped_column(BigInteger)
    ended: Mapped[int | None] = mapped_column(BigInteger)
    progress: Mapped[float | None] = mapped_column(Float)
    step: Mapped[str | None] = mapped_column(String(80))
    report: Mapped[str | None] = mapped_column(String(40))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class StoredReport(Table):
    """``job`` is unique, so that a job has one report at most. ``document`` is the whole of it."""

    __tablename__ = "reports"
    __table_args__ = (Index("reports_of_tenant", "tenant", "number"),)

    id: Mapped[str] = mapped_column(String(40), unique=True)
    tenant: Mapped[int] = mapped_column(ForeignKey("tenants.number"))
    key: Mapped[int | None] = mapped_column(ForeignKey("keys.number"))
    job: Mapped[str | None] = mapped_column(String(40), unique=True)
    verdict: Mapped[str] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(String(64))
    document: Mapped[dict[str, Any]] = mapped_column(JSON)


class Feedback(Table):
    __tablename__ = "feedback"
    __table_args__ = (Index("feedback_of_report", "report"),)

    id: Mapped[str] = mapped_column(String(40), unique=True)
    tenant: Mapped[int] = mapped_column(ForeignKey("tenants.number"))
    key: Mapped[int | None] = mapped_column(ForeignKey("keys.number"))
    report: Mapped[str] = mapped_column(ForeignKey("reports.id"))
    ruling: Mapped[str] = mapped_column(String(16))
    note: Mapped[str] = mapped_column(Text)


class Webhook(Table):
    """An address that is told of ``events``. ``secrets`` are the sealed keys of its signatures, the
    newest first, each with the time at which it ends; an address that is ``gone`` is told nothing.
    """

    __tablename__ = "webhooks"
    __table_args__ = (Index("webhooks_of_tenant", "tenant", "number"),)

    id: Mapped[str] = mapped_column(String(40), unique=True)
    tenant: Mapped[int] = mapped_column(ForeignKey("tenants.number"))
    url: Mapped[str] = mapped_column(String(2000))
    events: Mapped[list[str]] = mapped_column(JSON)
    secrets: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    gone: Mapped[int | None] = mapped_column(BigInteger)


class Delivery(Table):
    """One event for one webhook. ``due`` is when it may be sent; taking it moves that on, so that
    it is sent again if the process dies meanwhile. ``status`` is that of the last answer.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        Index("deliveries_in_line", "state", "due"),
        Index("deliveries_of_webhook", "webhook", "number"),
    )

    id: Mapped[str] = mapped_column(String(40), unique=True)
    webhook: Mapped[int] = mapped_column(ForeignKey("webhooks.number"))
    event: Mapped[str] = mapped_column(String(40))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int] = mapped_column(Integer)
    due: Mapped[int] = mapped_column(BigInteger)
    ended: Mapped[int | None] = mapped_column(BigInteger)
    status: Mapped[int | None] = mapped_column(Integer)
    error: Mapped[str | None] = mapped_column(String(200))


class Usage(Table):
    """What a lineage of keys has used on a ``day`` (UTC, days since 1970)."""

    __tablename__ = "usage"
    __table_args__ = (UniqueConstraint("lineage", "day", name="usage_of_a_day"),)

    lineage: Mapped[int] = mapped_column(BigInteger)
    day: Mapped[int] = mapped_column(Integer)
    files: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float] = mapped_column(Float)


class Repeat(Table):
    """The answer that a request with an Idempotency-Key got; none while ``server`` is at work."""

    __tablename__ = "repeats"
    __table_args__ = (UniqueConstraint("tenant", "sender", "name", name="repeats_by_name"),)

    tenant: Mapped[int] = mapped_column(ForeignKey("tenants.number"))
    sender: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(255))
    fingerprint: Mapped[str] = mapped_column(String(64))
    server: Mapped[str | None] = mapped_column(String(40))
    status: Mapped[int | None] = mapped_column(Integer)
    headers: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    body: Mapped[str | None] = mapped_column(Text)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def word_time(moment: int | None) -> str | None:
    """A time of the tables in UTC as ISO 8601 has it, to the millisecond."""
    if moment is None:
        return None
    text = datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def new_id(kind: str) -> str:
    """An id that nobody guesses, as ``job_0123…`` with 32 digits."""
    return f"{kind}_{secrets.token_hex(16)}"
