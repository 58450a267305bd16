"""Keys that an alarm restricted, and reports that an incident revised."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "registry"
down_revision = "known"

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("keys", sa.Column("restricted", sa.String(16), nullable=True))
    op.create_table(
        "revisions",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("report", sa.String(40), sa.ForeignKey("reports.id"), nullable=False),
        sa.Column("revised", sa.String(40), sa.ForeignKey("reports.id"), nullable=False),
        sa.Column("incident", sa.String(40), nullable=False),
    )
    op.create_index("revisions_of_report", "revisions", ["report"])
