"""Streams that are watched for drift, keys of tenants, kept media and how long they are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "watch"
down_revision = "registry"

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _tenant(*, unique: bool = False) -> sa.Column[int]:
    return sa.Column(
        "tenant", NUMBER, sa.ForeignKey("tenants.number"), nullable=False, unique=unique
    )


def _head() -> tuple[sa.Column[int], sa.Column[int]]:
    return (
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("created", sa.BigInteger, nullable=False),
    )


def upgrade() -> None:
    op.add_column(
        "tenants",
        sa.Column("retention", sa.String(20), nullable=False, server_default="none"),
    )
    op.create_table(
        "drift_streams",
        *_head(),
        _tenant(),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.UniqueConstraint("tenant", "kind", name="drift_streams_by_kind"),
    )
    op.create_table(
        "tenant_keys",
        *_head(),
        _tenant(unique=True),
        sa.Column("wrapped", sa.Text, nullable=False),
    )
    op.create_table(
        "kept_media",
        *_head(),
        _tenant(),
        sa.Column(
            "report", sa.String(40), sa.ForeignKey("reports.id"), nullable=False, unique=True
        ),
        sa.Column("place", sa.String(120), nullable=False),
        sa.Column("until", sa.BigInteger, nullable=True),
    )


def downgrade() -> None:
    for name in ("kept_media", "tenant_keys", "drift_streams"):
        op.drop_table(name)
    op.drop_column("tenants", "retention")
