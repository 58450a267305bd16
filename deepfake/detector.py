"""The one path from a file to a report."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from os import PathLike
from types import TracebackType

from . import fusion
from .analyzers import Analyzer, shipped_analyzers
from .analyzers.claims import MISSING, skip
from .analyzers.known import look_up
from .bundle import Bundle
from .engine.engine import Engine
from .errors import Cancelled, DeepfakeError, FailedSource, ModelError, SettingsError
from .faults import contain_faults
from .known.fingerprints import take_fingerprint
from .known.index import Known, read_known
from .media.opening import Media, Source, open_media, source_name
from .media.process import POOL
from .media.sniff import promises_picture
from .progress import Progress, Watch, deadline_after
from .reasons import Code
from .settings import DetectOptions, Settings
from .trust.registry import word_install
from .types import Evidence, Kind, Report, Status
from .version import VERSION

OPENING_SHARE = 0.02
WEIGHTS = {"audio": 4.0, "face": 8.0, "image": 4.0, "video": 8.0}
"""How long an analyzer takes beside one that runs no network, for the progress that is shown."""


class Detector:
    """Holds the loaded bundles and detects in any number of files; safe to share between threads.

    Use it as a context manager, or call :meth:`close`. Making one compares every file of the active
    bundles with its sha256 and with what a trusted pair of keys signed, and raises ``ModelError``
    for what is missing, differs or is not signed. With ``active`` these bundles answer, as they
    are, in place of those of the models folder; no verdict rests on ``suspended`` slots, whose
    reasons it maps them to.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        analyzers: tuple[Analyzer, ...] | None = None,
        policy: fusion.Policy | None = None,
        active: Mapping[str, Bundle] | None = None,
        suspended: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings or Settings()
        POOL.prepare(memory_bytes=self.settings.limits.decode_memory_bytes)
        self.engine = Engine(self.settings, active=active, suspended=suspended)
        self.analyzers = analyzers or shipped_analyzers(self.settings)
        self.policy = policy or fusion.Policy()
        self.known = read_known(self.settings.known) if self.settings.known else Known()

    @property
    def versions(self) -> dict[str, str]:
        """The package and the bundle of every slot: what a report rests on."""
        return name_versions(self.engine.active)

    def detect(
        self,
        source: Source,
        options: DetectOptions | None = None,
        *,
        name: str | None = None,
        sample_rate: int | None = None,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
        deadline: float | None = None,
        known: Known | None = None,
        alike: bool = False,
    ) -> Report:
        """Examine one file.

        ``source`` is a path, bytes, a binary file object, an RGB uint8 array (height, width, 3) or
        mono or (samples, channels) float array with its ``sample_rate`` in Hz. ``name`` replaces
        the path in the report. ``progress(share, text)`` is called with the share of the file that
        is done and what comes next. ``known`` are media that were ruled on, in place of those that
        the settings name; where there is neither, the report has a fingerprint only if files that
        are ``alike`` are to be found by it. Raises ``MediaError`` when the input cannot be read at
        all; a source of evidence that fails is part of the report instead. Raises ``Cancelled``
        soon after ``cancel`` is set, ``TimeLimit`` after ``deadline``, a moment of
        ``time.monotonic()``,
        ``ModelError`` when a bundle that this kind of file or the effort needs is missing or cannot
        be loaded, and ``BackendError`` once the detector is closed.
        """
        self.engine.require_open()
        options, examined_at = options or DetectOptions(), utc_now()
        self.engine.require_effort(options.effort)
        seconds: dict[str, float] = {}
        started = time.perf_counter()
        watch = Watch(progress, cancel, deadline=deadline)
        watch.step("opening", 0.0)
        if isinstance(source, str | PathLike) and promises_picture(str(source)):
            self.engine.prepare(Kind.IMAGE)  # while the file is opened
        with open_media(
            source, limits=self.settings.limits, name=name, sample_rate=sample_rate, watch=watch
        ) as media:
            self.engine.prepare(media.info.kind, effort=options.effort)
            if media.info.kind is Kind.IMAGE:
                media.image()  # a picture that cannot be decoded is one error, not several
            seconds["open"] = time.perf_counter() - started
            evidence: list[Evidence] = []
            for analyzer, start, end in self._parts(media.info.kind):
                started = time.perf_counter()
                with watch.part(start, end):
                    watch.step(analyzer.name, 0.0)
                    evidence += self._analyze(analyzer, media, options)
                seconds[analyzer.name] = time.perf_counter() - started
            if media.has_other_tracks:
                evidence.append(skip("tracks", Code.OTHER_TRACKS))
            self.engine.check_kind(media.info.kind)
            fingerprint = None
            index = self.known if known is None else known
            compared = known is not None or bool(index.entries)
            if compared or alike:
                started = time.perf_counter()
                fingerprint = take_fingerprint(media, parts=compared)
                evidence += look_up(fingerprint, index, sha256=media.info.sha256)
                seconds["known"] = time.perf_counter() - started
            watch.step("done", 1.0)
            policy = self.policy
            if options.trust_claims:
                policy = replace(policy, trust_claims=True)
            decision = fusion.decide(
                evidence, kind=media.info.kind, policy=policy, prior=options.prior
            )
            return Report(
                path=name or (str(source) if isinstance(source, str | PathLike) else media.name),
                media=media.info,
                verdict=decision.verdict,
                probability=decision.probability,
                interval=decision.interval,
                reasons=decision.reasons,
                evidence=tuple(evidence),
                warnings=(
                    *media.warnings,
                    *self.engine.warnings,
                    *self.engine.warn_of_precision(media.info.kind),
                    *warn_of_tiers(evidence),
                ),
                versions=self.versions,
                bundles={slot: one.sha256 for slot, one in sorted(self.engine.active.items())},
                seconds_by_step=seconds,
                examined_at=examined_at,
                fingerprint=None if fingerprint is None else fingerprint.to_dict(),
            )

    async def detect_async(
        self,
        source: Source,
        options: DetectOptions | None = None,
        *,
        name: str | None = None,
        sample_rate: int | None = None,
        progress: Progress | None = None,
        deadline: float | None = None,
    ) -> Report:
        """:meth:`detect` in a thread, for pipelines that must not block their event loop.

        ``progress`` is called in that thread. Cancelling the task raises in it at once, and soon
        ends the thread too.
        """
        import asyncio

        self.engine.require_open()
        cancel = threading.Event()
        try:
            return await asyncio.to_thread(
                self.detect,
                source,
                options,
                name=name,
                sample_rate=sample_rate,
                progress=progress,
                cancel=cancel,
                deadline=deadline,
            )
        finally:
            cancel.set()

    def detect_many(
        self,
        sources: Iterable[Source],
        options: DetectOptions | None = None,
        *,
        workers: int = 4,
        file_seconds: float | None = None,
    ) -> Iterator[Report | DeepfakeError]:
        """Examine many files, in their order, a few at a time; their windows share batches.

        A file that cannot be read, that takes more than ``file_seconds`` (by default those of the
        settings) or that meets a bug (code ``internal``) gives its error in place of a report, with
        its ``source``, and the others go on. Raises ``BackendError`` at once when the detector is
        closed, and ``ModelError`` when the full tier is wanted and not installed.
        """
        self.engine.require_open()
        self.engine.require_effort((options or DetectOptions()).effort)
        file_seconds = self.settings.file_seconds if file_seconds is None else file_seconds
        if file_seconds is not None and not file_seconds > 0:
            raise SettingsError(
                f"option file_seconds {file_seconds!r}: not positive", hint="give more"
            )
        return self._detect_each(sources, options, workers, file_seconds)

    def _detect_each(
        self,
        sources: Iterable[Source],
        options: DetectOptions | None,
        workers: int,
        file_seconds: float | None,
    ) -> Iterator[Report | DeepfakeError]:
        cancel = threading.Event()

        def examine(position: int, source: Source) -> Report | DeepfakeError:
            name = source_name(source)
            deadline = deadline_after(file_seconds)
            try:
                with contain_faults(name):
                    return self.detect(source, options, cancel=cancel, deadline=deadline)
            except DeepfakeError as error:
                error.source = FailedSource(name, position)
                return error

        with ThreadPoolExecutor(workers, thread_name_prefix="deepfake-detect") as pool:
            running: deque[Future[Report | DeepfakeError]] = deque()
            try:
                for position, source in enumerate(sources):
                    running.append(pool.submit(examine, position, source))
                    if len(running) >= 2 * workers:
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            finally:
                cancel.set()  # for a caller that has seen enough
                for future in running:
                    future.cancel()

    def close(self) -> None:
        """Release the backends; later calls raise ``BackendError``."""
        self.engine.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _parts(self, kind: Kind) -> Iterator[tuple[Analyzer, float, float]]:
        """The analyzers for a kind of media, and the part of the progress that is theirs."""
        chosen = [analyzer for analyzer in self.analyzers if kind in analyzer.kinds]
        weights = [WEIGHTS.get(analyzer.name, 1.0) for analyzer in chosen]
        start = OPENING_SHARE
        for analyzer, weight in zip(chosen, weights, strict=True):
            end = start + (1 - OPENING_SHARE) * weight / sum(weights)
            yield analyzer, start, end
            start = end

    def _analyze(self, analyzer: Analyzer, media: Media, options: DetectOptions) -> list[Evidence]:
        try:
            found = analyzer.analyze(media, self.engine, options)
            return [self._with_runtime(evidence) for evidence in found]
        except Cancelled:
            raise
        except DeepfakeError as error:
            self.engine.require_open()  # else a file would be judged without the models
            if isinstance(error, ModelError) and error.code == ModelError.code:
                raise  # the fault is not the file's; a slot without a bundle has another code
            return [
                Evidence(
                    source=analyzer.name,
                    status=Status.FAILED,
                    reason=error.code,
                    claim=f"The {analyzer.name} evidence could not be examined: {error}.",
                )
            ]

    def _with_runtime(self, evidence: Evidence) -> Evidence:
        """The evidence of a bundle with what ran it."""
        for bundle in self.engine.active.values():
            if evidence.bundle == bundle.name:
                return replace(evidence, runtime=self.engine.runtime_of(bundle))
        return evidence


def warn_of_tiers(evidence: Sequence[Evidence]) -> list[str]:
    """Sentences about full tiers that would have been asked and are not installed."""
    lacking = {str(one.details[MISSING]) for one in evidence if MISSING in one.details}
    return [
        f"{name}, the full tier, would have been asked, but is not installed; to have it, run: "
        f"{word_install(name)} [{Code.FULL_TIER_MISSING}]"
        for name in sorted(lacking)
    ]


def utc_now() -> str:
    """The time in UTC as ISO 8601 has it, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def name_versions(bundles: Mapping[str, Bundle]) -> dict[str, str]:
    """The package, and the bundle of every slot."""
    return {"deepfake": VERSION, **{slot: bundle.name for slot, bundle in bundles.items()}}
