"""Jobs of several machines, webhooks and their deliveries."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002_jobs"
down_revision = "cases"

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _table(name: str, *columns: sa.Column[Any] | sa.Constraint) -> None:
    op.create_table(
        name,
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        *columns,
        sa.Column("created", sa.BigInteger, nullable=False),
    )


def upgrade() -> None:
    op.add_column("jobs", sa.Column("progress", sa.Float))
    op.add_column("jobs", sa.Column("step", sa.String(80)))
    op.add_column("repeats", sa.Column("server", sa.String(40)))
    _table(
        "webhooks",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("tenant", NUMBER, sa.ForeignKey("tenants.number"), nullable=False),
        sa.Column("url", sa.String(2000), nullable=False),
        sa.Column("events", sa.JSON, nullable=False),
        sa.Column("secrets", sa.JSON, nullable=False),
        sa.Column("gone", sa.BigInteger),
        sa.UniqueConstraint("id"),
    )
    op.create_index("webhooks_of_tenant", "webhooks", ["tenant", "number"])
    _table(
        "deliveries",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("webhook", NUMBER, sa.ForeignKey("webhooks.number"), nullable=False),
        sa.Column("event", sa.String(40), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("due", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.BigInteger),
        sa.Column("status", sa.Integer),
        sa.Column("error", sa.String(200)),
        sa.UniqueConstraint("id"),
    )
    op.create_index("deliveries_in_line", "deliveries", ["state", "due"])
    op.create_index("deliveries_of_webhook", "deliveries", ["webhook", "number"])


def downgrade() -> None:
    op.drop_table("deliveries")
    op.drop_table("webhooks")
    op.drop_column("repeats", "server")
    op.drop_column("jobs", "step")
    op.drop_column("jobs", "progress")
