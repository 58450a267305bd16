"""Accounts of people: who they are, their passwords, and how many wrong ones are borne."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
import threading
import unicodedata
from enum import StrEnum
from typing import NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from deepfake.errors import ServiceError, SettingsError
from deepfake.reasons import Code

from .database import Database
from .keys import DAY_MS, Scope, find_tenant
from .tables import Failure, Tenant, User, Visit, now_ms

LEAST_CHARACTERS, MOST_CHARACTERS = 12, 256
FREE_ATTEMPTS = 4
LONGEST_PAUSE_MS = 900_000
HASHED_AT_ONCE, HASH_SECONDS = 2, 10.0
_NAME = re.compile("[0-9a-z][0-9a-z.@_+-]{0,253}")


class Role(StrEnum):
    """What somebody may do, each also what those before may."""

    READER = "reader"
    EXAMINER = "examiner"
    MODERATOR = "moderator"
    ADMIN = "admin"

    @property
    def scopes(self) -> frozenset[Scope]:
        steps = (Scope.READ, Scope.DETECT, Scope.FEEDBACK, Scope.ADMIN)
        return frozenset(steps[: list(Role).index(self) + 1])


class UserInfo(NamedTuple):
    """What may be shown of an account. ``disabled`` is in milliseconds since 1970, or None."""

    name: str
    tenant: str
    role: str
    openid: bool
    created: int
    disabled: int | None


class Users:
    """The accounts in ``database``.

    Passwords are hashed with argon2id (RFC 9106, second recommended option). Names are told alike
    whether they are known or not: in what is answered, in how long it takes, and in the pauses
    after wrong passwords, which double from one second to a quarter of an hour.
    """

    def __init__(self, database: Database, secret: bytes) -> None:
        self._database, self._secret = database, secret
        self._hasher = PasswordHasher()
        self._at_once = threading.BoundedSemaphore(HASHED_AT_ONCE)
        self._nobody = self._hasher.hash(secrets.token_hex())

    def add(self, name: str, *, tenant: str, role: Role, password: str | None) -> None:
        """Make an account; without a password it is one of the provider of OpenID Connect, which
        calls it by its e-mail address. Raises ``SettingsError``.
        """
        name = fold(name)
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"user {name[:64]!r}: is no name",
                hint="use an e-mail address, or letters, digits, dots and hyphens",
            )
        hashed = None if password is None else self._hash_new(name, password)
        try:
            with self._database.writing() as session:
                session.add(
                    User(
                        created=now_ms(),
                        name=name,
                        tenant=find_tenant(session, tenant).number,
                        role=role,
                        password=hashed,
                    )
                )
        except IntegrityError as error:
            raise SettingsError(
                f"user {name!r}: there is one already", hint="choose another name"
            ) from error

    def set_password(self, name: str, password: str) -> None:
        """Replace a password, and end what is signed in with the old one; an account that was
        disabled may sign in again. Raises ``SettingsError``.
        """
        name = fold(name)
        hashed = self._hash_new(name, password)
        with self._database.writing() as session:
            user = _find(session, name)
            user.password, user.subject, user.disabled = hashed, None, None
            _end_visits(session, user)
            session.execute(delete(Failure).where(Failure.hash == self._digest(name)))

    def disable(self, name: str) -> None:
        """From now on nobody is signed in as this user. Raises ``SettingsError``."""
        with self._database.writing() as session:
            user = _find(session, fold(name))
            user.disabled = user.disabled or now_ms()
            _end_visits(session, user)

    def known(self) -> list[UserInfo]:
        """Every account, the oldest first."""
        with self._database.reading() as session:
            rows = session.execute(
                select(User, Tenant.name)
                .join(Tenant, Tenant.number == User.tenant)
                .order_by(User.number)
            )
            return [
                UserInfo(
                    user.name, tenant, user.role, user.password is None, user.created, user.disabled
                )
                for user, tenant in rows
            ]

    def any(self) -> bool:
        """Whether an account was ever made."""
        with self._database.reading() as session:
            return session.scalar(select(User.number).limit(1)) is not None

    def any_active(self) -> bool:
        """Whether there is an account that somebody can sign in with now."""
        with self._database.reading() as session:
            active = select(User.number).where(User.disabled.is_(None)).limit(1)
            return session.scalar(active) is not None

    def sign_in(self, name: str, password: str) -> int:
        """The number of the account that a name and a password open.

        Raises ``ServiceError``: ``wrong_password`` (401), ``paused`` (429) after too many of them,
        ``busy`` (503).
        """
        name = fold(name)
        self._count_attempt(name)
        with self._database.reading() as session:
            user = session.scalar(select(User).where(User.name == name, User.disabled.is_(None)))
        hashed = self._nobody if user is None or user.password is None else user.password
        right = self._verify(hashed, password)
        if not right or user is None or user.password is None:
            raise ServiceError(
                "sign-in: the name or the password is wrong",
                code=Code.WRONG_PASSWORD,
                hint="try again",
                status=401,
            )
        with self._database.writing() as session:
            session.execute(delete(Failure).where(Failure.hash == self._digest(name)))
            if self._hasher.check_needs_rehash(hashed):
                new = self._hash_new(name, password)
                session.execute(update(User).where(User.number == user.number).values(password=new))
        return user.number

    def sign_in_openid(self, *, subject: str, email: str | None) -> int:
        """The number of the account of a subject of the provider; the first time it is found by the
        ``email``, which the provider has verified. Raises ``ServiceError`` (401) for nobody.
        """
        with self._database.writing() as session:
            user = session.scalar(select(User).where(User.subject == subject))
            if user is None and email is not None:
                user = session.scalar(
                    select(User).where(
                        User.name == fold(email), User.password.is_(None), User.subject.is_(None)
                    )
                )
                if user is not None:
                    user.subject = subject
            if user is None or user.disabled is not None or len(subject) > 255:
                raise ServiceError(
                    "sign-in: there is no account here for whom the provider names",
                    code=Code.WRONG_PASSWORD,
                    hint="ask whoever runs the service for one",
                    status=401,
                )
            return user.number

    def forget(self) -> None:
        """Delete wrong passwords that are older than a day."""
        with self._database.writing() as session:
            session.execute(delete(Failure).where(Failure.until < now_ms() - DAY_MS))

    def _count_attempt(self, name: str) -> None:
        """Count an attempt as a failure until it was none, so that many at once are no way past."""
        now, digest = now_ms(), self._digest(name)
        with contextlib.suppress(IntegrityError), self._database.writing() as session:
            session.add(Failure(created=now, hash=digest, count=0, until=now))
        with self._database.writing() as session:
            found = select(Failure).where(Failure.hash == digest).with_for_update()
            row = session.scalars(found).one()
            left = min(row.until - now, LONGEST_PAUSE_MS)  # whatever the clock did
            if left > 0:
                raise ServiceError(
                    "sign-in: there were too many wrong passwords for this name",
                    code=Code.PAUSED,
                    hint=f"wait {-(-left // 1000)} s",
                    status=429,
                    retry_seconds=left / 1000,
                )
            row.count += 1
            row.until = now + pause_ms(row.count)

    def _hash_new(self, name: str, password: str) -> str:
        text = _normalise(password)
        if not LEAST_CHARACTERS <= len(text) <= MOST_CHARACTERS or text.casefold() == name:
            raise SettingsError(
                "password: cannot be used",
                hint=f"choose {LEAST_CHARACTERS} to {MOST_CHARACTERS} characters, not the name",
            )
        return self._hasher.hash(text)

    def _verify(self, hashed: str, password: str) -> bool:
        text = _normalise(password[: MOST_CHARACTERS + 1])
        if not self._at_once.acquire(timeout=HASH_SECONDS):
            raise ServiceError(
                "service: too many sign in at once",
                code=Code.BUSY,
                hint="try again a little later",
                status=503,
                retry_seconds=5,
            )
        try:
            return self._hasher.verify(hashed, text)
        except (VerificationError, InvalidHashError):
            return False
        finally:
            self._at_once.release()

    def _digest(self, name: str) -> str:
        return hmac.new(self._secret, name.encode(errors="replace"), hashlib.sha256).hexdigest()


def pause_ms(count: int) -> int:
    """How long nobody is asked after so many wrong passwords in a row."""
    if count <= FREE_ATTEMPTS:
        return 0
    pause: int = 1000 * 2 ** min(count - FREE_ATTEMPTS - 1, 20)
    return min(LONGEST_PAUSE_MS, pause)


def fold(name: str) -> str:
    """A name as it is stored: case and the form of its letters tell nobody apart."""
    return unicodedata.normalize("NFKC", name.strip()[:300]).casefold()


def _normalise(password: str) -> str:
    """The same password from every keyboard (NIST SP 800-63B-4, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password.encode(errors="replace").decode())


def _find(session: Session, name: str) -> User:
    user = session.scalar(select(User).where(User.name == name))
    if user is None:
        raise SettingsError(f"user {name[:64]!r}: unknown", hint="deepfake users list shows them")
    return user


def _end_visits(session: Session, user: User) -> None:
    session.execute(delete(Visit).where(Visit.account == user.number))
