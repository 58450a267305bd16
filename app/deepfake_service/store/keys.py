"""API keys: who may ask, what for, and how much."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from limits import parse
from sqlalchemy import exists, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from deepfake.errors import SettingsError

from .database import Database
from .tables import Key, Tenant, User, now_ms

LOCAL_TENANT = "local"
"""Of those who ask without a key while there is none."""
LOCAL_LINEAGE = 0
SECRET_BYTES = 32
DAY_MS = 86_400_000
_KEY = re.compile("dfk_([0-9a-z]{10})_([0-9A-Za-z_-]{43})")
_NAME = re.compile("[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


class Scope(StrEnum):
    """What a key may do. *detect*: have media examined. *read*: see jobs and reports. *feedback*:
    rule on reports. *webhooks*: register addresses that are told of events. *admin*: see the
    measurements of the whole service.
    """

    DETECT = "detect"
    READ = "read"
    FEEDBACK = "feedback"
    WEBHOOKS = "webhooks"
    ADMIN = "admin"


class Policy(StrEnum):
    """How much of a report a key sees (see :mod:`deepfake_service.answers`)."""

    FULL = "full"
    ROUNDED = "rounded"
    VERDICT = "verdict"


class Restriction(StrEnum):
    """What an alarm did to a key, until it is resumed: it sees verdicts alone, or opens nothing."""

    VERDICT = "verdict"
    SUSPENDED = "suspended"


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What a key may ask for: ``rate`` as the package limits reads it (``60/minute``), and files
    and seconds of media a day (UTC). None is no limit.

    Raises ``SettingsError`` for a rate that is none, and for less than nothing.
    """

    rate: str | None = None
    files_a_day: int | None = None
    seconds_a_day: float | None = None

    @property
    def budgeted(self) -> bool:
        """Whether files are counted."""
        return self.files_a_day is not None or self.seconds_a_day is not None

    def __post_init__(self) -> None:
        if self.rate is not None:
            try:
                if len(self.rate) > 40 or parse(self.rate).amount < 1:
                    raise ValueError
            except ValueError as error:
                raise SettingsError(
                    f"rate {self.rate[:40]!r}: is none", hint="write it as 60/minute"
                ) from error
        for name in ("files_a_day", "seconds_a_day"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1e15:
                raise SettingsError(f"{name} {value}: out of range", hint="give 0 or more")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who asks. ``key`` and ``account`` are the numbers of their rows, None for those without."""

    tenant: int
    key: int | None
    account: int | None = None
    lineage: int
    shown: str
    scopes: frozenset[Scope]
    policy: Policy
    allowance: Allowance


class KeyInfo(NamedTuple):
    """What may be shown of a key. Times are milliseconds since 1970, or None."""

    prefix: str
    tenant: str
    label: str
    scopes: tuple[str, ...]
    policy: str
    allowance: Allowance
    created: int
    expires: int | None
    revoked: int | None
    restricted: str | None = None

    @property
    def state(self) -> str:
        if self.revoked is not None:
            return "revoked"
        if self.restricted == Restriction.SUSPENDED:
            return "suspended"
        return "expired" if self.expires is not None and self.expires <= now_ms() else "active"


class Keys:
    """The keys in ``database``, hashed (HMAC-SHA256) with ``secret``.

    Without that the hashes are worth nothing, and no key that was made with it is valid any more.
    """

    def __init__(self, database: Database, secret: bytes) -> None:
        self.database, self._secret = database, secret

    def create(
        self,
        *,
        tenant: str,
        label: str = "",
        scopes: frozenset[Scope] = frozenset({Scope.DETECT, Scope.READ}),
        policy: Policy = Policy.FULL,
        allowance: Allowance | None = None,
        days: float | None = None,
    ) -> str:
        """A new key of 256 random bits, which is shown this once. The tenant is made if need be.

        It is valid for ``days``, None for ever. Raises ``SettingsError`` for an odd name, no scope,
        and days that are none.
        """
        if len(label) > 80 or not label.isprintable():
            raise SettingsError("label: is no short text", hint="use up to 80 printable characters")
        if not scopes:
            raise SettingsError("scopes: none is given", hint=f"name some of {', '.join(Scope)}")
        with self.database.writing() as session:
            owner = find_tenant(session, tenant)
            row = Key(
                created=now_ms(),
                tenant=owner.number,
                label=label,
                scopes=sorted(scopes),
                policy=policy,
                **vars(allowance or Allowance()),
                lineage=None,
                expires=_expiry(days),
                revoked=None,
            )
            text = self._issue(session, row)
            row.lineage = row.number
        return text

    def rotate(self, prefix: str, *, overlap_hours: float) -> str:
        """A key that takes the place of the one with ``prefix``, which stays valid for so long.

        It has the same rights, limits and expiry. Raises ``SettingsError`` for a key that is
        unknown or no longer valid.
        """
        if not 0 <= overlap_hours <= 24 * 365:
            raise SettingsError(
                f"overlap {overlap_hours:g}: out of range", hint="give hours, from 0 to 8760"
            )
        with self.database.writing() as session:
            old = find_key(session, prefix)
            now = now_ms()
            if old.revoked is not None or (old.expires is not None and old.expires <= now):
                raise SettingsError(
                    f"key {prefix}: is no longer valid", hint="create a new one for its tenant"
                )
            row = Key(
                created=now,
                tenant=old.tenant,
                label=old.label,
                scopes=old.scopes,
                policy=old.policy,
                rate=old.rate,
                files_a_day=old.files_a_day,
                seconds_a_day=old.seconds_a_day,
                lineage=old.lineage,
                expires=old.expires,
                revoked=None,
                restricted=old.restricted,
            )
            until = now + round(overlap_hours * 3_600_000)
            old.expires = until if old.expires is None else min(until, old.expires)
            return self._issue(session, row)

    def revoke(self, prefix: str) -> None:
        """From now on the key opens nothing. Raises ``SettingsError`` for an unknown one."""
        with self.database.writing() as session:
            row = find_key(session, prefix)
            row.revoked = row.revoked or now_ms()

    def restrict(self, prefix: str, restriction: Restriction | None) -> None:
        """From now on the key is restricted so; None ends that. A suspended key does not become a
        coarse one. Raises ``SettingsError`` for an unknown one.
        """
        with self.database.writing() as session:
            row = find_key(session, prefix)
            if restriction is None or row.restricted != Restriction.SUSPENDED:
                row.restricted = restriction

    def known(self) -> list[KeyInfo]:
        """Every key, the oldest first."""
        with self.database.reading() as session:
            rows = session.execute(
                select(Key, Tenant.name)
                .join(Tenant, Tenant.number == Key.tenant)
                .order_by(Key.number)
            )
            return [
                KeyInfo(
                    row.prefix,
                    tenant,
                    row.label,
                    tuple(row.scopes),
                    row.policy,
                    _allowance(row),
                    row.created,
                    row.expires,
                    row.revoked,
                    row.restricted,
                )
                for row, tenant in rows
            ]

    def any_active(self) -> bool:
        """Whether there is a key that opens something now."""
        return any(key.state == "active" for key in self.known())

    def identify(self, text: str | None) -> Identity | None:
        """Who sends this key, or no key at all; None when that is nobody.

        Whoever sends none is known as long as neither a key nor an account was ever made.
        """
        if text is None:
            return self._identify_local()
        found = _KEY.fullmatch(text)
        if found is None:
            return None
        with self.database.reading() as session:
            row = session.scalar(select(Key).where(Key.prefix == found[1]))
        digest = self._hash(text)
        if row is None or not hmac.compare_digest(digest, row.hash):
            return None
        if row.revoked is not None or (row.expires is not None and row.expires <= now_ms()):
            return None
        if row.restricted == Restriction.SUSPENDED:
            return None
        coarse = row.restricted == Restriction.VERDICT
        return Identity(
            tenant=row.tenant,
            key=row.number,
            lineage=row.lineage or row.number,
            shown=row.prefix,
            scopes=frozenset(map(Scope, row.scopes)),
            policy=Policy.VERDICT if coarse else Policy(row.policy),
            allowance=_allowance(row),
        )

    def _identify_local(self) -> Identity | None:
        made = or_(exists(select(Key.number)), exists(select(User.number)))
        local = select(Tenant.number).where(Tenant.name == LOCAL_TENANT).scalar_subquery()
        with self.database.reading() as session:
            known, tenant = session.execute(select(made, local)).one()
        if known:
            return None
        if tenant is None:
            with self.database.writing() as session:
                tenant = find_tenant(session, LOCAL_TENANT).number
        return Identity(
            tenant=tenant,
            key=None,
            lineage=LOCAL_LINEAGE,
            shown=LOCAL_TENANT,
            scopes=frozenset(Scope),
            policy=Policy.FULL,
            allowance=Allowance(),
        )

    def _issue(self, session: Session, row: Key) -> str:
        """Add a row under a prefix that is free, and the text of its key."""
        while True:
            prefix = "".join(secrets.choice(_ALPHABET) for _ in range(10))
            text = f"dfk_{prefix}_{secrets.token_urlsafe(SECRET_BYTES)}"
            row.prefix, row.hash = prefix, self._hash(text)
            try:
                with session.begin_nested():
                    session.add(row)
            except IntegrityError:
                continue
            return text

    def tenant(self, name: str) -> int:
        """The number of a tenant. Raises ``SettingsError`` for one that has no key."""
        with self.database.reading() as session:
            found = session.scalar(select(Tenant.number).where(Tenant.name == name))
        if found is None:
            raise SettingsError(
                f"tenant {name[:64]!r}: unknown", hint="deepfake keys list shows them"
            )
        return found

    def derive(self, purpose: str) -> bytes:
        """32 bytes for another purpose than to hash keys, from the same secret (HKDF-SHA256)."""
        return HKDF(SHA256(), SECRET_BYTES, salt=None, info=purpose.encode()).derive(self._secret)

    def _hash(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()


def find_tenant(session: Session, name: str) -> Tenant:
    """The tenant of this name, made if there is none. Raises ``SettingsError`` for an odd name."""
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"tenant {name[:64]!r}: is no name",
            hint="use up to 64 letters, digits, dots, hyphens and underscores",
        )
    found = session.scalar(select(Tenant).where(Tenant.name == name))
    if found is None:
        found = Tenant(name=name, created=now_ms())
        try:
            with session.begin_nested():
                session.add(found)
        except IntegrityError:  # another transaction was quicker
            found = session.scalars(select(Tenant).where(Tenant.name == name)).one()
    return found


def find_key(session: Session, prefix: str) -> Key:
    """The key with this prefix. Raises ``SettingsError`` where there is none."""
    row = session.scalar(select(Key).where(Key.prefix == prefix))
    if row is None:
        raise SettingsError(
            f"key {prefix[:16]!r}: unknown", hint="deepfake keys list shows their prefixes"
        )
    return row


def _allowance(row: Key) -> Allowance:
    return Allowance(rate=row.rate, files_a_day=row.files_a_day, seconds_a_day=row.seconds_a_day)


def _expiry(days: float | None) -> int | None:
    if days is None:
        return None
    if not 0 < days <= 36_500:
        raise SettingsError(f"days {days:g}: out of range", hint="give more than 0, up to 36500")
    return now_ms() + round(days * DAY_MS)


def read_secret(path: Path) -> bytes:
    """The secret in a file, which is made where there is none, and is whole from the first moment.

    Raises ``SettingsError`` for a file that holds something else.
    """
    if not path.exists():
        made = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(made, path)
        except FileExistsError:
            pass  # another process was quicker
        finally:
            made.unlink()
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise SettingsError(
            f"file {path}: does not hold the secret of the keys",
            hint="restore it from a backup; without it every key must be made anew",
        )
    return secret
