"""The watch over what each key sends: runs of files that hardly differ.

Who searches for a change that passes the detector, or wants to learn how it decides, sends a file,
changes it a little, and sends it again, hundreds of times (Chen, Carlini and Wagner, "Stateful
Detection of Black-Box Adversarial Attacks", 2020). Whoever moderates meets the same file again too:
but the same bytes over and over, or copies of many sizes. So what is counted is different files
with one fingerprint *and* one size.

What a key sent is kept in memory, bounded and for a while only; a process that is started anew has
forgotten it, and each of several processes sees its own part. Alarms are in the database.
``python -m benchmarks.watch`` measures how many queries an attack has, and how often it is wrong.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from limits import parse

from deepfake.errors import ServiceError
from deepfake.known.fingerprints import Fingerprint
from deepfake.known.shelf import Shelf
from deepfake.reasons import Code
from deepfake.types import Report

from .settings import Action, WatchSettings
from .store.alarms import Alarm, Alarms
from .store.keys import Identity, Policy
from .store.tables import now_ms

LOG = logging.getLogger("deepfake_service")
Listener = Callable[[Alarm], None]
Size = tuple[int | None, int | None, int]
MOST_LINEAGES, MOST_FILES = 200, 5000
"""Whose queries are remembered, those that asked last; and how many of each: 1 MB."""
ANY_SIZE = 4
"""How many times as many files of different sizes are an alarm."""
MOST_WORDS = 430
"""Of a sound, that are remembered: ten seconds."""
_COARSER = (Policy.FULL, Policy.ROUNDED, Policy.VERDICT)


@dataclass
class Run:
    """Files that hardly differ from the ``first`` of them: when each sha256 came, and its size."""

    first: Fingerprint
    files: dict[str, tuple[float, Size]] = field(default_factory=dict)

    def add(self, sha256: str, size: Size, *, now: float, after: float) -> None:
        self.files.pop(sha256, None)
        self.files[sha256] = now, size
        while next(iter(self.files.values()))[0] < after:
            del self.files[next(iter(self.files))]

    def of_size(self, size: Size) -> int:
        return sum(other == size for _, other in self.files.values())

    @property
    def latest(self) -> float:
        return max((moment for moment, _ in self.files.values()), default=0.0)


class Watch:
    """Sees every report that is given to a key, and restrains keys whose queries are an alarm.

    ``listeners`` are called with each alarm; one that fails is logged and harms nobody.
    """

    def __init__(
        self, alarms: Alarms, settings: WatchSettings, *, listeners: Sequence[Listener]
    ) -> None:
        self._alarms, self._settings, self._listeners = alarms, settings, listeners
        self._lock = threading.Lock()
        self._owners: dict[int, tuple[int, str]] = {}
        self._runs: dict[int, list[Run]] = {}

    def note(self, report: Report, *, tenant: int, key: int | None) -> Alarm | None:
        """Count a file that was examined for the key of this number; the alarm that it raises.

        Those who ask without a key are this machine's own, and are not watched. Never raises, since
        the report is given already: what the database does not take is in the log alone.
        """
        if key is None or report.fingerprint is None:
            return None
        try:
            return self._note(report, report.fingerprint, tenant=tenant, key=key)
        except ServiceError as error:
            LOG.warning("watch: %s", error)
            return None

    def _note(
        self, report: Report, values: Mapping[str, Any], *, tenant: int, key: int
    ) -> Alarm | None:
        fingerprint = Fingerprint.from_dict(values)
        fingerprint = replace(fingerprint, parts=b"", sound=fingerprint.sound[: 4 * MOST_WORDS])
        lineage, prefix = self._owner(key)
        media = report.media
        size = media.width, media.height, round(10 * (media.seconds or 0.0))
        with self._lock:
            files = self._count(lineage, fingerprint, media.sha256, size)
        if files is None:
            return None
        alarm = Alarm(
            tenant=tenant,
            lineage=lineage,
            prefix=prefix,
            kind=media.kind.value,
            files=files,
            sha256=media.sha256,
            action=self._settings.action,
            until=now_ms() + round(self._settings.action_hours * 3_600_000),
        )
        for listener in self._listeners:
            try:
                listener(alarm)
            except Exception:
                LOG.exception("watch: a listener failed")
        self._alarms.keep(alarm)
        return alarm

    def restrain(self, identity: Identity) -> Identity:
        """The identity with what alarms left of its rights.

        Raises ``ServiceError`` (``suspended``, 403) where that is nothing.
        """
        if identity.key is None:
            return identity
        actions = self._alarms.in_force(identity.lineage)
        if Action.SUSPEND in actions:
            raise ServiceError(
                "key: is suspended, because it sent many files that hardly differ",
                code=Code.SUSPENDED,
                hint="ask whoever runs the service",
                status=403,
            )
        if Action.SLOW in actions:
            rate = slower(identity.allowance.rate, self._settings.slow_rate)
            identity = replace(identity, allowance=replace(identity.allowance, rate=rate))
        coarser = actions.count(Action.COARSEN)
        if coarser:
            level = min(len(_COARSER) - 1, _COARSER.index(identity.policy) + coarser)
            identity = replace(identity, policy=_COARSER[level])
        return identity

    def _owner(self, key: int) -> tuple[int, str]:
        found = self._owners.get(key)
        if found is None:
            found = self._owners[key] = self._alarms.owner(key)
        return found

    def _count(self, lineage: int, fingerprint: Fingerprint, sha256: str, size: Size) -> int | None:
        """The length of the run that a file belongs to, once that is an alarm; then it ends."""
        now = time.monotonic()
        after = now - self._settings.hours * 3600
        runs = self._runs.pop(lineage, [])
        self._runs[lineage] = runs  # as the one that asked last
        while len(self._runs) > MOST_LINEAGES:
            del self._runs[next(iter(self._runs))]
        runs[:] = [run for run in runs if run.latest >= after][-self._settings.most_runs :]
        while sum(len(run.files) for run in runs) > MOST_FILES:
            del runs[0]
        near = Shelf([run.first for run in runs]).near(fingerprint)
        run = runs.pop(near[0].place) if near else Run(fingerprint)
        runs.append(run)
        run.add(sha256, size, now=now, after=after)
        least = self._settings.files
        count = run.of_size(size)
        if count < least and len(run.files) < ANY_SIZE * least:
            return None
        count = max(count, len(run.files))
        run.files.clear()
        return count


def slower(rate: str | None, other: str) -> str:
    """The one of two rates that allows less a second."""
    if rate is None:
        return other
    return min((rate, other), key=lambda text: parse(text).amount / parse(text).get_expiry())


def log_alarm(alarm: Alarm) -> None:
    """Tell the log of an alarm."""
    LOG.warning(
        "watch: key %s sent %d files (%s) that hardly differ, the last with sha256 %s: %s",
        alarm.prefix,
        alarm.files,
        alarm.kind,
        alarm.sha256,
        alarm.action.value,
    )
