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
    LargeBinary,
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
HOLDING = (State.QUEUED, State.RUNNING, State.DEAD)
"""States of jobs whose files are still needed."""


HOLD = "hold"
"""The ``retention`` of a tenant of whom nothing may be deleted."""


class Event(StrEnum):
    """What webhooks tell of. *job.failed*: the job will get no report; its state says why.
    *report.revised*: an incident had it examined again.
    """

    JOB_DONE = "job.done"
    JOB_FAILED = "job.failed"
    REPORT_RULED = "report.ruled"
    REPORT_REVISED = "report.revised"


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
    retention: Mapped[str] = mapped_column(String(20), default="none", server_default="none")


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
    restricted: Mapped[str | None] = mapped_column(String(16))


class Job(Table):
    """``media`` is where the file lies, relative to the media folder, ``sha256`` that of the file,
    unless the job is of a release that did not keep it; ``attempt`` counts how often
    it was begun, and only the attempt that a worker has may end it. ``due`` is when a queued job
    may be begun, and when a running one is given up for lost unless its worker moves that on;
    ``progress`` and ``step`` are what the worker told when it last did.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        Index("jobs_in_line", "state", "due", "priority"),
        Index("jobs_of_tenant", "tenant", "number"),
        Index("jobs_of_batch", "tenant", "batch"),
        Index("jobs_of_file", "sha256"),
    )

    id: Mapped[str] = mapped_column(String(40), unique=True)
    tenant: Mapped[int] = mapped_column(ForeignKey("tenants.number"))
    key: Mapped[int | None] = mapped_column(ForeignKey("keys.number"))
    batch: Mapped[str | None] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(Text)
    bytes: Mapped[int] = mapped_column(BigInteger)
    media: Mapped[str] = mapped_column(String(80))
    sha256: Mapped[str | None] = mapped_column(String(64))
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
    account: Mapped[int | None] = mapped_column(ForeignKey("users.number"))


class Case(Table):
    """What a list shows of a report, beside its large document, and the last ruling on it."""

    __tablename__ = "cases"
    __table_args__ = (Index("cases_of_tenant", "tenant", "number"),)

    report: Mapped[str] = mapped_column(ForeignKey("reports.id"), unique=True)
    tenant: Mapped[int] = mapped_column(ForeignKey("tenants.number"))
    name: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(String(16))
    verdict: Mapped[str] = mapped_column(String(16))
    probability: Mapped[float | None] = mapped_column(Float)
    sha256: Mapped[str] = mapped_column(String(64))
    ruling: Mapped[str | None] = mapped_column(String(16))


class Thumbnail(Table):
    """A small JPEG of what a report is about."""

    __tablename__ = "thumbnails"

    report: Mapped[str] = mapped_column(ForeignKey("reports.id"), unique=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class User(Table):
    """Somebody who signs in: with a password, of which ``password`` is an argon2id hash, or at a
    provider of OpenID Connect, which knows them as ``subject`` since they first did.
    """

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(String(254), unique=True)
    tenant: Mapped[int] = mapped_column(ForeignKey("tenants.number"))
    role: Mapped[str] = mapped_column(String(16))
    password: Mapped[str | None] = mapped_column(String(200))
    subject: Mapped[str | None] = mapped_column(String(255), unique=True)
    disabled: Mapped[int | None] = mapped_column(BigInteger)


class Visit(Table):
    """A browser in which somebody has signed in. ``hash`` is keyed; its token is nowhere."""

    __tablename__ = "visits"
    __table_args__ = (Index("visits_of_user", "account"),)

    hash: Mapped[str] = mapped_column(String(64), unique=True)
    account: Mapped[int] = mapped_column(ForeignKey("users.number"))
    seen: Mapped[int] = mapped_column(BigInteger)
    expires: Mapped[int] = mapped_column(BigInteger)


class Failure(Table):
    """How often a name, whether it is known or not, was given with a wrong password in a row, and
    until when nobody is asked for it. ``hash`` is keyed.
    """

    __tablename__ = "failures"

    hash: Mapped[str] = mapped_column(String(64), unique=True)
    count: Mapped[int] = mapped_column(Integer)
    until: Mapped[int] = mapped_column(BigInteger)


class KnownFile(Table):
    """A file on which a moderator of the tenant ruled. It outlives its report, and holds no media;
    a later ruling on the same report takes its place.
    """

    __tablename__ = "known"
    __table_args__ = (
        UniqueConstraint("report", name="known_by_report"),
        Index("known_of_tenant", "tenant", "number"),
    )

    tenant: Mapped[int] = mapped_column(ForeignKey("tenants.number"))
    report: Mapped[str] = mapped_column(String(40))
    ruled: Mapped[str] = mapped_column(String(16))
    ruled_by: Mapped[str] = mapped_column(String(80))
    sha256: Mapped[str] = mapped_column(String(64))
    fingerprint: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class AlarmRow(Table):
    """What the watch saw of a lineage of keys, and what is done about it ``until`` when."""

    __tablename__ = "alarms"
    __table_args__ = (Index("alarms_in_force", "lineage", "until"),)

    tenant: Mapped[int] = mapped_column(ForeignKey("tenants.number"))
    lineage: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(String(16))
    files: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(16))
    until: Mapped[int] = mapped_column(BigInteger)


class Revision(Table):
    """What an ``incident`` made of a ``report``: another one, ``revised``, by present models."""

    __tablename__ = "revisions"
    __table_args__ = (Index("revisions_of_report", "report"),)

    report: Mapped[str] = mapped_column(ForeignKey("reports.id"))
    revised: Mapped[str] = mapped_column(ForeignKey("reports.id"))
    incident: Mapped[str] = mapped_column(String(40))


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
    tenant: Mapped[int | None] = mapped_column(ForeignKey("tenants.number"))
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


class TenantKey(Table):
    """The key that seals what is kept of a tenant, ``wrapped`` by the master key, in Base64."""

    __tablename__ = "tenant_keys"

    tenant: Mapped[int] = mapped_column(ForeignKey("tenants.number"), unique=True)
    wrapped: Mapped[str] = mapped_column(Text)


class KeptMedia(Table):
    """The file of a report, sealed, at ``place`` in the folder of kept media; ``until`` is when it
    is deleted, None with its report.
    """

    __tablename__ = "kept_media"

    tenant: Mapped[int] = mapped_column(ForeignKey("tenants.number"))
    report: Mapped[str] = mapped_column(ForeignKey("reports.id"), unique=True)
    place: Mapped[str] = mapped_column(String(120))
    until: Mapped[int | None] = mapped_column(BigInteger)


class DriftStream(Table):
    """What is watched of the files of one ``kind`` that a tenant sends: shares and limits, no files
    (see :mod:`deepfake_service.monitoring`). ``place`` tells the processes that share a database.
    """

    __tablename__ = "drift_streams"
    __table_args__ = (UniqueConstraint("tenant", "kind", "place", name="drift_streams_by_kind"),)

    tenant: Mapped[int] = mapped_column(ForeignKey("tenants.number"))
    kind: Mapped[str] = mapped_column(String(16))
    place: Mapped[str] = mapped_column(String(40), default="", server_default="")
    document: Mapped[dict[str, Any]] = mapped_column(JSON)


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
