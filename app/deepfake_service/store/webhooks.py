"""Webhooks of tenants, and the events on their way to them.

An event is put in line in the transaction in which it happens, so that none is lost and none is
told that did not happen. It is sent at least once; its id is the same each time.
"""

from __future__ import annotations

import base64
import json
import logging
import secrets
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import Session

from deepfake.errors import ServiceError
from deepfake.reasons import Code
from deepfake.webhooks import PREFIX

from ..events import Event as Told
from ..sealing import Unopened
from .database import PUT_OFF_MS, Database, moment
from .keys import DAY_MS
from .tables import Delivery, DeliveryState, Event, Webhook, new_id, word_time

LOG = logging.getLogger("deepfake_service")
MOST_WEBHOOKS = 20
SECRET_BYTES = 32
NONCE_BYTES = 12
HOUR_MS = 3_600_000


class Sending(NamedTuple):
    """One delivery as it is tried now: what, where to, and the secrets that sign it, which are
    none where they were sealed by a service with another ``hash.key``.
    """

    delivery: Delivery
    webhook: Webhook
    secrets: list[str]


class Webhooks:
    """The webhooks in ``database``, whose secrets are sealed with ``key`` (32 bytes).

    A delivery is tried once more after each of ``pauses`` (seconds), and then is dead.
    """

    def __init__(self, database: Database, key: bytes, *, pauses: Sequence[float] = ()) -> None:
        self._database, self._sealer, self._pauses = database, AESGCM(key), tuple(pauses)

    def add(self, tenant: int, url: str, events: Collection[Event]) -> tuple[Webhook, str]:
        """A new webhook and its secret, which is shown this once.

        Raises ``ServiceError`` (``conflict``) when the tenant has as many as it may.
        """
        with self._database.writing() as session:
            count = select(func.count()).where(Webhook.tenant == tenant)
            if (session.scalar(count) or 0) >= MOST_WEBHOOKS:
                raise _conflict(f"there are {MOST_WEBHOOKS} already", "delete one first")
            id = new_id("whk")
            secret, kept = self._new_secret(id)
            row = Webhook(
                created=moment(session),
                id=id,
                tenant=tenant,
                url=url,
                events=sorted(events),
                secrets=[kept],
            )
            session.add(row)
        return row, secret

    def known(self, tenant: int) -> list[Webhook]:
        """Every webhook of a tenant, the oldest first."""
        query = select(Webhook).where(Webhook.tenant == tenant).order_by(Webhook.number)
        with self._database.reading() as session:
            return list(session.scalars(query))

    def find(self, tenant: int, id: str) -> Webhook:
        """Raises ``ServiceError`` (``nothing_here``) for one that is none of this tenant's."""
        with self._database.reading() as session:
            return _find(session, tenant, id)

    def remove(self, tenant: int, id: str) -> Webhook:
        """Delete a webhook with all its deliveries. Raises as :meth:`find`."""
        with self._database.writing() as session:
            row = _find(session, tenant, id)
            session.execute(delete(Delivery).where(Delivery.webhook == row.number))
            session.delete(row)
            return row

    def rotate(self, tenant: int, id: str, *, overlap_hours: float) -> tuple[Webhook, str]:
        """A new secret. The one before signs beside it for so long. Raises as :meth:`find`.

        A webhook that was gone is told of events again.
        """
        secret, kept = self._new_secret(id)
        with self._database.writing() as session:
            row = _find(session, tenant, id)
            now = moment(session)
            ends = now + round(overlap_hours * HOUR_MS)
            old = {**row.secrets[0], "ends": ends}
            row.secrets = [kept, *([old] if ends > now else [])]
            row.gone = None
            return row, secret

    def deliveries(
        self,
        tenant: int,
        id: str,
        *,
        state: DeliveryState | None = None,
        before: int | None = None,
        most: int,
    ) -> list[Delivery]:
        """At most so many deliveries, the newest first, from below the number ``before``.

        Raises as :meth:`find`.
        """
        with self._database.reading() as session:
            row = _find(session, tenant, id)
            query = select(Delivery).where(Delivery.webhook == row.number)
            if state is not None:
                query = query.where(Delivery.state == state)
            if before is not None:
                query = query.where(Delivery.number < before)
            return list(session.scalars(query.order_by(Delivery.number.desc()).limit(most)))

    def retry(self, tenant: int, id: str, message: str) -> Delivery:
        """Send a dead delivery again. Raises as :meth:`find`, and ``conflict`` for another one."""
        with self._database.writing() as session:
            row = _find(session, tenant, id)
            ours = Delivery.webhook == row.number, Delivery.id == message
            found = session.scalar(select(Delivery).where(*ours))
            if found is None:
                raise _nothing("message")
            if found.state != DeliveryState.DEAD:
                raise _conflict(f"the message is {found.state}", "retry dead ones")
            found.state, found.attempt, found.ended = DeliveryState.QUEUED, 0, None
            found.due = moment(session)
            return found

    def take(self, *, busy: Collection[int], lease_seconds: float) -> Sending | None:
        """The delivery whose turn it is, which must be settled within the lease; None for none.

        Those for the webhooks with numbers in ``busy`` wait, so that a slow one holds up no other;
        nor does one that cannot be opened: it is put aside.
        """

        def first(now: int) -> Select[int]:
            waiting = Delivery.state == DeliveryState.QUEUED, Delivery.due <= now
            query = select(Delivery.number).where(*waiting, Delivery.webhook.not_in(busy))
            return query.order_by(Delivery.due, Delivery.number).limit(1)

        def start(session: Session, number: int, now: int) -> Sending:
            row = session.get_one(Delivery, number)
            row.attempt += 1
            row.due = now + round(lease_seconds * 1000)
            webhook = session.get_one(Webhook, row.webhook)
            kept = [it for it in webhook.secrets if it["ends"] is None or it["ends"] > now]
            opened = [self._open(webhook.id, it["sealed"]) for it in kept]
            return Sending(row, webhook, [it for it in opened if it is not None])

        return self._database.take(first, start, self._put_aside)

    def settle(self, delivery: Delivery, *, status: int | None, error: str | None) -> None:
        """Note how a try ended: delivered where there is no ``error``, else tried again or dead.

        An address that answers 410 is gone: nothing more is sent there.
        """
        with self._database.writing() as session:
            now = moment(session)
            values: dict[str, Any] = {"status": status, "error": error and error[:200]}
            if error is None:
                values |= {"state": DeliveryState.DELIVERED, "ended": now}
            elif status == 410 or delivery.attempt > len(self._pauses):
                values |= {"state": DeliveryState.DEAD, "ended": now}
            else:
                values["due"] = now + round(self._pauses[delivery.attempt - 1] * 1000)
            ours = Delivery.number == delivery.number, Delivery.attempt == delivery.attempt
            session.execute(update(Delivery).where(*ours).values(**values))
            if status == 410:
                gone = update(Webhook).where(Webhook.number == delivery.webhook)
                session.execute(gone.values(gone=now))
                waiting = Delivery.webhook == delivery.webhook, Delivery.state == "queued"
                dead = {"state": DeliveryState.DEAD, "ended": now, "error": "the address is gone"}
                session.execute(update(Delivery).where(*waiting).values(**dead))

    def forget(self, *, keep_days: float) -> None:
        """Delete what was sent, or given up, longer ago."""
        with self._database.writing() as session:
            limit = moment(session) - round(keep_days * DAY_MS)
            session.execute(delete(Delivery).where(Delivery.ended < limit))

    def _put_aside(self, number: int, why: ServiceError) -> None:
        """End a delivery whose seal is broken; put one off whose key cannot be had now."""
        with self._database.writing() as session:
            now = moment(session)
            values = (
                {"state": DeliveryState.DEAD, "ended": now}
                if isinstance(why, Unopened)
                else {"due": now + PUT_OFF_MS}
            )
            waiting = Delivery.state == DeliveryState.QUEUED, Delivery.due <= now
            change = update(Delivery).where(Delivery.number == number, *waiting)
            change = change.values(**values, error=str(why)[:200])
            id = session.scalar(change.returning(Delivery.id))
        if id is not None:
            LOG.error("message %s: cannot be opened (%s)", id, why)

    def _new_secret(self, id: str) -> tuple[str, dict[str, Any]]:
        """A secret of 256 bits as it is shown, and as it is kept."""
        secret, nonce = secrets.token_bytes(SECRET_BYTES), secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + self._sealer.encrypt(nonce, secret, id.encode())
        return _show(secret), {"sealed": base64.b64encode(sealed).decode(), "ends": None}

    def _open(self, id: str, sealed: str) -> str | None:
        """None for a secret that was sealed with another key."""
        content = base64.b64decode(sealed)
        nonce, rest = content[:NONCE_BYTES], content[NONCE_BYTES:]
        try:
            return _show(self._sealer.decrypt(nonce, rest, id.encode()))
        except InvalidTag:
            return None


def announce_event(database: Database, told: Told) -> None:
    """Put an event of the service in line, where it is of one tenant and webhooks know it."""
    if told.tenant is not None and told.type in [*Event]:
        with database.writing() as session:
            announce(session, Event(told.type), tenant=told.tenant, data=dict(told.data))


def announce(session: Session, event: Event, *, tenant: int, data: dict[str, Any]) -> None:
    """Put an event in line for every webhook of the tenant that wants to know of it."""
    rows = session.execute(
        select(Webhook.number, Webhook.events).where(
            Webhook.tenant == tenant, Webhook.gone.is_(None)
        )
    )
    wanting = [number for number, events in rows if event in events]
    if not wanting:
        return
    now = moment(session)
    body = json.dumps({"type": event, "timestamp": word_time(now), "data": data})
    session.add_all(
        Delivery(
            created=now,
            id=new_id("msg"),
            tenant=tenant,
            webhook=number,
            event=event,
            body=body,
            state=DeliveryState.QUEUED,
            attempt=0,
            due=now,
        )
        for number in wanting
    )


def _show(secret: bytes) -> str:
    return PREFIX + base64.b64encode(secret).decode()


def _find(session: Session, tenant: int, id: str) -> Webhook:
    row = session.scalar(select(Webhook).where(Webhook.tenant == tenant, Webhook.id == id))
    if row is None:
        raise _nothing("webhook")
    return row


def _nothing(what: str) -> ServiceError:
    return ServiceError(f"{what}: there is none of this id", code=Code.NOTHING_HERE, status=404)


def _conflict(why: str, hint: str) -> ServiceError:
    return ServiceError(f"webhook: {why}", code=Code.CONFLICT, hint=hint, status=409)
