"""Requests that are sent again under the same Idempotency-Key get the answer of the first.

After the IETF draft of the ``Idempotency-Key`` header field (httpapi, 07).
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.exc import IntegrityError

from deepfake.errors import ServiceError
from deepfake.reasons import Code

from .database import Database
from .keys import Identity
from .tables import Repeat, now_ms

RETRY_SECONDS = 1
STALE_MS = 3_600_000
"""After which the first request is given up for lost."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


class Repeats:
    """The answers in ``database``, which :meth:`Reports.forget` deletes after a day.

    A key belongs to whoever sends it: two lineages of API keys may use the same. ``server`` is the
    name of this server among those that share the database.
    """

    def __init__(self, database: Database, server: str = "") -> None:
        self._database, self._server = database, server

    def begin(self, identity: Identity, name: str, *, fingerprint: str) -> Answer | None:
        """The answer that the request had before; None when it is the first, which must then be
        ended with :meth:`keep` or :meth:`drop`.

        Raises ``ServiceError`` (``repeated``): 409 while the first is in work, 422 when it asked
        for something else.
        """
        ours = self._ours(identity, name)
        stale = Repeat.status.is_(None), Repeat.created < now_ms() - STALE_MS
        try:
            with self._database.writing() as session:
                session.execute(delete(Repeat).where(*ours, *stale))
                session.add(
                    Repeat(
                        created=now_ms(),
                        tenant=identity.tenant,
                        sender=identity.lineage,
                        name=name,
                        fingerprint=fingerprint,
                        server=self._server,
                    )
                )
        except IntegrityError:
            pass
        else:
            return None
        with self._database.reading() as session:
            row = session.scalar(select(Repeat).where(*ours))
        if row is not None and row.fingerprint != fingerprint:
            raise ServiceError(
                "Idempotency-Key: stands for another request",
                code=Code.REPEATED,
                hint="send a new one with every new request",
                status=422,
            )
        if row is None or row.status is None:
            raise ServiceError(
                "Idempotency-Key: the first request is still in work",
                code=Code.REPEATED,
                hint="send it again a little later",
                status=409,
                retry_seconds=RETRY_SECONDS,
            )
        return Answer(row.status, row.headers or {}, row.body or "")

    def keep(self, identity: Identity, name: str, answer: Answer) -> None:
        """Note the answer of the first request."""
        with self._database.writing() as session:
            row = session.scalar(select(Repeat).where(*self._ours(identity, name)))
            if row is not None:
                row.status, row.headers, row.body = answer

    def drop(self, identity: Identity, name: str) -> None:
        """Forget a request that failed, so that it can be sent again."""
        with self._database.writing() as session:
            session.execute(delete(Repeat).where(*self._ours(identity, name)))

    def recover(self) -> None:
        """Forget what a process before, of the same server, has left in work."""
        ours = Repeat.status.is_(None), Repeat.server.is_(None) | (Repeat.server == self._server)
        with self._database.writing() as session:
            session.execute(delete(Repeat).where(*ours))

    @staticmethod
    def _ours(identity: Identity, name: str) -> tuple[ColumnElement[bool], ...]:
        return (
            Repeat.tenant == identity.tenant,
            Repeat.sender == identity.lineage,
            Repeat.name == name,
        )
