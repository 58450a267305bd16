"""The sha256 of the file of each job. Of those that are there already it is not known."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "digests"
down_revision = "names"


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("sha256", sa.String(64), nullable=True))
        jobs.create_index("jobs_of_file", ["sha256"])


def downgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_index("jobs_of_file")
        jobs.drop_column("sha256")
