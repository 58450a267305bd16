"""The first tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _table(name: str, *columns: sa.Column[Any] | sa.Constraint) -> None:
    op.create_table(
        name,
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        *columns,
        sa.Column("created", sa.BigInteger, nullable=False),
    )


def _text(name: str, size: int, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(size), nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _of(name: str, target: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, NUMBER, sa.ForeignKey(target), nullable=nullable)


def upgrade() -> None:
    _table("tenants", _text("name", 64), sa.UniqueConstraint("name"))
    _table(
        "keys",
        _of("tenant", "tenants.number"),
        _text("prefix", 16),
        _text("hash", 64),
        _text("label", 80),
        sa.Column("scopes", sa.JSON, nullable=False),
        _text("policy", 16),
        _text("rate", 40, nullable=True),
        _number("files_a_day", nullable=True),
        sa.Column("seconds_a_day", sa.Float, nullable=True),
        _number("lineage", nullable=True),
        _number("expires", nullable=True),
        _number("revoked", nullable=True),
        sa.UniqueConstraint("prefix"),
    )
    _table(
        "jobs",
        _text("id", 40),
        _of("tenant", "tenants.number"),
        _of("key", "keys.number", nullable=True),
        _text("batch", 40, nullable=True),
        _text("name", 200),
        _number("bytes"),
        _text("media", 80),
        sa.Column("options", sa.JSON, nullable=False),
        _text("state", 16),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        _number("due"),
        _number("started", nullable=True),
        _number("ended", nullable=True),
        _text("report", 40, nullable=True),
        sa.Column("error", sa.JSON, nullable=True),
        sa.UniqueConstraint("id"),
    )
    op.create_index("jobs_in_line", "jobs", ["state", "due", "priority"])
    op.create_index("jobs_of_tenant", "jobs", ["tenant", "number"])
    op.create_index("jobs_of_batch", "jobs", ["tenant", "batch"])
    _table(
        "reports",
        _text("id", 40),
        _of("tenant", "tenants.number"),
        _of("key", "keys.number", nullable=True),
        _text("job", 40, nullable=True),
        _text("verdict", 16),
        _text("sha256", 64),
        sa.Column("document", sa.JSON, nullable=False),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("job"),
    )
    op.create_index("reports_of_tenant", "reports", ["tenant", "number"])
    _table(
        "feedback",
        _text("id", 40),
        _of("tenant", "tenants.number"),
        _of("key", "keys.number", nullable=True),
        sa.Column("report", sa.String(40), sa.ForeignKey("reports.id"), nullable=False),
        _text("ruling", 16),
        sa.Column("note", sa.Text, nullable=False),
        sa.UniqueConstraint("id"),
    )
    op.create_index("feedback_of_report", "feedback", ["report"])
    _table(
        "usage",
        _number("lineage"),
        sa.Column("day", sa.Integer, nullable=False),
        _number("files"),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.UniqueConstraint("lineage", "day", name="usage_of_a_day"),
    )
    _table(
        "repeats",
        _of("tenant", "tenants.number"),
        _number("sender"),
        _text("name", 255),
        _text("fingerprint", 64),
        sa.Column("status", sa.Integer, nullable=True),
        sa.Column("headers", sa.JSON, nullable=True),
        sa.Column("body", sa.Text, nullable=True),
        sa.UniqueConstraint("tenant", "sender", "name", name="repeats_by_name"),
    )


def downgrade() -> None:
    for name in ("repeats", "usage", "feedback", "reports", "jobs", "keys", "tenants"):
        op.drop_table(name)
