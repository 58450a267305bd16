"""One database: connections, transactions, and its tables as they should be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, Select, create_engine, event, func, make_url, select, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, TimeoutError
from sqlalchemy.orm import Session

from deepfake.errors import ServiceError, SettingsError
from deepfake.reasons import Code

from .tables import now_ms

MIGRATIONS = Path(__file__).parent.parent / "migrations"
RETRY_SECONDS = 5
BUSY_SECONDS = 10.0
Taken = TypeVar("Taken")
PUT_OFF_MS = 300_000
"""How long a row in line waits whose seal cannot be opened now."""
CONNECTIONS = 20
POSTGRESQL = "postgresql"
MIGRATION_LOCK = 0x0DEE9FA4E
_CLOCK = text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)")
_WRITES = "deepfake_writes"


class Database:
    """The database at a URL of SQLAlchemy; safe to share between threads.

    SQLite keeps a write-ahead log, so that nobody who reads waits for somebody who writes, and a
    transaction that has ended survives a loss of power. It has one writer at a time; one that may
    not begin within ``busy_seconds`` fails as below.

    Every method raises ``ServiceError``: ``database`` (503) when the database does not answer, or
    its disk is full; ``bad_request`` (422) for what it cannot keep, such as U+0000 in PostgreSQL.
    """

    def __init__(self, url: URL | str, *, busy_seconds: float | None = None) -> None:
        busy_seconds = BUSY_SECONDS if busy_seconds is None else busy_seconds
        self._engine = create_engine(
            _with_driver(make_url(url)),
            pool_size=CONNECTIONS,
            max_overflow=CONNECTIONS,
            pool_timeout=busy_seconds,
            pool_pre_ping=True,
        )
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _prepare(busy_seconds))
            event.listen(self._engine, "begin", _begin)
        self.info: dict[str, Any] = {}
        """What every session has as its ``info``."""
        self.shared = self._engine.dialect.name == POSTGRESQL
        self._writer = self._engine.execution_options(**{_WRITES: True})

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that changes nothing."""
        with _translated(), Session(self._engine, info=self.info) as session:
            yield session

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that is committed at the end of the block, or undone when it raises."""
        with (
            _translated(),
            Session(self._writer, expire_on_commit=False, info=self.info) as session,
            session.begin(),
        ):
            yield session

    def take(
        self,
        first: Callable[[int], Select[int]],
        start: Callable[[Session, int, int], Taken],
        put_aside: Callable[[int, ServiceError], None],
    ) -> Taken | None:
        """What ``start`` makes of the row that ``first`` selects at a moment (ms), by its number
        and that moment, in one transaction that nobody else takes it in; None where there is none.

        One that cannot be opened holds up no other: it is ``put_aside`` with the error.
        """
        while True:
            number = None
            try:
                with self._taking(first) as taken:
                    if taken is None:
                        return None
                    session, number, now = taken
                    return start(session, number, now)
            except ServiceError as error:
                if number is None or error.code == Code.DATABASE:
                    raise
                put_aside(number, error)

    @contextlib.contextmanager
    def _taking(
        self, first: Callable[[int], Select[int]]
    ) -> Iterator[tuple[Session, int, int] | None]:
        """A transaction as that of :meth:`writing`, the number of the row that ``first`` selects at
        a moment (ms) and that nobody else is taking, and that moment; None where there is no row,
        which is found out without keeping anybody from writing.
        """
        with self.reading() as session:
            waiting = session.scalar(first(moment(session))) is not None
        if not waiting:
            yield None
            return
        with self.writing() as session:
            now = moment(session)
            number = session.scalar(first(now).with_for_update(skip_locked=True))
            yield None if number is None else (session, number, now)

    def migrate(self) -> None:
        """Bring the tables to their present form; those of a newer release are left alone."""
        with _translated(), self._writer.begin() as connection:
            if connection.dialect.name == POSTGRESQL:  # several processes may start at once
                connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            command.upgrade(_alembic(connection), "head")

    def check(self) -> None:
        """Return when the database answers."""
        with self.reading() as session:
            session.execute(text("SELECT 1"))

    def scrub(self) -> None:
        """Leave nothing of rows that were deleted: rewrite the write-ahead log of SQLite, whose
        pages are overwritten as rows are deleted. Of PostgreSQL, ``VACUUM FULL`` is the operator's.
        """
        if self._engine.dialect.name == "sqlite":
            with _translated(), self._engine.connect() as connection:
                connection.connection.driver_connection.execute(  # type: ignore[union-attr]
                    "PRAGMA wal_checkpoint(TRUNCATE)"
                ).close()

    def close(self) -> None:
        self._engine.dispose()


def moment(session: Session) -> int:
    """The time of the database, which all machines share; of SQLite that is this machine's."""
    if session.get_bind().dialect.name != POSTGRESQL:
        return now_ms()
    return int(session.scalar(_CLOCK) or 0)


def require_shared(url: URL) -> None:
    """Raise ``SettingsError`` for a database that processes of several machines cannot use."""
    name = url.get_backend_name()
    if name != POSTGRESQL:
        raise SettingsError(f"database {name!r}: is not supported", hint="use postgresql://…")


def _with_driver(url: URL) -> URL:
    """The URL with the driver that the extra brings, whatever short form it has."""
    shared = url.get_backend_name() == POSTGRESQL
    return url.set(drivername=f"{POSTGRESQL}+psycopg") if shared else url


def _alembic(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _prepare(busy_seconds: float) -> Any:
    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # transactions begin in ``_begin``
        for pragma in (
            f"busy_timeout={round(busy_seconds * 1000)}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "secure_delete=ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    return prepare


def _begin(connection: Connection) -> None:
    """One that will write says so at once: to find out later that another does is an error."""
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except DataError as error:
        raise ServiceError(
            "request: holds a character or a number that the database cannot keep",
            hint="leave out characters that are none, such as U+0000",
            status=422,
        ) from error
    except (DBAPIError, TimeoutError) as error:
        raise ServiceError(
            "database: does not answer",
            code=Code.DATABASE,
            hint="try again later",
            status=503,
            retry_seconds=RETRY_SECONDS,
        ) from error
