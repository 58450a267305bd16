"""A key for each tenant, and columns of the database that are sealed with it.

Whatever writes or reads a row of ``SEALED`` through the ORM sees its text; the database holds what
is sealed. Without the row of a tenant's key nothing of that tenant can be opened any more, wherever
copies of it may lie.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any

from sqlalchemy import Connection, event, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, object_session
from sqlalchemy.orm.attributes import set_committed_value

from deepfake.errors import ServiceError

from ..store.database import Database
from ..store.tables import Case, Delivery, Job, Repeat, StoredReport, TenantKey, now_ms
from .master import Wrapper
from .sealing import KEY_BYTES, Unopened, seal, unseal

SEALED: dict[type[Any], str] = {
    StoredReport: "document",
    Repeat: "body",
    Job: "name",
    Case: "name",
    Delivery: "body",
}
_RING, _USED, _MARK = "keyring", "keys in use", "sealed:1:"


class Keyring:
    """The keys of tenants in ``database``, wrapped by ``wrapper``; safe to share between threads.

    From now on the sealed columns of this database are sealed and opened with them.
    """

    def __init__(self, database: Database, wrapper: Wrapper) -> None:
        self._wrapper = wrapper
        self._known: dict[str, bytes] = {}
        database.info[_RING] = self

    @staticmethod
    def of(database: Database) -> Keyring:
        """The keys of a database that has them."""
        ring: Keyring = database.info[_RING]
        return ring

    def find(self, connection: Connection, tenant: int) -> bytes:
        """The key of a tenant. Raises :class:`Unopened` where it was erased, or was never made."""
        query = select(TenantKey.wrapped).where(TenantKey.tenant == tenant)
        wrapped = connection.scalar(query)
        if wrapped is None:
            raise Unopened(
                "sealed data: its key was erased", hint="it cannot be brought back", status=500
            )
        if wrapped not in self._known:
            key = self._wrapper.unwrap(base64.b64decode(wrapped), _context(tenant))
            self._known = {**self._known, wrapped: key}
        return self._known[wrapped]

    def make(self, connection: Connection, tenant: int) -> bytes:
        """The key of a tenant, made where there is none, in a transaction that writes."""
        query = select(TenantKey.number).where(TenantKey.tenant == tenant).with_for_update()
        if connection.scalar(query) is None:
            wrapped = self._wrapper.wrap(os.urandom(KEY_BYTES), _context(tenant))
            values = {"tenant": tenant, "wrapped": base64.b64encode(wrapped).decode()}
            try:
                with connection.begin_nested():
                    connection.execute(insert(TenantKey).values(created=now_ms(), **values))
            except IntegrityError:
                pass  # another transaction was quicker
        return self.find(connection, tenant)


def _context(tenant: int) -> bytes:
    return f"tenant {tenant}".encode()


def _place(row: Any) -> bytes:
    """Where a value belongs: its table, tenant and row."""
    match row:
        case Repeat():
            name = f"{row.sender} {row.name}"
        case Case():
            name = row.report
        case _:
            name = row.id
    return f"{row.__tablename__} {row.tenant} {name}".encode()


def _seal_row(mapper: Any, connection: Connection, row: Any) -> None:
    session, column = object_session(row), SEALED[type(row)]
    value = getattr(row, column)
    if session is None or _RING not in session.info or value is None:
        return
    text = json.dumps(value, ensure_ascii=False).encode()
    key = _key_of(session, connection, row.tenant, make=True)
    sealed = seal(text, key=key, context=_place(row))
    row.__dict__["_text"] = value
    setattr(row, column, _MARK + base64.b64encode(sealed).decode())


def _restore_row(mapper: Any, connection: Connection, row: Any) -> None:
    if "_text" in row.__dict__:
        set_committed_value(row, SEALED[type(row)], row.__dict__.pop("_text"))


def _open_row(row: Any, *context: Any) -> None:
    column = SEALED[type(row)]
    value = row.__dict__.get(column)
    session = object_session(row)
    if not isinstance(value, str) or not value.startswith(_MARK) or session is None:
        return
    if _RING not in session.info:
        raise ServiceError("sealed data: there is no key here", status=500)
    key = _key_of(session, session.connection(), row.tenant)
    sealed = base64.b64decode(value.removeprefix(_MARK))
    set_committed_value(row, column, json.loads(unseal(sealed, key=key, context=_place(row))))


def _key_of(session: Session, connection: Connection, tenant: int, *, make: bool = False) -> bytes:
    """The key of a tenant, which a session, that is one transaction, asks for once."""
    used: dict[int, bytes] = session.info.setdefault(_USED, {})
    if tenant not in used:
        ring: Keyring = session.info[_RING]
        used[tenant] = (ring.make if make else ring.find)(connection, tenant)
    return used[tenant]


for table in SEALED:
    for moment in ("before_insert", "before_update"):
        event.listen(table, moment, _seal_row)
    for moment in ("after_insert", "after_update"):
        event.listen(table, moment, _restore_row)
    for moment in ("load", "refresh"):
        event.listen(table, moment, _open_row)
