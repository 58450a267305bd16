"""The streams of a service: kept in its database, watched for drift, told when they drift."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, delete, select

from deepfake.errors import ServiceError
from deepfake.types import Report

from ..store.database import Database
from ..store.tables import DriftStream, Tenant, now_ms, word_time
from .drift import LIMIT, Change, Stream
from .signals import Signals, read_file_signals, read_signals

LOG = logging.getLogger("deepfake_service")
SAVE_EVERY = 50
AGAIN_MS = 86_400_000
MOST_PAST, PAST_EVERY = 120, 25
MOST_ALARMS = 20
RECENT_FILES, ALIKE = 200, 0.02


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A stream is not what it was. It is given again after a day, while that lasts."""

    at: str
    tenant: str
    kind: str
    files: int
    changes: tuple[Change, ...]

    @property
    def signal(self) -> str:
        return self.changes[0].event.signal

    def to_dict(self) -> dict[str, Any]:
        """The alarm as JSON values."""
        return {
            "at": self.at,
            "tenant": self.tenant,
            "kind": self.kind,
            "files": self.files,
            "changes": [
                {
                    "signal": it.event.signal,
                    "event": str(it.event),
                    "reference": round(it.reference, 4),
                    "recent": round(it.recent, 4),
                }
                for it in self.changes
            ],
        }


class Standing(NamedTuple):
    """How a stream stands. ``place`` is the process that watches it, empty where there is one
    alone; ``evidence`` is 1 at the limit of an alarm and 0 without any, on a logarithmic scale;
    ``past`` are its earlier values, the oldest first.
    """

    tenant: str
    kind: str
    place: str
    files: int
    learnt: float
    evidence: float
    past: tuple[float, ...]
    changes: tuple[Change, ...]
    alarms: tuple[dict[str, Any], ...]


@dataclass
class _Kept:
    tenant: str
    kind: str
    versions: dict[str, str]
    stream: Stream = field(default_factory=lambda: Stream())  # noqa: PLW0108 (looked up anew)
    past: list[float] = field(default_factory=list)
    alarms: list[dict[str, Any]] = field(default_factory=list)
    alarmed: int = 0
    unsaved: int = 0
    saved: bool = False
    sizes: deque[tuple[int | None, int | None, int]] = field(
        default_factory=lambda: deque(maxlen=RECENT_FILES)
    )

    @property
    def evidence(self) -> float:
        return max(0.0, log(max(self.stream.evidence, 1.0)) / log(LIMIT))


class Monitor:
    """Watches the reports of every tenant, by kind of media; safe to share between threads.

    A stream begins anew, with a reference that is learnt from its next files, when other bundles
    judge. Processes that share a database watch what each examines, under the name of their
    ``place``. ``alarmed`` is called with every alarm, in the thread of the report that gave it.
    What the database does not take is offered again with the next files.
    """

    def __init__(self, database: Database, *, place: str = "") -> None:
        self._database, self._place = database, place
        self._lock = threading.Lock()
        self._kept: dict[tuple[int, str], _Kept] = {}
        self.alarmed: Callable[[Alarm], None] = lambda alarm: None

    def note(self, tenant: int, report: Report, path: Path | None = None) -> None:
        """Take a report in, and what its file at ``path`` tells besides."""
        signals = read_signals(report)
        if path is not None:
            signals |= read_file_signals(path, format=report.media.format)
        with self._lock:
            try:
                kept = self._find(tenant, report)
                alarm = _add(kept, report, signals)
                if kept.unsaved >= SAVE_EVERY or alarm is not None:
                    self._save(tenant, kept)
            except ServiceError as error:
                LOG.warning("monitor: %s", error)
                return
        if alarm is not None:
            LOG.warning(
                "drift: %s of tenant %s: %s", alarm.kind, alarm.tenant, alarm.changes[0].event
            )
            self.alarmed(alarm)

    def streams(self) -> list[Standing]:
        """How every stream stands, by tenant, kind and place; those of other processes as they
        saved them last. Raises ``ServiceError``.
        """
        with self._lock:
            found = []
            with self._database.reading() as session:
                rows = session.execute(
                    select(DriftStream, Tenant.name).join(
                        Tenant, Tenant.number == DriftStream.tenant
                    )
                )
                for row, name in rows:
                    if row.place != self._place:
                        found.append(_stand(_read(row, name), row.place))
                    elif (row.tenant, row.kind) not in self._kept:
                        self._kept[row.tenant, row.kind] = _read(row, name)
            own = (_stand(kept, self._place) for kept in self._kept.values())
            return sorted([*found, *own])

    def forget(self, tenant: str, kind: str) -> None:
        """Learn the reference of a stream anew, from the next files, as after a change that is
        there to stay; other processes do so once they would save theirs. Of one that is unknown
        nothing is done.
        """
        with self._lock, self._database.writing() as session:
            number = session.scalar(select(Tenant.number).where(Tenant.name == tenant))
            ours = DriftStream.tenant == number, DriftStream.kind == kind
            session.execute(delete(DriftStream).where(*ours))
            self._kept.pop((number or 0, kind), None)

    def close(self) -> None:
        """Save everything, if the database answers."""
        with self._lock:
            try:
                for (tenant, _), kept in [*self._kept.items()]:
                    self._save(tenant, kept)
            except ServiceError as error:
                LOG.warning("monitor: %s", error)

    def _find(self, tenant: int, report: Report) -> _Kept:
        kind, versions = report.media.kind.value, dict(report.versions)
        kept = self._kept.get((tenant, kind))
        if kept is None:
            with self._database.reading() as session:
                name = session.get_one(Tenant, tenant).name
                row = session.scalar(select(DriftStream).where(*self._ours(tenant, kind)))
            kept = _Kept(name, kind, versions) if row is None else _read(row, name)
        if kept.versions != versions:
            kept = _Kept(kept.tenant, kind, versions, alarms=kept.alarms, saved=kept.saved)
        self._kept[tenant, kind] = kept
        return kept

    def _save(self, tenant: int, kept: _Kept) -> None:
        """Offered again with later files where the database does not take it."""
        document = {
            "versions": kept.versions,
            "stream": kept.stream.to_dict(),
            "past": kept.past,
            "alarms": kept.alarms,
            "alarmed": kept.alarmed,
        }
        kept.unsaved = 0
        with self._database.writing() as session:
            if session.get_one(Tenant, tenant).name != kept.tenant:
                return  # it was erased
            ours = self._ours(tenant, kept.kind)
            row = session.scalar(select(DriftStream).where(*ours).with_for_update())
            if row is None and kept.saved:  # another process wants it to be learnt anew
                self._kept.pop((tenant, kept.kind), None)
                return
            if row is None:
                row = DriftStream(
                    created=now_ms(), tenant=tenant, kind=kept.kind, place=self._place
                )
                session.add(row)
            row.document = document
        kept.saved = True

    def _ours(self, tenant: int, kind: str) -> tuple[ColumnElement[bool], ...]:
        return (
            DriftStream.tenant == tenant,
            DriftStream.kind == kind,
            DriftStream.place == self._place,
        )


def _add(kept: _Kept, report: Report, signals: Signals) -> Alarm | None:
    kept.stream.add(signals | {"repeats": _tell_repeat(kept, report)})
    kept.unsaved += 1
    if kept.stream.files % PAST_EVERY == 0 and kept.stream.learnt == 1:
        kept.past = [*kept.past, round(kept.evidence, 4)][-MOST_PAST:]
    now = now_ms()
    if kept.stream.evidence < LIMIT or now - kept.alarmed < AGAIN_MS:
        return None
    kept.alarmed = now
    alarm = Alarm(
        at=word_time(now) or "",
        tenant=kept.tenant,
        kind=kept.kind,
        files=kept.stream.files,
        changes=tuple(kept.stream.changes(most=3)),
    )
    kept.alarms = [*kept.alarms, alarm.to_dict()][-MOST_ALARMS:]
    return alarm


def _tell_repeat(kept: _Kept, report: Report) -> str:
    """Whether one of the files before had the same sides and nearly the same size, as those of
    somebody have who sends a file again and again with small changes.
    """
    media = report.media
    size = media.width, media.height, media.bytes
    again = any(
        (width, height) == size[:2] and abs(number - media.bytes) <= ALIKE * media.bytes
        for width, height, number in kept.sizes
    )
    kept.sizes.append(size)
    return "yes" if again else "no"


def _read(row: DriftStream, tenant: str) -> _Kept:
    document = row.document
    return _Kept(
        tenant,
        row.kind,
        document["versions"],
        Stream.from_dict(document["stream"]),
        document["past"],
        document["alarms"],
        document["alarmed"],
        saved=True,
    )


def _stand(kept: _Kept, place: str) -> Standing:
    return Standing(
        kept.tenant,
        kept.kind,
        place,
        kept.stream.files,
        kept.stream.learnt,
        kept.evidence,
        tuple(kept.past),
        tuple(kept.stream.changes(most=5)),
        tuple(kept.alarms),
    )
