"""Scans of whole collections: what is left to do, in what order, and what it came to.

A scan lists files (:mod:`.listing`), has them examined (:mod:`.executors`) and appends each result
to the results file (:mod:`.journal`), from which it goes on when it was stopped. Files with equal
content are examined once and reported each.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..detector import name_versions
from ..engine.engine import check_bundles
from ..errors import DeepfakeError, SettingsError
from ..known.index import digest_known
from ..progress import ctrl_c
from ..reasons import Code
from ..settings import DetectOptions, Settings
from ..trust.changes import read_mark
from ..trust.registry import digest_bundles, read_bundles
from ..trust.signatures import Trust, require_signed
from .executors import Executor, Line, Task, WorkerSetup, choose_local
from .journal import Journal
from .listing import (
    STANDARD_INPUT,
    Filter,
    Found,
    Lookahead,
    check_sources,
    fingerprint,
    list_sources,
)
from .repair import find_originals
from .results import outcome

MOST_HELD = 1000
"""Most files that wait for one with probably the same content."""
_PATIENCE_SECONDS = 0.05


@dataclass
class Summary:
    """What a scan came to, and how far it is while it runs.

    ``changes`` holds, for each time that other models were taken up, how many files had been
    examined until then; the same scan examines those again. ``outcomes`` counts verdicts,
    ``failed`` and ``not_media`` of the files that were listed; ``listed`` is how many those are so
    far, all of them once ``complete``. ``scanned`` files were examined in this run, ``duplicates``
    of them by their sha256 alone; ``resumed`` ones were in the results file already.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    scanned: int = 0
    resumed: int = 0
    duplicates: int = 0
    listed: int = 0
    complete: bool = False
    interrupted: bool = False
    changes: list[int] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return self.outcomes["failed"]


Progress = Callable[[Summary, Line | None], None]
"""Called after each file with its line, and now and then with none."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which files of the sources a scan takes.

    ``include`` and ``exclude`` are globs on the path relative to its source; ``apart`` are files
    that are never taken. ``max_files`` ends the scan after that many that were not yet done. With
    ``poll_seconds`` the sources are looked through again and again; a file is taken once it is the
    same at two looks.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    apart: Sequence[Path] = ()
    max_files: int | None = None
    poll_seconds: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("max_files", self.max_files), ("poll_seconds", self.poll_seconds)):
            if value is not None and value <= 0:
                raise SettingsError(f"option {name} {value!r}: not positive", hint="give more")


def scan(
    sources: Sequence[str | Path],
    *,
    output: Path,
    settings: Settings | None = None,
    options: DetectOptions | None = None,
    selection: Selection | None = None,
    file_seconds: float | None = None,
    workers: int = 0,
    executor: Callable[[WorkerSetup, int], Executor] = choose_local,
    progress: Progress | None = None,
) -> Summary:
    """Examine every file of the sources and append each result to ``output``.

    A source is a folder, a file, a URL such as ``s3://bucket/prefix``, or a list of such: a
    ``.txt`` file, or ``-`` for standard input. Files that ``output`` already holds in their present
    state, for the present models and options, are not examined again. ``executor(setup, workers)``
    makes what examines; ``workers`` 0 is one for each core that it has. A file that takes more than
    ``file_seconds``, by default those of the settings, is recorded as failed. Ctrl-C ends the scan
    after the files that are in work and sets ``interrupted``, a second one at once; nothing that
    was finished is lost. When other models are activated meanwhile, the files in work are finished
    with the former ones and all others examined with the present ones.

    Raises ``SettingsError`` for a source that does not exist, and a results file that is of
    something else or in use; and ``ModelError``, before any file, when an active bundle is missing,
    differs from its sha256 or cannot be loaded.
    """
    settings, selection = settings or Settings(), selection or Selection()
    file_seconds = settings.file_seconds if file_seconds is None else file_seconds
    if file_seconds is not None and not file_seconds > 0:
        raise SettingsError(f"option file_seconds {file_seconds!r}: not positive")
    if selection.poll_seconds and STANDARD_INPUT in map(str, sources):
        raise SettingsError("option watch: standard input cannot be read twice", hint="use a file")
    places = [str(source) for source in sources]
    check_sources(places)
    setup = WorkerSetup(settings, options or DetectOptions(), file_seconds)
    models = _Models(setup)
    apart = Filter(
        include=selection.include,
        exclude=selection.exclude,
        apart=[output, *find_originals(output), *selection.apart],
    )
    with Journal(output, versions=models.versions, setup=setup) as journal, ctrl_c() as stop:
        feed = _Feed(journal, stop, selection, progress, models)
        examining = executor(models.setup, workers)
        try:
            while True:
                feed.look(list_sources(places, apart, is_unlisted=journal.is_unlisted))
                while feed.has_more():
                    for task, line in examining.run(feed.tasks()):
                        feed.answer(task, line)
                    if models.moved() and not stop.is_set():
                        examining.close()
                        models.take()
                        feed.change_models()
                        examining = executor(models.setup, workers)
                if not selection.poll_seconds or feed.is_full() or stop.is_set():
                    break
                if stop.wait(selection.poll_seconds):
                    break
        finally:
            feed.close()
            examining.close()
    feed.summary.interrupted = stop.is_set()
    return feed.summary


class _Models:
    """The models that answer: checked, named in the journal, and looked at between files.

    Raises ``ModelError`` for what cannot be used.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._first = setup
        self.take()

    def take(self) -> None:
        """Those that are active now."""
        settings = self._first.settings
        self.mixed, self._mark = False, read_mark(settings.models_folder)
        bundles = check_bundles(settings, effort=self._first.options.effort)
        digest = digest_bundles(bundles)
        self.setup = replace(self._first, models=digest)
        self.versions = name_versions(bundles) | {"bundles": digest}
        if settings.known is not None:
            self.versions["known"] = digest_known(settings.known)

    def moved(self) -> bool:
        """Whether others were activated meanwhile, or one of these was revoked, or a worker has
        found others.
        """
        settings = self._first.settings
        mark = read_mark(settings.models_folder)
        if mark != self._mark and not self.mixed:
            try:
                bundles = read_bundles(settings.models_folder)
                require_signed(bundles.values(), Trust.read(settings))
                self.mixed = digest_bundles(bundles) != self.setup.models
            except DeepfakeError:
                self.mixed = True  # which :meth:`take` says
            self._mark = mark
        return self.mixed


class _Feed:
    """What is still to be examined, in the order of the listing, less what must wait.

    Two files whose content is probably the same are not in work at once, so that the second one
    can be answered by its sha256.
    """

    def __init__(
        self,
        journal: Journal,
        stop: threading.Event,
        selection: Selection,
        progress: Progress | None,
        models: _Models,
    ) -> None:
        self.summary = Summary()
        self._journal, self._stop, self._progress = journal, stop, progress
        self._models = models
        self._left = selection.max_files
        self._poll_seconds = selection.poll_seconds
        self._listing: Lookahead | None = None
        self._seen: set[int] = set()
        self._looks = self._repeated = 0
        self._problems: dict[str, Line] = {}
        self._unsettled: tuple[dict[str, str], dict[str, str]] = {}, {}
        self._in_work: dict[str, tuple[Found, int]] = {}
        self._held: dict[int, list[Found]] = {}
        self._released: deque[Found] = deque()
        self._examined: set[int] = set()

    def look(self, found: Iterator[Found]) -> None:
        """Begin to go through a listing."""
        self.close()
        self._listing = Lookahead(found)
        self._seen.clear()
        self._looks, self._repeated = self._looks + 1, 0
        self._unsettled = self._unsettled[1], {}
        before = self.summary
        self.summary = Summary(
            scanned=before.scanned, duplicates=before.duplicates, changes=before.changes
        )

    def change_models(self) -> None:
        """Go on with other models."""
        self.summary.changes.append(self.summary.scanned)
        self._journal.change_models(self._models.versions)
        self._examined.clear()

    def close(self) -> None:
        """Stop listing."""
        if self._listing:
            self._listing.close()

    def is_full(self) -> bool:
        """Whether as many files were taken as were wanted."""
        return self._left is not None and self._left <= 0

    def has_more(self) -> bool:
        """Whether there is more to examine once that which is in work is answered."""
        if self._stop.is_set() or self.is_full():
            return False
        return bool(self._released or self._held) or not (self._listing and self._listing.ended)

    def tasks(self) -> Iterator[Task]:
        """What can be examined now; ends when nothing more can before something is answered, or
        before other models are taken up.
        """
        while not self._stop.is_set() and not self.is_full() and not self._models.moved():
            found = self._released.popleft() if self._released else self._next()
            if found is None:
                return
            group = fingerprint(found.path, found.size_bytes) if found.size_bytes else 0
            if group in self._held:
                self._held[group].append(found)
                if sum(map(len, self._held.values())) >= MOST_HELD:
                    return
                continue
            if group and group not in self._examined:
                self._held[group] = []
            self._in_work[found.path] = found, group
            if self._left is not None:
                self._left -= 1
            yield Task(found.path, self._journal.known(found.size_bytes))

    def answer(self, task: Task, line: Line) -> None:
        """Store what a task came to, and let go of those that waited for it."""
        found, group = self._in_work.pop(task.path)
        if line.get("error", {}).get("code") == Code.MODELS_CHANGED:
            self._models.mixed = True
            self._released.extend([found, *self._held.pop(group, ())])
            if self._left is not None:
                self._left += 1
            return
        self._released.extend(self._held.pop(group, ()))
        if "error" not in line:
            self._examined.add(group)
        self._store(found, line)

    def _next(self) -> Found | None:
        """The next listed file that is to be examined."""
        assert self._listing is not None
        while not self._stop.is_set():
            found = self._listing.take(seconds=_PATIENCE_SECONDS)
            self.summary.listed = self._listing.count - self._repeated
            self.summary.complete = self._listing.complete
            if found is None:
                if self._listing.ended or self._in_work:
                    return None
                self._tell(None)
                continue
            if (path := hash(found.path)) in self._seen:
                self._repeated += 1
                continue
            self._seen.add(path)
            if found.problem or found.listed:
                self._note_place(found)
                continue
            done = self._journal.outcome(found.path, found.key)
            if done is not None:
                self.summary.resumed += 1
                self.summary.outcomes[done] += 1
                if self.summary.resumed % 1000 == 0:
                    self._tell(None)
            elif self._is_settled(found):
                return found
        return None

    def _note_place(self, found: Found) -> None:
        """Store that a place could not be listed, once however often it is looked at, or can be."""
        if found.problem is None:
            self._repeated += 1
            self._problems.pop(found.path, None)
            self._journal.append({"path": found.path, "listed": True}, key=found.key)
        elif self._problems.get(found.path) != found.problem:
            self._problems[found.path] = found.problem
            self._store(found, dict(found.problem))
        else:
            self.summary.resumed += 1
            self.summary.outcomes[outcome(found.problem)] += 1
            self._tell(None)

    def _is_settled(self, found: Found) -> bool:
        """Whether a file can be taken for complete, where files come while the scan watches."""
        if self._poll_seconds is None:
            return True
        before, now = self._unsettled
        if before.get(found.path) == found.key:
            return True
        if self._looks == 1 and time.time() - (found.changed or 0) > self._poll_seconds:
            return True
        now[found.path] = found.key
        return False

    def _store(self, found: Found, line: Line) -> None:
        line = self._journal.append(line, key=found.key)
        self.summary.outcomes[outcome(line)] += 1
        self.summary.scanned += 1
        self.summary.duplicates += "duplicate_of" in line
        self._tell(line)

    def _tell(self, line: Line | None) -> None:
        if self._progress:
            self._progress(self.summary, line)
