"""Browsers in which people have signed in."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from sqlalchemy import delete, select, update

from .database import Database
from .keys import Allowance, Identity, Policy
from .tables import User, Visit, now_ms
from .users import Role

LONGEST_MS = 12 * 3_600_000
IDLE_MS = 3_600_000
NOTED_MS = 60_000
"""How exactly it is noted when a visitor was seen, which spares a write with each request."""
MOST_OF_A_USER = 20


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """Somebody who has signed in."""

    name: str
    role: Role
    identity: Identity


class Visits:
    """What is signed in, in ``database``: tokens of 256 random bits, of which it has keyed hashes.

    A visit ends when its visitor says so, an hour after the last request, and twelve hours after it
    began; when the account is disabled or gets another password, at once.
    """

    def __init__(self, database: Database, secret: bytes) -> None:
        self._database, self._secret = database, secret

    def begin(self, account: int) -> str:
        """The token of a new visit; the oldest of very many of the same user ends."""
        token, now = secrets.token_urlsafe(32), now_ms()
        with self._database.writing() as session:
            kept = (
                select(Visit.number)
                .where(Visit.account == account)
                .order_by(Visit.number.desc())
                .limit(MOST_OF_A_USER - 1)
            )
            numbers = session.scalars(kept).all()
            session.execute(
                delete(Visit).where(Visit.account == account, Visit.number.not_in(numbers))
            )
            session.add(
                Visit(
                    created=now,
                    hash=self._hash(token),
                    account=account,
                    seen=now,
                    expires=now + LONGEST_MS,
                )
            )
        return token

    def identify(self, token: str | None) -> Visitor | None:
        """Whose visit this is; None when it is nobody's, or is over."""
        if not token or len(token) > 100:
            return None
        now = now_ms()
        with self._database.reading() as session:
            found = session.execute(
                select(Visit, User)
                .join(User, User.number == Visit.account)
                .where(Visit.hash == self._hash(token), User.disabled.is_(None))
            ).first()
        if found is None:
            return None
        visit, user = found
        if visit.expires <= now or visit.seen + IDLE_MS <= now:
            return None
        if now - visit.seen > NOTED_MS:
            with self._database.writing() as session:
                session.execute(update(Visit).where(Visit.number == visit.number).values(seen=now))
        role = Role(user.role)
        return Visitor(
            name=user.name,
            role=role,
            identity=Identity(
                tenant=user.tenant,
                key=None,
                account=user.number,
                lineage=-user.number,
                shown=f"user-{user.number}",
                scopes=role.scopes,
                policy=Policy.FULL,
                allowance=Allowance(),
            ),
        )

    def end(self, token: str) -> None:
        with self._database.writing() as session:
            session.execute(delete(Visit).where(Visit.hash == self._hash(token)))

    def forget(self) -> None:
        """Delete visits that are over."""
        now = now_ms()
        with self._database.writing() as session:
            session.execute(
                delete(Visit).where((Visit.expires <= now) | (Visit.seen + IDLE_MS <= now))
            )

    def _hash(self, token: str) -> str:
        return hmac.new(self._secret, token.encode(errors="replace"), hashlib.sha256).hexdigest()
