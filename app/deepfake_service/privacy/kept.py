"""Media that are kept after their report, sealed, as the retention class of their tenant says."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import delete, or_, select, update
from sqlalchemy.exc import IntegrityError

from deepfake.errors import ServiceError, SettingsError
from deepfake.types import Report, Verdict

from ..sealing import open_stream, seal_stream
from ..store.database import Database
from ..store.keys import DAY_MS
from ..store.tables import HOLD, KeptMedia, StoredReport, Tenant, now_ms
from .keyring import Keyring

LOG = logging.getLogger("deepfake_service")
EVIDENCE = (Verdict.SYNTHETIC, Verdict.SUSPICIOUS)
ORPHAN_SECONDS = 3600.0
_PLACE = re.compile("[0-9]+/[0-9a-f]{32}")
"""Where files lie that are kept, and nothing else that somebody may have in the same folder."""


class Class(StrEnum):
    """*none*: nothing is kept. *evidence*: what was called synthetic or suspicious, as long as its
    report. *days*: everything, so many days, but no longer than its report. *hold*: everything,
    and nothing of the tenant is deleted, until the hold is lifted.
    """

    NONE = "none"
    EVIDENCE = "evidence"
    DAYS = "days"
    HOLD = HOLD


@dataclass(frozen=True)
class Retention:
    """What is kept of the media of a tenant; ``days`` are those of the class *days*."""

    kind: Class = Class.NONE
    days: int = 0

    @classmethod
    def parse(cls, text: str) -> Retention:
        """One as ``days=30`` or the name of another class; raises ``SettingsError``."""
        if found := re.fullmatch(r"days=([0-9]{1,5})", text):
            if int(found[1]) >= 1:
                return cls(Class.DAYS, int(found[1]))
        elif text in (Class.NONE, Class.EVIDENCE, Class.HOLD):
            return cls(Class(text))
        raise SettingsError(
            f"retention {text[:40]!r}: unknown", hint="choose none, evidence, days=N or hold"
        )

    def __str__(self) -> str:
        return f"days={self.days}" if self.kind is Class.DAYS else self.kind.value

    def keeps(self, verdict: Verdict) -> bool:
        return self.kind in (Class.DAYS, Class.HOLD) or (
            self.kind is Class.EVIDENCE and verdict in EVIDENCE
        )


class Given(NamedTuple):
    """The class that a tenant has."""

    tenant: str
    retention: Retention


class KeptFiles:
    """The kept media of ``database`` in ``folder``, sealed with the keys of ``keyring``."""

    def __init__(self, database: Database, keyring: Keyring, folder: Path) -> None:
        self._database, self._keyring, self.folder = database, keyring, folder

    def classes(self) -> list[Given]:
        """The class of every tenant."""
        with self._database.reading() as session:
            rows = session.execute(select(Tenant.name, Tenant.retention).order_by(Tenant.number))
            return [Given(name, Retention.parse(text)) for name, text in rows]

    def retain(self, tenant: str, retention: Retention) -> None:
        """Give a tenant a class; what is kept already stays until it would have been deleted.

        Raises ``SettingsError`` for one that is unknown.
        """
        with self._database.writing() as session:
            change = update(Tenant).where(Tenant.name == tenant).values(retention=str(retention))
            if session.scalar(change.returning(Tenant.number)) is None:
                raise no_tenant(tenant)

    def keep(self, tenant: int, id: str, report: Report, path: Path) -> bool:
        """Keep the file of a report where the class of its tenant wants it; whether it is kept.

        That the disk is full or the database away is told to the log; the report stands.
        """
        try:
            with self._database.reading() as session:
                text = session.scalar(select(Tenant.retention).where(Tenant.number == tenant))
            retention = Retention.parse(text or Class.NONE)
            if not retention.keeps(report.verdict):
                return False
            self._store(tenant, id, retention, path)
        except (OSError, ServiceError, IntegrityError) as error:
            LOG.error("media of report %s: could not be kept (%s)", id, type(error).__name__)
            return False
        return True

    def open(self, tenant: int, report: str) -> Iterator[bytes] | None:
        """The kept file of a report in parts; None where there is none.

        Raises :class:`.sealing.Unopened`, at any part, for one that was changed or erased.
        """
        with self._database.reading() as session:
            ours = KeptMedia.tenant == tenant, KeptMedia.report == report
            place = session.scalar(select(KeptMedia.place).where(*ours))
            if place is None:
                return None
            key = self._keyring.find(session.connection(), tenant)
        return self._read(self.folder / place, key, _context(tenant, report))

    def forget(self, *, keep_days: float) -> None:
        """Delete what is past its time, or of a report that is; and files of this form that no row
        names.
        """
        if not self.folder.exists():
            return
        now = now_ms()
        held = select(Tenant.number).where(Tenant.retention == Class.HOLD)
        old = select(StoredReport.id).where(StoredReport.created < now - round(keep_days * DAY_MS))
        with self._database.writing() as session:
            places = session.scalars(
                delete(KeptMedia)
                .where(KeptMedia.tenant.not_in(held))
                .where(or_(KeptMedia.until < now, KeptMedia.report.in_(old)))
                .returning(KeptMedia.place)
            ).all()
        self.drop(places)
        with self._database.reading() as session:
            known = {*session.scalars(select(KeptMedia.place))}
        for path in self.folder.glob("*/*"):
            place = path.relative_to(self.folder).as_posix()
            if place in known or not _PLACE.fullmatch(place):
                continue
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - ORPHAN_SECONDS:
                    path.unlink()

    def drop(self, places: Sequence[str]) -> None:
        """Delete files whose rows are gone."""
        for place in places:
            (self.folder / place).unlink(missing_ok=True)

    def _store(self, tenant: int, id: str, retention: Retention, path: Path) -> None:
        with self._database.writing() as session:
            key = self._keyring.make(session.connection(), tenant)
        folder = self.folder / str(tenant)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = folder / secrets.token_hex(16)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with (
                path.open("rb") as source,
                os.fdopen(os.open(target, flags, 0o600), "wb") as file,
            ):
                seal_stream(source, file, key=key, context=_context(tenant, id))
                file.flush()
                os.fsync(file.fileno())
            days = retention.days if retention.kind is Class.DAYS else None
            now = now_ms()
            with self._database.writing() as session:
                session.add(
                    KeptMedia(
                        created=now,
                        tenant=tenant,
                        report=id,
                        place=target.relative_to(self.folder).as_posix(),
                        until=None if days is None else now + days * DAY_MS,
                    )
                )
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    @staticmethod
    def _read(path: Path, key: bytes, context: bytes) -> Iterator[bytes]:
        with path.open("rb") as file:
            yield from open_stream(file, key=key, context=context)


def no_tenant(name: str) -> SettingsError:
    return SettingsError(
        f"tenant {name[:64]!r}: unknown", hint="deepfake privacy list shows the tenants"
    )


def _context(tenant: int, report: str) -> bytes:
    return f"kept media {tenant} {report}".encode()
