"""A key for each tenant, and columns of the database that are sealed with it.

Whatever writes or reads a row of ``SEALED`` through the ORM sees its text; the database holds what
is sealed. Without the row of a tenant's key nothing of that tenant can be opened any more, wherever
copies of it may lie.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from typing import Any

from sqlalchemy import Connection, event, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, object_session
from sqlalchemy.orm.attributes import set_committed_value

from deepfake.errors import ServiceError

from ..sealing import KEY_BYTES, Unopened, seal, unseal
from ..store.database import Database
from ..store.tables import Case, Delivery, Job, Repeat, StoredReport, TenantKey, now_ms
from .master import Wrapper

SEALED: dict[type[Any], tuple[str, ...]] = {
    StoredReport: ("document",),
    Repeat: ("body",),
    Job: ("name", "error"),
    Case: ("name",),
    Delivery: ("body",),
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
        """The key of a tenant. Raises :class:`Unopened` where it was erased, or was never made, and
        another ``ServiceError`` where it cannot be had now.
        """
        query = select(TenantKey.wrapped).where(TenantKey.tenant == tenant)
        wrapped = connection.scalar(query)
        if wrapped is None:
            raise Unopened(
                "sealed data: its key was erased", hint="it cannot be brought back", status=500
            )
        if wrapped not in self._known:
            key = self._unwrap(wrapped, tenant)
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

    def _unwrap(self, wrapped: str, tenant: int) -> bytes:
        """What fails here says nothing of what the key has sealed, and is no :class:`Unopened`."""
        try:
            return self._wrapper.unwrap(base64.b64decode(wrapped), _context(tenant))
        except Unopened as error:
            raise ServiceError(
                "sealed data: its key was wrapped by another master key",
                hint="give the master key that it was wrapped by",
                status=500,
            ) from error
        except ServiceError:
            raise
        except Exception as error:
            raise ServiceError(
                f"sealed data: its key cannot be unwrapped ({type(error).__name__})",
                hint="see to the key management service",
                status=503,
            ) from error


def _context(tenant: int) -> bytes:
    return f"tenant {tenant}".encode()


def _place(row: Any, column: str) -> bytes:
    """Where a value belongs: its table, tenant and row, and its column where that is a further one
    of the row.
    """
    match row:
        case Repeat():
            name = f"{row.sender} {row.name}"
        case Case():
            name = row.report
        case _:
            name = row.id
    further = "" if column == SEALED[type(row)][0] else f" {column}"
    return f"{row.__tablename__} {row.tenant} {name}{further}".encode()


def _seal_row(mapper: Any, connection: Connection, row: Any) -> None:
    session, plain = object_session(row), {it: getattr(row, it) for it in SEALED[type(row)]}
    if session is None or _RING not in session.info:
        return
    for column, value in plain.items():
        if value is not None:
            text = json.dumps(value, ensure_ascii=False).encode()
            key = _key_of(session, connection, row.tenant, make=True)
            sealed = seal(text, key=key, context=_place(row, column))
            setattr(row, column, _MARK + base64.b64encode(sealed).decode())
    row.__dict__["_plain"] = plain


def _restore_row(mapper: Any, connection: Connection, row: Any) -> None:
    for column, value in row.__dict__.pop("_plain", {}).items():
        set_committed_value(row, column, value)


def _open_row(row: Any, *context: Any) -> None:
    session = object_session(row)
    for column in SEALED[type(row)]:
        value = row.__dict__.get(column)
        if not isinstance(value, str) or not value.startswith(_MARK) or session is None:
            continue
        if _RING not in session.info:
            raise ServiceError("sealed data: there is no key here", status=500)
        key = _key_of(session, session.connection(), row.tenant)
        try:
            sealed = base64.b64decode(value.removeprefix(_MARK))
        except binascii.Error:
            sealed = b""  # which does not open
        text = unseal(sealed, key=key, context=_place(row, column))
        set_committed_value(row, column, json.loads(text))


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
