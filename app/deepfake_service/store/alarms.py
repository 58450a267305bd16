"""Alarms of the watch, which hold for all processes of the service and survive them."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import select, update

from ..settings import Action
from .database import Database
from .keys import find_key
from .tables import AlarmRow, Key, now_ms


class Alarm(NamedTuple):
    """A run of ``files`` files of a ``kind`` of media that hardly differ, the last of them with
    this ``sha256``, from the key with this prefix; ``action`` holds until then (milliseconds).
    """

    tenant: int
    lineage: int
    prefix: str
    kind: str
    files: int
    sha256: str
    action: Action
    until: int


class Alarms:
    """The alarms in ``database``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def owner(self, key: int) -> tuple[int, str]:
        """The lineage and the prefix of the key of this number."""
        with self._database.reading() as session:
            row = session.execute(select(Key.lineage, Key.prefix).where(Key.number == key)).one()
        return row[0] or key, row[1]

    def keep(self, alarm: Alarm) -> None:
        values = alarm._asdict() | {"created": now_ms()}
        del values["prefix"]
        with self._database.writing() as session:
            session.add(AlarmRow(**values))

    def in_force(self, lineage: int) -> list[Action]:
        """What holds now against a lineage of keys, once for each alarm."""
        query = select(AlarmRow.action).where(
            AlarmRow.lineage == lineage, AlarmRow.until > now_ms()
        )
        with self._database.reading() as session:
            return [Action(action) for action in session.scalars(query)]

    def release(self, prefix: str) -> int:
        """End what holds against a key and those that it replaced or was replaced by; how many
        alarms that were. Raises ``SettingsError`` for an unknown key.
        """
        now = now_ms()
        with self._database.writing() as session:
            key = find_key(session, prefix)
            ours = AlarmRow.lineage == (key.lineage or key.number), AlarmRow.until > now
            ended = session.scalars(
                update(AlarmRow).where(*ours).values(until=now).returning(AlarmRow.number)
            ).all()
        return len(ended)
