"""The detector of a service that runs on while its models are changed.

A file is examined from its beginning to its end by the detector that was there when it began, so
that no report mixes two sets of models; the next file meets the new one. What was replaced is
closed once the last examination with it has ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from deepfake.bundle import Bundle
from deepfake.detector import Detector
from deepfake.engine.golden import check_golden
from deepfake.errors import BackendError, DeepfakeError, ModelError, ServiceError
from deepfake.known.index import Known
from deepfake.media.opening import Source
from deepfake.reasons import Code
from deepfake.settings import DetectOptions
from deepfake.trust.changes import read_mark
from deepfake.trust.registry import digest_bundles, read_bundles
from deepfake.trust.signatures import Trust
from deepfake.types import Report

from .alarms import Alarm
from .events import LOG
from .golden_media import GoldenMedia

POLL_SECONDS = 0.5
TEST_SECONDS = 86_400.0
RETEST_SECONDS = 60.0
"""How often slots are tested that failed."""


class _Held:
    """A detector, how many examinations it has in work, and whether another took its place."""

    def __init__(self, detector: Detector) -> None:
        self.detector, self.users, self.replaced = detector, 0, False


class LiveDetector(Detector):
    """A ``detector`` that follows its models folder, as a context manager.

    Twice a second it is looked whether the list, or what is revoked, was changed; then a new
    detector is made, its bundles have to give their golden scores, and ``media`` are judged by it,
    before it takes the place of the old one. One that cannot be used is refused with an alarm
    (``models_refused``, ``golden_failed``), and the old one goes on, without the slots whose
    bundles were revoked meanwhile. The same tests are made at the start and every
    ``test_seconds``; a slot that fails is suspended here until its models are changed, or it gives
    its golden scores again, which is looked at every ``retest_seconds``. ``changed`` is told of
    each new detector.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        raise_alarm: Callable[[Alarm], Any],
        media: GoldenMedia | None = None,
        changed: Callable[[Detector], None] = lambda detector: None,
        poll_seconds: float = POLL_SECONDS,
        test_seconds: float = TEST_SECONDS,
        retest_seconds: float = RETEST_SECONDS,
    ) -> None:
        self._given, self._held = detector, _Held(detector)
        self._raise_alarm, self._media, self._changed = raise_alarm, media, changed
        self._poll_seconds = poll_seconds
        self._test_seconds, self._retest_seconds = test_seconds, retest_seconds
        self._mark = _mark_of(detector)
        self._lock, self._looking, self._end = (
            threading.Lock(),
            threading.RLock(),
            threading.Event(),
        )
        self.failing: Mapping[str, str] = {}
        self._held_back: Mapping[str, Bundle] = {}
        self._adopt(detector)
        self._thread = threading.Thread(target=self._follow, name="models", daemon=True)

    def detect(
        self,
        source: Source,
        options: DetectOptions | None = None,
        *,
        name: str | None = None,
        sample_rate: int | None = None,
        progress: Any = None,
        cancel: threading.Event | None = None,
        deadline: float | None = None,
        known: Known | None = None,
        alike: bool = False,
    ) -> Report:
        """See :meth:`deepfake.detector.Detector.detect`."""
        with self.leased() as detector:
            return detector.detect(
                source,
                options,
                name=name,
                sample_rate=sample_rate,
                progress=progress,
                cancel=cancel,
                deadline=deadline,
                known=known,
                alike=alike,
            )

    @contextmanager
    def leased(self) -> Iterator[Detector]:
        """The present detector, which stays open during the block."""
        with self._lock:
            held = self._held
            held.users += 1
        try:
            yield held.detector
        finally:
            with self._lock:
                held.users -= 1
                last = held.replaced and not held.users
            if last:
                held.detector.close()

    def look(self) -> bool:
        """Whether the models were changed, and have been taken up or refused now."""
        with self._looking:
            mark = read_mark(self.settings.models_folder)
            if mark == self._mark:
                return False
            self._mark = mark
            try:
                self._renew()
            except DeepfakeError as error:
                self._refuse(error)
            return True

    def self_test(self) -> None:
        """Hold every bundle to its golden scores and the golden media to their verdicts."""
        with self._looking:
            self._retest()
            with self.leased() as detector:
                if faults := _find_faults(detector, detector.engine.active):
                    self._hold_back(faults)
                self._compare_media(detector)

    def _retest(self) -> None:
        """Let slots answer again that were held back and give their golden scores now."""
        with self._looking, self.leased() as detector:
            failed = {slot: self._held_back[slot] for slot in self.failing}
            faults = _find_faults(detector, failed)
            passed = {slot: why for slot, why in self.failing.items() if slot not in faults}
            if not passed or read_mark(self.settings.models_folder) != self._mark:
                return
            suspended = {
                slot: why for slot, why in self.engine.suspended.items() if slot not in passed
            }
            old = [_word_suspension(slot, why) for slot, why in passed.items()]
            warnings = [text for text in self.engine.warnings if text not in old]
            LOG.warning("models: %s give their golden scores again", ", ".join(sorted(passed)))
            self._go_on(suspended, warnings)
            self.failing = {slot: why for slot, why in self.failing.items() if slot in faults}

    def check(self) -> None:
        """Raise ``ServiceError`` (``model_suspended``, 503) while a slot fails its self-test here.
        One that was suspended on purpose is answered for: its verdicts are inconclusive.
        """
        for slot in self.failing:
            raise ServiceError(
                f"slot {slot}: its model does not give its golden scores here",
                code=Code.MODEL_SUSPENDED,
                hint="tell whoever runs the service",
                status=503,
                retry_seconds=60,
            )

    def close(self) -> None:
        """Stop following; the detector that was given stays open."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._held.detector is not self._given:
            self._held.detector.close()

    def __enter__(self) -> LiveDetector:
        self._thread.start()
        return self

    def _follow(self) -> None:
        self._contained(self.self_test)
        tested = retested = time.monotonic()
        while not self._end.wait(self._poll_seconds):
            self._contained(self.look)
            now = time.monotonic()
            if now - tested >= self._test_seconds:
                tested = now
                self._contained(self.self_test)
            elif self.failing and now - retested >= self._retest_seconds:
                retested = now
                self._contained(self._retest)

    def _contained(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Exception:  # noqa: BLE001 (a bug must not end the watch)
            LOG.exception("models: could not be looked after")

    def _adopt(self, detector: Detector) -> None:
        self.settings, self.engine = detector.settings, detector.engine
        self.analyzers, self.policy = detector.analyzers, detector.policy
        self.known = detector.known

    def _renew(self) -> None:
        """Take up what the folder says. Raises ``DeepfakeError`` for what cannot be used."""
        fresh = Detector(self.settings, analyzers=self.analyzers, policy=self.policy)
        try:
            before = self.engine.active
            if _facts(fresh) == _facts(self):
                fresh.close()
                return
            fresh.engine.check(fresh.engine.active)
            moved = {
                slot: bundle
                for slot, bundle in fresh.engine.active.items()
                if slot not in before or before[slot].sha256 != bundle.sha256
            }
            for slot, (bundle, error) in _find_faults(fresh, moved).items():
                self._raise_alarm(
                    Alarm(name=Code.GOLDEN_FAILED, text=str(error), bundles={slot: bundle.name})
                )
                raise error
            fresh.engine.warm()
            self._compare_media(fresh)
        except BaseException:
            fresh.close()
            raise
        if read_mark(self.settings.models_folder) != self._mark:  # as the alarm's policy wanted
            fresh.close()
            return
        self.failing, self._held_back = {}, {}
        self._replace(fresh)

    def _replace(self, fresh: Detector) -> None:
        with self._lock:
            old, self._held = self._held, _Held(fresh)
            self._adopt(fresh)
            old.replaced, idle = True, not old.users
        if idle:
            old.detector.close()
        self._changed(fresh)

    def _refuse(self, error: DeepfakeError) -> None:
        active = {**self._held_back, **self.engine.active}
        if error.code != Code.GOLDEN_FAILED:  # which was told already
            self._raise_alarm(Alarm(name="models_refused", text=str(error)))
        revoked = Trust.read(self.settings).revoked.bundles
        bad = {slot: revoked[one.sha256] for slot, one in active.items() if one.sha256 in revoked}
        if bad:
            self.failing = {slot: why for slot, why in self.failing.items() if slot not in bad}
            self._go_on_without(bad)

    def _hold_back(self, faults: Mapping[str, tuple[Bundle, DeepfakeError]]) -> None:
        words = {}
        for slot, (bundle, error) in faults.items():
            words[slot] = str(error).split("; ")[0]
            self._raise_alarm(
                Alarm(name=Code.GOLDEN_FAILED, text=words[slot], bundles={slot: bundle.name})
            )
        self.failing = {**self.failing, **words}
        self._go_on_without(words)

    def _go_on_without(self, slots: Mapping[str, str]) -> None:
        """The present models, less those of some slots, which nothing answers for."""
        before = self.engine
        said = [_word_suspension(slot, why) for slot, why in slots.items()]
        self._go_on({**before.suspended, **slots}, [*before.warnings, *said])

    def _go_on(self, suspended: Mapping[str, str], warnings: list[str]) -> None:
        """With the present models and those that were held back, less the suspended slots."""
        before, active = self.engine, {**self._held_back, **self.engine.active}
        fresh = Detector(
            self.settings,
            analyzers=self.analyzers,
            policy=self.policy,
            active=active,
            suspended=suspended,
        )
        fresh.engine.warnings += warnings
        fresh.engine.missing = before.missing
        left = set(active) - set(fresh.engine.active)
        self._held_back = {slot: active[slot] for slot in left}
        self._replace(fresh)

    def _compare_media(self, detector: Detector) -> None:
        drift = self._media and self._media.compare(detector)
        if drift:
            text = (
                f"{len(drift.files)} golden files are judged the other way round, {drift.files[0]} "
                "among them"
            )
            self._raise_alarm(Alarm(name="golden_drift", text=text, bundles=drift.bundles))


def _word_suspension(slot: str, why: str) -> str:
    return f"Suspended, so that no verdict rests on it: {slot} ({why})."


def _mark_of(detector: Detector) -> tuple[Any, ...]:
    """The mark of what a detector was made from; none that fits when it was changed meanwhile."""
    folder = detector.settings.models_folder
    mark = read_mark(folder)
    try:
        same = digest_bundles(read_bundles(folder)) == digest_bundles(detector.engine.active)
    except ModelError:
        same = False
    return mark if same else ()


def _facts(detector: Detector) -> tuple[Any, ...]:
    """What answers, and what does not."""
    engine = detector.engine
    return digest_bundles(engine.active), dict(engine.suspended), dict(engine.missing)


def _find_faults(
    detector: Detector, bundles: Mapping[str, Bundle]
) -> dict[str, tuple[Bundle, DeepfakeError]]:
    """The slots whose bundles do not give their golden scores, and why."""
    faults: dict[str, tuple[Bundle, DeepfakeError]] = {}
    for slot, bundle in bundles.items():
        try:
            check_golden(detector.engine, bundle)
        except (ModelError, BackendError) as error:
            faults[slot] = bundle, error
    return faults
