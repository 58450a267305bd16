"""Incidents: what they are about, what was done when, and which reports rest on it.

All incidents of a folder are in one file, ``incidents.jsonl`` (see :mod:`deepfake.trust.chain`),
and so are the alarms of a service, by which it is told how long it took to notice something.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ..bundle import DESCRIPTION, Bundle
from ..errors import ModelError, SettingsError
from ..text import printable
from .chain import Line, adding, read_chain
from .changes import read_history
from .registry import locate, read_list

FILE = "incidents.jsonl"
SEVERITIES = (1, 2, 3)
_PREFIX = re.compile("[0-9a-z]{10}")


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What an incident is about: a ``bundle`` by name, with every ``sha256`` that it answered by
    here, a ``key`` by its prefix, and a period (``since`` … ``until``, ISO 8601 in UTC). All that
    is given must fit a report.
    """

    bundle: str | None = None
    sha256: tuple[str, ...] = ()
    key: str | None = None
    since: str | None = None
    until: str | None = None

    def covers(self, report: Mapping[str, Any]) -> bool:
        """Whether a report, as JSON values, rests on the bundle and is of the period; its key is
        not in it.
        """
        when = str(report.get("examined_at") or "")
        if (self.since and when < self.since) or (self.until and when > self.until):
            return False
        if self.bundle is None:
            return True
        digests, names = report.get("bundles") or {}, report.get("versions") or {}
        if digests and self.sha256:
            return bool(set(digests.values()) & set(self.sha256))
        return self.bundle in names.values()


@dataclass(frozen=True, kw_only=True)
class Incident:
    """One incident and its ``course``, the lines about it, the oldest first."""

    id: str
    title: str
    severity: int
    scope: Scope
    opened: str
    closed: bool
    course: tuple[Line, ...]


class Step(NamedTuple):
    """A step of a timeline; ``seconds`` since the first one."""

    what: str
    time: str
    seconds: float
    text: str


def open_incident(
    folder: Path, *, title: str, severity: int, scope: Scope, who: str, models: Path
) -> Incident:
    """Begin one. Raises ``SettingsError`` for a scope that says nothing or is odd."""
    if severity not in SEVERITIES:
        raise SettingsError(f"severity {severity}: unknown", hint="give 1 (worst), 2 or 3")
    if not (title := printable(title)):
        raise SettingsError("incident: needs a title")
    if scope.bundle is None and scope.key is None and scope.since is None:
        raise SettingsError(
            "incident: is about nothing", hint="give --bundle, --key or --since, or several"
        )
    if scope.key is not None and not _PREFIX.fullmatch(scope.key):
        raise SettingsError(
            f"key {scope.key[:16]!r}: is no prefix of one", hint="deepfake keys list shows them"
        )
    for moment in (scope.since, scope.until):
        if moment is not None:
            _check_time(moment)
    digests = find_digests(models, scope.bundle) if scope.bundle else ()
    _make(folder)
    with adding(folder / FILE) as (lines, add):
        id = f"inc-{1 + sum(line['what'] == 'open' for line in lines)}"
        values: dict[str, Any] = {"bundle": scope.bundle, "sha256": list(digests), "key": scope.key}
        values |= {"since": scope.since, "until": scope.until}
        values |= {"title": title, "severity": severity, "who": printable(who)}
        add({"incident": id, "what": "open", **values})
    return read_incident(folder, id)


def note(folder: Path, id: str, what: str, *, who: str, **facts: Any) -> None:
    """Add what was done. Raises ``SettingsError`` for an unknown incident, or a closed one."""
    require_open(folder, id)
    with adding(folder / FILE) as (_, add):
        add({"incident": id, "what": what, "who": printable(who), **facts})


def note_alarm(folder: Path, name: str, *, bundles: Mapping[str, str], key: str | None) -> None:
    """Add an alarm of a service."""
    _make(folder)
    with adding(folder / FILE) as (_, add):
        add({"what": "alarm", "name": name, "bundles": dict(bundles), "key": key})


def note_models(folder: Path, bundles: Mapping[str, str]) -> None:
    """Add that a service answers with other bundles from now on."""
    _make(folder)
    with adding(folder / FILE) as (_, add):
        add({"what": "taken_up", "bundles": dict(bundles)})


def read_incidents(folder: Path) -> list[Incident]:
    """All incidents of a folder, the oldest first; raises ``DeepfakeError`` for a changed file."""
    lines = read_chain(folder / FILE)
    found = []
    for first in lines:
        if first["what"] != "open":
            continue
        course = tuple(line for line in lines if line.get("incident") == first["incident"])
        scope = Scope(
            bundle=first["bundle"],
            sha256=tuple(first["sha256"]),
            key=first["key"],
            since=first["since"],
            until=first["until"],
        )
        found.append(
            Incident(
                id=first["incident"],
                title=first["title"],
                severity=first["severity"],
                scope=scope,
                opened=first["time"],
                closed=any(line["what"] == "close" for line in course),
                course=course,
            )
        )
    return found


def read_incident(folder: Path, id: str) -> Incident:
    """Raises ``SettingsError`` for an unknown one."""
    for incident in read_incidents(folder):
        if incident.id == id:
            return incident
    raise SettingsError(
        f"incident {printable(id, most=40)!r}: unknown", hint="deepfake incident list shows all"
    )


def require_open(folder: Path, id: str) -> Incident:
    """Raises ``SettingsError`` for an unknown incident, or a closed one."""
    incident = read_incident(folder, id)
    if incident.closed:
        raise SettingsError(f"incident {incident.id}: is closed", hint="open another one")
    return incident


def find_digests(models: Path, name: str) -> tuple[str, ...]:
    """Every sha256 under which a bundle answered in a models folder, or lies there. Raises
    ``ModelError`` where there is none.
    """
    found = {
        one.sha256
        for change in read_history(models)
        for one in change.listed.bundles.values()
        if one.name == name
    }
    listed = read_list(models)
    found |= {one.sha256 for one in (listed.bundles.values() if listed else ()) if one.name == name}
    if (locate(models, name) / DESCRIPTION).is_file():
        found.add(Bundle.read(locate(models, name)).sha256)
    if not found:
        raise ModelError(
            f"bundle {printable(name, most=40)!r}: neither answered in {models} nor lies there",
            hint="deepfake models history shows what answered",
        )
    return tuple(sorted(found))


def make_timeline(incident: Incident, *, folder: Path, models: Path) -> list[Step]:
    """What happened when: how long the bundle answered before it was noticed, contained and
    replaced, from the history of the models folder, alarms and what was done.
    """
    steps: list[tuple[str, str, str]] = []
    scope = incident.scope
    history = read_history(models) if scope.bundle else []
    answers = [
        change.number
        for change in history
        if any(
            one.sha256 in scope.sha256 and not change.listed.holds_back(slot)
            for slot, one in change.listed.bundles.items()
        )
    ]
    for change in history:
        if change.number in answers and change.number - 1 not in answers:
            steps.append(("activated", change.time, f"{scope.bundle} answers"))
        if change.number - 1 in answers and change.number not in answers:
            steps.append(
                ("replaced", change.time, f"{change.what}: {scope.bundle} answers no more")
            )
    since = min((time for _, time, _ in steps), default=incident.opened)
    answered = False
    for line in read_chain(folder / FILE):
        if line["what"] == "taken_up" and answered != (scope.bundle in line["bundles"].values()):
            answered = not answered
            word = "answers" if answered else "answers no more"
            steps.append(("taken up", line["time"], f"in the service {scope.bundle} {word}"))
        about = scope.bundle in line.get("bundles", {}).values() or (
            scope.key is not None and line.get("key") == scope.key
        )
        if line["what"] == "alarm" and about and line["time"] >= since:
            steps.append(("alarm", line["time"], line["name"]))
    for line in incident.course:
        told = {"open": incident.title, "close": line.get("why", "")}.get(line["what"])
        steps.append((line["what"], line["time"], told or str(line.get("told", ""))))
    steps.sort(key=lambda step: step[1])
    start = _moment(steps[0][1])
    return [
        Step(what, time, (_moment(time) - start).total_seconds(), text)
        for what, time, text in steps
    ]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"folder {folder}: cannot be used ({error.strerror})", hint="choose another with --data"
        ) from error


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _check_time(text: str) -> None:
    try:
        if not text.endswith("Z") or _moment(text).tzinfo != UTC:
            raise ValueError
    except ValueError as error:
        raise SettingsError(
            f"time {text[:40]!r}: is none", hint="write it as 2026-11-29T08:00:00Z"
        ) from error
