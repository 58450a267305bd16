"""Names of files that are sealed, whose columns are longer, and drift that several processes watch.

Names and messages that are there already stay as they are until their rows are deleted.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "names"
down_revision = "0002_jobs"

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    short, long = sa.String(200), sa.Text()
    with op.batch_alter_table("jobs") as jobs:
        jobs.alter_column("name", existing_type=short, type_=long, existing_nullable=False)
    with op.batch_alter_table("cases") as cases:
        cases.alter_column("name", existing_type=short, type_=long, existing_nullable=False)
        cases.drop_column("words")
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.add_column(sa.Column("tenant", NUMBER, nullable=True))
        deliveries.create_foreign_key("deliveries_of_tenant", "tenants", ["tenant"], ["number"])
    op.execute(
        "UPDATE deliveries SET tenant = "
        "(SELECT tenant FROM webhooks WHERE webhooks.number = deliveries.webhook)"
    )
    with op.batch_alter_table("drift_streams") as streams:
        streams.add_column(sa.Column("place", sa.String(40), nullable=False, server_default=""))
        streams.drop_constraint("drift_streams_by_kind", type_="unique")
        streams.create_unique_constraint("drift_streams_by_kind", ["tenant", "kind", "place"])


def downgrade() -> None:
    """Names that are sealed stay so, and are not read by a release before."""
    op.execute("DELETE FROM drift_streams WHERE place != ''")
    with op.batch_alter_table("drift_streams") as streams:
        streams.drop_constraint("drift_streams_by_kind", type_="unique")
        streams.drop_column("place")
        streams.create_unique_constraint("drift_streams_by_kind", ["tenant", "kind"])
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.drop_constraint("deliveries_of_tenant", type_="foreignkey")
        deliveries.drop_column("tenant")
    with op.batch_alter_table("cases") as cases:
        cases.add_column(sa.Column("words", sa.Text(), nullable=False, server_default=""))
