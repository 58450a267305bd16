"""Known media of each tenant, and alarms of the watch over queries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "known"
down_revision = "0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "known",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("tenant", NUMBER, sa.ForeignKey("tenants.number"), nullable=False),
        sa.Column("report", sa.String(40), nullable=False),
        sa.Column("ruled", sa.String(16), nullable=False),
        sa.Column("ruled_by", sa.String(80), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.JSON, nullable=True),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("report", name="known_by_report"),
    )
    op.create_index("known_of_tenant", "known", ["tenant", "number"])
    op.create_table(
        "alarms",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("tenant", NUMBER, sa.ForeignKey("tenants.number"), nullable=False),
        sa.Column("lineage", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("files", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_index("alarms_in_force", "alarms", ["lineage", "until"])


def downgrade() -> None:
    op.drop_table("alarms")
    op.drop_table("known")
