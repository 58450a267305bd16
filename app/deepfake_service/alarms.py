"""What is done by itself when something is noticed: alarms, and the policies that answer them.

The policies are one TOML file. An alarm has a name, whoever raises it; ``"*"`` stands for those
that have no line of their own::

    schema = "deepfake-policies/1"

    [golden]
    media = "golden"        # files whose verdicts are compared when models change, and daily

    [alarms]
    golden_failed = ["notify", "stop"]
    golden_drift = ["notify", "quarantine"]
    probing = ["notify", "coarsen"]
    "*" = ["notify"]
"""

from __future__ import annotations

import re
import threading
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from deepfake.errors import DeepfakeError, SettingsError
from deepfake.settings import Settings
from deepfake.trust.audit import AuditLog
from deepfake.trust.changes import quarantine, suspend
from deepfake.trust.incidents import note_alarm
from deepfake.trust.signatures import Trust

from .events import LOG, Event, Events
from .store.alarms import Alarm as ProbingAlarm
from .store.keys import Keys, Restriction

SCHEMA = "deepfake-policies/1"
EVERY = "*"
WHO = "service"
QUIET_SECONDS = 60.0
_NAME = re.compile("[a-z][a-z0-9_]{0,39}")


class Action(StrEnum):
    """*notify*: an event. *coarsen*: the key sees verdicts alone. *suspend_key*: it opens nothing.
    *quarantine*: the bundles are refused, and what answered before them does so again. *stop*: no
    verdict rests on the slots any more (``model_suspended``).
    """

    NOTIFY = "notify"
    COARSEN = "coarsen"
    SUSPEND_KEY = "suspend_key"
    QUARANTINE = "quarantine"
    STOP = "stop"


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """What was noticed: a ``name`` for policies, a sentence, and what it is about – slots with
    the bundles that answer in them, or the prefix of a ``key``.
    """

    name: str
    text: str
    bundles: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Policies:
    """What to do on each alarm; ``golden`` is the folder of media whose verdicts are watched."""

    alarms: Mapping[str, tuple[Action, ...]] = field(
        default_factory=lambda: {EVERY: (Action.NOTIFY,)}
    )
    golden: Path | None = None

    @classmethod
    def read(cls, path: Path) -> Policies:
        """Those of a file; raises ``SettingsError`` for one that says anything else."""
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
            if values.pop("schema", None) != SCHEMA:
                raise ValueError(f"its schema is not {SCHEMA}")
            golden, alarms = values.pop("golden", {}), values.pop("alarms", {})
            media = golden.pop("media", None)
            if unknown := [*values, *golden]:
                raise ValueError(f"{unknown[0][:40]!r} is unknown")
            for name, actions in alarms.items():
                if name != EVERY and not _NAME.fullmatch(name):
                    raise ValueError(f"{name[:40]!r} is no name of an alarm")
                if not isinstance(actions, list):
                    raise ValueError(f"alarm {name} has no list of actions")
            known = {name: tuple(map(Action, actions)) for name, actions in alarms.items()}
            folder = None if media is None else path.parent / media
            if folder is not None and not folder.is_dir():
                raise ValueError(f"golden.media: there is no folder {str(media)[:100]!r}")
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise SettingsError(
                f"policies {str(path)!r}: cannot be used ({error})",
                hint=f"actions are {', '.join(Action)}; docs/incident-response.md shows an example",
            ) from error
        return cls(alarms={EVERY: (Action.NOTIFY,), **known}, golden=folder)

    def answer(self, alarm: Alarm) -> tuple[Action, ...]:
        return self.alarms.get(alarm.name, self.alarms[EVERY])


class Responder:
    """Does what the policies say; safe to share between threads. Alarms are noted in the folder of
    ``incidents``; the same one within ``QUIET_SECONDS`` is not raised again.

    An action that has nothing to act on, or fails, is logged and leaves the others alone.
    """

    def __init__(
        self,
        policies: Policies,
        *,
        settings: Settings,
        keys: Keys,
        events: Events,
        incidents: Path,
        audit: AuditLog | None = None,
    ) -> None:
        self.policies, self._incidents = policies, incidents
        self._told: dict[tuple[Any, ...], float] = {}
        self._lock = threading.Lock()
        self._settings, self._keys, self._events, self._audit = settings, keys, events, audit

    def raise_alarm(self, alarm: Alarm) -> list[Action]:
        """What was done. Whatever notices something calls this."""
        if self._is_repeated(alarm):
            return []
        try:
            note_alarm(self._incidents, alarm.name, bundles=alarm.bundles, key=alarm.key)
            self._log("alarm", about=" ".join(filter(None, (alarm.name, alarm.key))))
        except DeepfakeError as error:  # which is no reason to do nothing
            LOG.error("alarm %s: cannot be noted: %s", alarm.name, error)
        done = []
        for action in self.policies.answer(alarm):
            try:
                if self._act(action, alarm):
                    done.append(action)
                else:
                    LOG.warning("alarm %s: has nothing to %s", alarm.name, action)
            except DeepfakeError as error:
                LOG.error("alarm %s: %s failed: %s", alarm.name, action, error)
        return done

    def note_probing(self, seen: ProbingAlarm) -> None:
        """Raise the alarm ``probing`` for what the watch over queries saw."""
        text = f"{seen.files} files that hardly differ, the last with sha256 {seen.sha256}"
        self.raise_alarm(Alarm(name="probing", text=text, key=seen.prefix))

    def _is_repeated(self, alarm: Alarm) -> bool:
        which = alarm.name, alarm.key, *sorted(alarm.bundles.items())
        now = time.monotonic()
        with self._lock:
            repeated = now - self._told.get(which, -QUIET_SECONDS) < QUIET_SECONDS
            if not repeated:
                self._told[which] = now
        return repeated

    def _act(self, action: Action, alarm: Alarm) -> bool:
        why = f"alarm {alarm.name}: {alarm.text}"
        folder = self._settings.models_folder
        match action:
            case Action.NOTIFY:
                data: dict[str, Any] = {"alarm": alarm.name, "text": alarm.text}
                data |= {"bundles": dict(alarm.bundles), "key": alarm.key}
                self._events.emit(Event(type="alarm.raised", data=data))
                return True
            case Action.COARSEN | Action.SUSPEND_KEY if alarm.key:
                coarsen = action is Action.COARSEN
                self._keys.restrict(
                    alarm.key, Restriction.VERDICT if coarsen else Restriction.SUSPENDED
                )
                self._log("key_coarsen" if coarsen else "key_suspend", about=alarm.key)
                return True
            case Action.QUARANTINE if alarm.bundles:
                for name in sorted(set(alarm.bundles.values())):
                    trust = Trust.read(self._settings)
                    quarantine(folder, name, who=WHO, why=why, trust=trust)
                    self._log("models_quarantine", about=name)
                return True
            case Action.STOP if alarm.bundles:
                for slot in alarm.bundles:
                    suspend(folder, slot, who=WHO, why=why)
                    self._log("models_suspend", about=slot)
                return True
            case _:
                return False

    def _log(self, what: str, *, about: str) -> None:
        if self._audit is not None:
            self._audit.append(what, about=about)
