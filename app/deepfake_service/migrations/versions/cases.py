"""Accounts with what belongs to signing in, the list of cases, and thumbnails."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "cases"
down_revision = "watch"

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
AT_ONCE = 200


def _table(name: str, *columns: sa.Column[Any] | sa.Constraint) -> None:
    op.create_table(
        name,
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        *columns,
        sa.Column("created", sa.BigInteger, nullable=False),
    )


def _text(name: str, size: int, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(size), nullable=nullable)


def _of(name: str, target: str) -> sa.Column[Any]:
    return sa.Column(name, NUMBER, sa.ForeignKey(target), nullable=False)


def _of_report() -> sa.Column[Any]:
    return sa.Column("report", sa.String(40), sa.ForeignKey("reports.id"), nullable=False)


def upgrade() -> None:
    _table(
        "users",
        _text("name", 254),
        _of("tenant", "tenants.number"),
        _text("role", 16),
        _text("password", 200, nullable=True),
        _text("subject", 255, nullable=True),
        sa.Column("disabled", sa.BigInteger, nullable=True),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("subject"),
    )
    _table(
        "visits",
        _text("hash", 64),
        _of("account", "users.number"),
        sa.Column("seen", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("hash"),
    )
    op.create_index("visits_of_user", "visits", ["account"])
    _table(
        "failures",
        _text("hash", 64),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("hash"),
    )
    _table(
        "cases",
        _of_report(),
        _of("tenant", "tenants.number"),
        _text("name", 200),
        sa.Column("words", sa.Text, nullable=False),
        _text("kind", 16),
        _text("verdict", 16),
        sa.Column("probability", sa.Float, nullable=True),
        _text("sha256", 64),
        _text("ruling", 16, nullable=True),
        sa.UniqueConstraint("report"),
    )
    op.create_index("cases_of_tenant", "cases", ["tenant", "number"])
    _table(
        "thumbnails",
        _of_report(),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("report"),
    )
    with op.batch_alter_table("feedback", recreate="auto") as feedback:
        feedback.add_column(sa.Column("account", NUMBER, nullable=True))
        feedback.create_foreign_key("feedback_of_user", "users", ["account"], ["number"])
    _list_present_reports()


def _list_present_reports() -> None:
    """A case for every report that is there already."""
    connection, known = op.get_bind(), sa.MetaData()
    known.reflect(connection, only=("reports", "cases", "feedback"))
    reports, cases, feedback = (known.tables[it] for it in ("reports", "cases", "feedback"))
    document = sa.type_coerce(reports.c.document, sa.JSON).label("document")
    after = 0
    while True:
        columns = [reports.c[it] for it in ("number", "id", "tenant", "verdict", "sha256")]
        rows = connection.execute(
            sa.select(*columns, reports.c.created, document)
            .where(reports.c.number > after)
            .order_by(reports.c.number)
            .limit(AT_ONCE)
        ).all()
        if not rows:
            return
        after = rows[-1].number
        ids = [row.id for row in rows]
        ruled = connection.execute(
            sa.select(feedback.c.report, feedback.c.ruling)
            .where(feedback.c.report.in_(ids))
            .order_by(feedback.c.number)
        )
        rulings: dict[str, str] = {row.report: row.ruling for row in ruled}
        connection.execute(
            cases.insert(),
            [
                {
                    "created": row.created,
                    "report": row.id,
                    "tenant": row.tenant,
                    "name": row.document["path"][:200],
                    "words": row.document["path"][:200].casefold(),
                    "kind": row.document["media"]["kind"],
                    "verdict": row.verdict,
                    "probability": row.document["probability"],
                    "sha256": row.sha256,
                    "ruling": rulings.get(row.id),
                }
                for row in rows
            ],
        )


def downgrade() -> None:
    with op.batch_alter_table("feedback") as feedback:
        feedback.drop_constraint("feedback_of_user", type_="foreignkey")
        feedback.drop_column("account")
    for name in ("thumbnails", "cases", "failures", "visits", "users"):
        op.drop_table(name)
