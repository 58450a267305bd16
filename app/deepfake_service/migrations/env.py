"""What Alembic runs to change the tables, over the connection that it is given."""

from __future__ import annotations

from alembic import context
from deepfake_service.store.tables import Table

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Table.metadata
)
with context.begin_transaction():
    context.run_migrations()
