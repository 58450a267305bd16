"""Scans of whole folders: a journal that resumes, workers that do not fall with a file.

The results file is the journal. Each line is one finished file: a report, or the error that the
file gave, with a ``journal`` key that tells which state of the file and which models it is about.
A line is appended in one write; a torn last line of a killed run is cut off at the next start.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from .detector import Detector
from .errors import DeepfakeError, SettingsError, UnsupportedMedia
from .progress import ctrl_c
from .settings import DetectOptions, Settings
from .types import SCHEMA

MEDIA_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".avif",
        ".heic",
        ".heif",
        ".gif",
        ".tif",
        ".tiff",
        ".bmp",
        ".wav",
        ".flac",
        ".mp3",
        ".ogg",
        ".oga",
        ".opus",
        ".m4a",
        ".aac",
        ".mp4",
        ".m4v",
        ".mov",
        ".webm",
        ".mkv",
        ".avi",
    ]
)
CSV_COLUMNS = ("path", "kind", "verdict", "probability", "low", "high", "reason", "error", "sha256")

_STARTS = (f'{{"schema": "{SCHEMA}"'.encode(), b'{"path": ')
"""How the lines of a scan begin: only such a torn line is cut off, never one of another file."""

Line = dict[str, Any]


@dataclass
class Journal:
    """The results file, open for appending. ``done`` maps a file's key to the outcome stored."""

    path: Path
    versions: dict[str, str]
    done: dict[str, str] = field(default_factory=dict)
    _file: Any = None

    def __enter__(self) -> Journal:
        try:
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise SettingsError(
                f"results file {str(self.path)!r}: {error.strerror}",
                hint="choose another --output",
            ) from error
        self._file.seek(0)
        whole = 0
        for raw in self._file:
            torn = not raw.endswith(b"\n")
            if torn and raw.startswith(_STARTS) and not _is_json(raw):
                break
            try:
                line = json.loads(raw)
                entry = line["journal"]
                key, versions = entry["key"], entry["versions"]
            except (ValueError, KeyError, TypeError) as error:
                self._file.close()
                raise SettingsError(
                    f"results file {str(self.path)!r}: holds a line that is not of a scan",
                    hint="choose another --output",
                ) from error
            if torn:
                break
            whole += len(raw)
            if versions == self.versions:
                self.done[key] = outcome(line)
        self._file.truncate(whole)
        return self

    def append(self, line: Line) -> None:
        """Add one finished file, with a single write."""
        self._file.write(json.dumps(line).encode("ascii") + b"\n")
        self.done[line["journal"]["key"]] = outcome(line)

    def __exit__(self, *_: object) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


@dataclass(frozen=True)
class Summary:
    """What a scan came to. ``outcomes`` counts verdicts, ``failed`` and ``not_media``."""

    outcomes: Counter[str]
    scanned: int
    resumed: int
    interrupted: bool

    @property
    def failed(self) -> int:
        return self.outcomes["failed"]


def scan(
    roots: Iterable[Path],
    *,
    output: Path,
    settings: Settings | None = None,
    options: DetectOptions | None = None,
    workers: int = 0,
    progress: Callable[[int, int, Line | None], None] | None = None,
) -> Summary:
    """Examine every file below ``roots`` and append each result to ``output``.

    Files that ``output`` already holds in their present state, for the present models, are not
    examined again. ``workers`` processes run with one thread each (0 for one per core); with 1 the
    work stays in this process. ``progress(done, total, line)`` is called once at the start and
    after each file. Ctrl-C ends the scan after the files that are in work and sets ``interrupted``.
    """
    settings = settings or Settings()
    options = options or DetectOptions()
    paths = [path for path in find_files(roots) if not _is_same(path, output)]
    paths = list(dict.fromkeys(paths))
    with Detector(settings) as detector:
        versions = detector.versions
    with Journal(output, versions) as journal:
        keys = {path: file_key(path) for path in paths}
        todo = [path for path in paths if keys[path] not in journal.done]
        resumed = len(paths) - len(todo)
        if progress:
            progress(resumed, len(paths), None)
        workers = min(workers or os.cpu_count() or 1, max(1, len(todo)))
        finished = 0
        with ctrl_c() as stop:
            waiting = itertools.takewhile(lambda _: not stop.is_set(), todo)
            for path, line in _run(waiting, settings=settings, options=options, workers=workers):
                line["journal"] = {"key": keys[path], "versions": versions}
                journal.append(line)
                finished += 1
                if progress:
                    progress(resumed + finished, len(paths), line)
        outcomes = Counter(journal.done[key] for key in keys.values() if key in journal.done)
    return Summary(outcomes, finished, resumed, stop.is_set())


def find_files(roots: Iterable[Path]) -> Iterator[Path]:
    """Every file below the roots in a stable order; folders behind links are not entered.

    Raises ``SettingsError`` for a root that does not exist.
    """
    for root in roots:
        if not os.path.lexists(root):
            raise SettingsError(f"path {str(root)!r}: does not exist", hint="check the spelling")
        if not root.is_dir():
            yield root
            continue
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                yield Path(folder, name)


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except ValueError:
        return False
    return True


def _is_same(path: Path, output: Path) -> bool:
    """Whether ``path`` is the results file, which may lie in the folder that is scanned."""
    try:
        return path.name == output.name and path.samefile(output)
    except OSError:
        return False


def file_key(path: Path) -> str:
    """A file in one state: its path, size and time of modification."""
    try:
        facts = path.stat()
        size, modified = facts.st_size, facts.st_mtime_ns
        if not stat.S_ISREG(facts.st_mode):
            size = modified = 0
    except OSError:
        size = modified = 0
    return f"{path}|{size}|{modified}"


def outcome(line: Line) -> str:
    """``failed``, ``not_media`` or the verdict of a journal line."""
    if "error" in line:
        return "not_media" if line["error"]["code"] == "not_media" else "failed"
    return str(line["verdict"])


def read_results(path: Path) -> Iterator[Line]:
    """The last line of each file's path in a results file, in the order of first appearance."""
    latest: dict[str, Line] = {}
    with path.open("rb") as lines:
        for raw in lines:
            if raw.endswith(b"\n"):
                line = json.loads(raw)
                latest[line["path"]] = line
    yield from latest.values()


def write_csv(results: Path, output: Path) -> None:
    """One row for each file of a results file; file names keep their bytes.

    A leading ``=``, ``+``, ``-`` or ``@`` gets an apostrophe, so that a spreadsheet does not run a
    file name as a formula.
    """
    with output.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(CSV_COLUMNS)
        for line in read_results(results):
            error = line.get("error", {}).get("message", "")
            low, high = line.get("interval") or ("", "")
            reason = line["reasons"][0]["code"] if line.get("reasons") else ""
            row = [line["path"], line.get("kind", ""), outcome(line), line.get("probability", "")]
            row += [low, high, reason, error, line.get("sha256", "")]
            rows.writerow(_inert(cell) for cell in row)


def _inert(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + cell
    return "" if cell is None else cell


def examine(detector: Detector, path: Path, options: DetectOptions) -> Line:
    """The journal line of one file, without its ``journal`` key."""
    try:
        return detector.detect(path, options).to_dict()
    except DeepfakeError as error:
        code = error.code
        if isinstance(error, UnsupportedMedia) and path.suffix.lower() not in MEDIA_SUFFIXES:
            code = "not_media"
        return _error_line(path, code, str(error))


def _error_line(path: Path, code: str, message: str) -> Line:
    return {"path": str(path), "error": {"code": code, "message": message}}


def _run(
    waiting: Iterator[Path], *, settings: Settings, options: DetectOptions, workers: int
) -> Iterator[tuple[Path, Line]]:
    if workers == 1:
        with Detector(settings) as detector:
            for path in waiting:
                yield path, examine(detector, path, options)
        return
    alone: list[Path] = []
    while True:
        lost = yield from _run_pool(waiting, settings, options, workers)
        if not lost:
            break
        alone += lost
    for path in alone:  # which of them ended a worker is found by running each in its own
        lost = yield from _run_pool(iter([path]), settings, options, 1)
        if lost:
            message = "the worker that examined it died; try it alone with deepfake detect"
            yield path, _error_line(path, "worker_died", message)


def _run_pool(
    waiting: Iterator[Path], settings: Settings, options: DetectOptions, workers: int
) -> Any:
    """Yield finished files; return those that were in work when a worker died, or nothing."""
    running: dict[Future[Line], Path] = {}
    pool = ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=_start_worker,
        initargs=(replace(settings, threads=1), options),
    )
    try:
        while True:
            while len(running) < 2 * workers and (path := next(waiting, None)) is not None:
                running[pool.submit(_work, path)] = path
            if not running:
                return []
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                line = future.result()
                yield running.pop(future), line
    except BrokenProcessPool:
        return list(running.values())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: tuple[Detector, DetectOptions] | None = None


def _start_worker(settings: Settings, options: DetectOptions) -> None:
    global _worker  # noqa: PLW0603 - the one object that a worker process keeps
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker = Detector(settings), options


def _work(path: Path) -> Line:
    assert _worker is not None
    detector, options = _worker
    return examine(detector, path, options)
