"""A candidate judges a share of the files after they were answered; nobody sees what it says."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import secrets
import threading
from pathlib import Path
from typing import Any, NamedTuple

from deepfake.bundle import FULL_TIERS, Bundle
from deepfake.detector import Detector
from deepfake.engine.golden import word_of
from deepfake.errors import DeepfakeError
from deepfake.faults import contain_faults
from deepfake.reasons import Code
from deepfake.settings import DetectOptions
from deepfake.trust.registry import locate
from deepfake.trust.shadow import RESULTS, Shadow, read_shadow
from deepfake.trust.signatures import Trust, require_signed
from deepfake.types import Evidence, Report, Status

from .events import LOG
from .live import LiveDetector

SOURCES = {"face-finder": "face", "frame": "video"}
"""Whose evidence tells what a bundle says, of slots that have none of their own."""
MOST_WAITING = 16
LOOK_SECONDS = 0.5


class _Task(NamedTuple):
    path: Path
    options: DetectOptions
    report: Report


class ShadowRunner:
    """Compares the candidate of the models folder with ``live``, in a thread of its own, as a
    context manager. Files wait as further names in ``folder``, ``MOST_WAITING`` at most; those that
    come when as many wait are left out, so that it holds nobody up.
    """

    def __init__(self, live: LiveDetector, folder: Path) -> None:
        self._live, self._folder, self._results = live, folder / "shadow", folder / RESULTS
        self._waiting: queue.Queue[_Task] = queue.Queue(MOST_WAITING)
        self._end = threading.Event()
        self._shadow: Shadow | None = None
        self._fault = ""
        self._candidate: Bundle | None = None
        self._detector: Detector | None = None
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)

    def offer(self, path: Path, options: DetectOptions, report: Report) -> None:
        """Take the file of a report, if its turn has come. It may be deleted afterwards."""
        shadow, candidate = self._shadow, self._candidate
        if shadow is None or candidate is None or self._waiting.full():
            return
        if _find(report, candidate.slot) is None or random.random() >= shadow.share:  # noqa: S311
            return
        kept = self._folder / secrets.token_hex(16)
        try:
            os.link(path, kept)
            self._waiting.put_nowait(_Task(kept, options, report))
        except OSError as error:
            LOG.warning("shadow: a file cannot be kept (%s)", error.strerror)
        except queue.Full:
            kept.unlink()

    def __enter__(self) -> ShadowRunner:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for left in self._folder.iterdir():  # by a process before
            left.unlink()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()
        while not self._waiting.empty():
            self._waiting.get().path.unlink(missing_ok=True)

    def _work(self) -> None:
        while not self._end.is_set():
            self._look()
            with contextlib.suppress(queue.Empty):
                task = self._waiting.get(timeout=LOOK_SECONDS)
                try:
                    self._judge(task)
                except OSError as error:
                    LOG.warning("shadow: what was said cannot be kept (%s)", error.strerror)
                finally:
                    task.path.unlink(missing_ok=True)
        self._drop()

    def _look(self) -> None:
        """Take up the candidate that the models folder names now."""
        settings = self._live.settings
        try:
            shadow = read_shadow(settings.models_folder)
            if shadow == self._shadow:
                return
            self._drop()
            self._shadow = shadow
            if shadow is None:
                return
            candidate = Bundle.read(locate(settings.models_folder, shadow.name))
            require_signed([candidate], Trust.read(settings))
            if candidate.sha256 != shadow.sha256:
                LOG.error("shadow: %s was changed since it was chosen", candidate.name)
                return
            beside = dict(self._live.engine.active)
            beside.pop(FULL_TIERS.get(candidate.slot, ""), None)
            source = SOURCES.get(candidate.slot, candidate.slot)
            asked = {source, "video"} if source in ("face", "video") else {source}
            self._detector = Detector(
                settings,
                analyzers=tuple(one for one in self._live.analyzers if one.name in asked),
                active=beside | {candidate.slot: candidate},
            )
            self._candidate = candidate
        except DeepfakeError as error:
            if str(error) != self._fault:
                self._fault = str(error)
                LOG.error("shadow: %s", error)

    def _drop(self) -> None:
        detector, self._detector, self._candidate = self._detector, None, None
        if detector is not None:
            detector.close()

    def _judge(self, task: _Task) -> None:
        candidate, detector = self._candidate, self._detector
        if candidate is None or detector is None:
            return
        before = _find(task.report, candidate.slot)
        line: dict[str, Any] = {
            "candidate": candidate.sha256,
            "active": task.report.versions.get(candidate.slot),
            "kind": task.report.media.kind.value,
            "error": None,
        }
        try:
            with contain_faults("shadow"):
                report = detector.detect(task.path, task.options, name="shadow")
            after = _find(report, candidate.slot)
        except DeepfakeError as error:
            after, line["error"] = None, str(error.code)
        if before is not None and after is not None:
            line["scores"] = [before.score, after.score]
            line["words"] = [_word(before), _word(after)]
            line["seconds"] = [_seconds(one, before.source) for one in (task.report, report)]
        elif line["error"] is None:
            line["error"] = str(Code.NOTHING_APPLIED)
        with self._results.open("a", encoding="ascii") as file:
            file.write(json.dumps(line) + "\n")


def _find(report: Report, slot: str) -> Evidence | None:
    """The scored evidence of a slot."""
    source = SOURCES.get(slot, slot)
    for one in report.evidence:
        if one.source == source and one.status is Status.OK and one.score is not None:
            return one
    return None


def _seconds(report: Report, source: str) -> float:
    """What a source took; of faces in a video all of its pictures."""
    steps = report.seconds_by_step
    return steps.get(source, steps.get("video", 0.0))


def _word(evidence: Evidence) -> str | None:
    if evidence.score is None or evidence.points is None:
        return None
    return word_of(evidence.score, evidence.points)
