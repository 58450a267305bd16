"""How much a key may ask for: its rate, and what it may have examined in a day."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import Counter
from typing import Any, NamedTuple

from limits import RateLimitItem, parse
from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import MovingWindowRateLimiter
from sqlalchemy import and_, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from deepfake.errors import ServiceError, SettingsError
from deepfake.reasons import Code

from .database import Database
from .keys import DAY_MS, Identity
from .tables import Key, Usage, now_ms

LOG = logging.getLogger("deepfake_service")


class Rate(NamedTuple):
    """How a key stands: so many requests in so many seconds, how many are left, and how long until
    there are more.
    """

    most: int
    window_seconds: int
    left: int
    reset_seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """``RateLimit`` fields (IETF draft-ietf-httpapi-ratelimit-headers-10)."""
        return {
            "RateLimit-Policy": f'"default";q={self.most};w={self.window_seconds}',
            "RateLimit": f'"default";r={self.left};t={self.reset_seconds}',
        }


class Rates:
    """Requests of each lineage of keys in a moving window, kept in memory, or in the Valkey or
    Redis at ``url``, which several servers share; while that is away, each counts for itself.

    A clock that is set back makes nobody wait longer than the window: the requests of the time
    that is no more are forgotten.

    Raises ``SettingsError`` for a URL that is none.
    """

    def __init__(self, url: str | None = None) -> None:
        self._latest, self._lock = 0.0, threading.Lock()
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._shared = None if url is None else MovingWindowRateLimiter(_open_storage(url))

    def hit(self, identity: Identity) -> tuple[bool, Rate | None]:
        """Count a request: whether it is allowed, and how the key stands; None without a limit."""
        if identity.allowance.rate is None:
            return True, None
        limit, name = parse(identity.allowance.rate), str(identity.lineage)
        if self._shared is not None:
            try:
                return _hit(self._shared, limit, name)
            except StorageError as error:
                LOG.warning("limits: are counted here alone (%s)", error)
        with self._lock:
            now = time.time()
            if now < self._latest - 1.0:
                self._limiter = MovingWindowRateLimiter(MemoryStorage())
            self._latest = now
            return _hit(self._limiter, limit, name)


def _hit(limiter: MovingWindowRateLimiter, limit: RateLimitItem, name: str) -> tuple[bool, Rate]:
    allowed = limiter.hit(limit, name)
    stats = limiter.get_window_stats(limit, name)
    reset = max(0, math.ceil(stats.reset_time - time.time()))
    return allowed, Rate(limit.amount, limit.get_expiry(), max(0, stats.remaining), reset)


def _open_storage(url: str) -> Any:
    """Opens no connection."""
    try:
        return storage_from_string(url, wrap_exceptions=True, socket_timeout=1.0)
    except ConfigurationError as error:
        raise SettingsError(
            f"limits {url.partition(':')[0]!r}: cannot be kept there ({error})",
            hint="name a server as valkey://HOST:6379, and install the package valkey",
        ) from error


class Budgets:
    """What lineages of keys have used today, in ``database``."""

    def __init__(self, database: Database) -> None:
        self._database, self._lock = database, threading.Lock()
        self._owed: Counter[int] = Counter()

    def take(self, identity: Identity, *, files: int) -> None:
        """Count files that are about to be examined.

        Raises ``ServiceError`` (``budget_spent``, 429) when there is no room for them today, or the
        seconds of media are used up; then nothing is counted.
        """
        most_files, most_seconds = (
            identity.allowance.files_a_day,
            identity.allowance.seconds_a_day,
        )
        if not identity.allowance.budgeted:
            return
        self._settle(identity.lineage)
        with self._database.writing() as session:
            usage = _today(session, identity.lineage)
            if most_files is not None and usage.files + files > most_files:
                raise _spent(f"{usage.files} of {most_files} files")
            if most_seconds is not None and usage.seconds >= most_seconds:
                raise _spent(f"{usage.seconds:.0f} of {most_seconds:g} seconds of media")
            usage.files += files

    def give_back(self, identity: Identity, *, files: int) -> None:
        """Count files no more that were not examined after all. While the database does not take
        that, it is owed until the next :meth:`take`.
        """
        if not identity.allowance.budgeted:
            return
        with self._lock:
            self._owed[identity.lineage] += files
        with contextlib.suppress(ServiceError):
            self._settle(identity.lineage)

    def _settle(self, lineage: int) -> None:
        """Give back what is owed."""
        with self._lock:
            owed = self._owed.pop(lineage, 0)
        if not owed:
            return
        try:
            with self._database.writing() as session:
                usage = _today(session, lineage)
                usage.files = max(0, usage.files - owed)
        except ServiceError:
            with self._lock:
                self._owed[lineage] += owed
            raise

    def used_today(self) -> list[Used]:
        """What keys with a budget have used of it today, by the prefix of each that is valid."""
        now = now_ms()
        query = (
            select(Key, Usage)
            .outerjoin(Usage, and_(Usage.lineage == Key.lineage, Usage.day == now // DAY_MS))
            .where(
                or_(Key.files_a_day.is_not(None), Key.seconds_a_day.is_not(None)),
                Key.revoked.is_(None),
                or_(Key.expires.is_(None), Key.expires > now),
            )
        )
        found = []
        with self._database.reading() as session:
            for key, usage in session.execute(query):
                if key.files_a_day is not None:
                    files = 0 if usage is None else usage.files
                    found.append(Used(key.prefix, "files", files, key.files_a_day))
                if key.seconds_a_day is not None:
                    seconds = 0.0 if usage is None else usage.seconds
                    found.append(Used(key.prefix, "seconds", seconds, key.seconds_a_day))
        return found


class Used(NamedTuple):
    """How much of its budget ``of`` files or seconds a key has used."""

    key: str
    of: str
    used: float
    most: float


def charge(session: Session, key: int | None, seconds: float) -> None:
    """Count the playing time of what was examined for the key of this number."""
    if key is None or not seconds > 0:
        return
    lineage = session.scalar(select(Key.lineage).where(Key.number == key))
    if lineage is not None:
        _today(session, lineage).seconds += seconds


def _today(session: Session, lineage: int) -> Usage:
    """The row of this day, locked until the transaction ends."""
    now = now_ms()
    query = (
        select(Usage).where(Usage.lineage == lineage, Usage.day == now // DAY_MS).with_for_update()
    )
    found = session.scalar(query)
    if found is not None:
        return found
    try:
        with session.begin_nested():
            session.add(
                Usage(created=now, lineage=lineage, day=now // DAY_MS, files=0, seconds=0.0)
            )
    except IntegrityError:
        pass  # another transaction was quicker
    return session.scalars(query).one()


def _spent(what: str) -> ServiceError:
    wait = (DAY_MS - now_ms() % DAY_MS) / 1000
    return ServiceError(
        f"key: has used {what} of today",
        code=Code.BUDGET_SPENT,
        hint="go on tomorrow (UTC)",
        status=429,
        retry_seconds=wait,
    )
