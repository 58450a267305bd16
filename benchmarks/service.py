"""What the service adds to a bare ``Detector``, how many clients it bears, its memory.

    python -m benchmarks.service
    python -m benchmarks.service --memory-requests 20000 --video-seconds 7200

A ``deepfake serve`` of its own, on this machine's loopback, is asked by clients in one process that
keep their connections; every picture is small, and another one. *Bare* is ``Detector.detect`` in as
many threads as the service has, in turns with it, on the same pictures. The load generator works on
the same cores: what it takes itself counts against the service, but for processor time and memory,
which are those of the server and its decoders alone. Memory is watched over pictures of 0.03
megapixels, of which twenty thousand take minutes. A long video is examined as a job, while one
client goes on sending pictures.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from statistics import median, quantiles
from threading import Event, Lock, local

from deepfake.detector import Detector
from deepfake.settings import DetectOptions, Settings
from deepfake.trust.audit import AuditLog
from deepfake.trust.keys import make_pair

from .hostile import make_video
from .media import make_pictures
from .processes import count_bytes, count_processor_seconds, list_family
from .timing import count_cores, make_console, make_parser, print_machine, print_results

CLIENTS = (1, 8, 64)
OPTIONS = DetectOptions(effort="quick")
TRIES = 3
LONGEST_SECONDS = 7200
HEAD = (
    "clients",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "refusals",
    "errors",
    "bare files/s",
    "service / bare",
    "processor ms",
    "service / bare",
)


class Asking:
    """Sends pictures to a service over one kept connection for each thread.

    What the service refuses for now (429, 503) is sent again after its ``Retry-After``, and counts
    in ``refusals``. An answer may come before the body was sent, after which the service closes the
    connection: it is read, if it still can be. A connection that ended without an answer is opened
    anew; if it had just been opened, that counts in ``errors``, and after :data:`TRIES` the request
    is given up.
    """

    def __init__(self, port: int) -> None:
        self._port, self._here = port, local()
        self._lock = Lock()
        self._connections: list[http.client.HTTPConnection] = []
        self.refusals = self.errors = 0

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def detect(self, content: bytes) -> float:
        """The seconds that a report took, with the waits after refusals."""
        started = time.perf_counter()
        self.send("POST", "/v1/detect?effort=quick", content, expected=200)
        return time.perf_counter() - started

    def send(self, method: str, path: str, content: bytes = b"", *, expected: int) -> bytes:
        """The answer to a request. Raises ``RuntimeError`` for one that was not ``expected``."""
        lost = 0
        while lost < TRIES:
            connection = self._connect()
            fresh = connection.sock is None
            try:
                answer = _exchange(connection, method, path, content)
                said: bytes = answer.read()
            except (ConnectionError, http.client.HTTPException):
                connection.close()
                if fresh:  # else it had been idle for too long
                    self._count(errors=1)
                    lost += 1
                continue
            if answer.status == expected:
                return said
            pause = answer.getheader("Retry-After")
            if answer.status not in (429, 503) or pause is None:
                raise RuntimeError(f"{method} {path}: {answer.status} {said[:300]!r}")
            self._count(refusals=1)
            time.sleep(float(pause))
        raise RuntimeError(f"{method} {path}: no answer on {TRIES} new connections")

    def _connect(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._here, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=900)
            self._here.connection = connection
            with self._lock:
                self._connections.append(connection)
        return connection

    def _count(self, *, refusals: int = 0, errors: int = 0) -> None:
        with self._lock:
            self.refusals += refusals
            self.errors += errors


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, content: bytes
) -> http.client.HTTPResponse:
    headers = {"Content-Type": "application/octet-stream"} if content else {}
    with suppress(ConnectionError):  # the answer is there already, or getting it raises the same
        connection.request(method, path, content or None, headers)
    return connection.getresponse()


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[int, int]]:
    """The port and the process of a service of its own."""
    command = [sys.executable, "-m", "deepfake", "serve", "--port", "0", "--data", str(folder)]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        if found is None:
            raise RuntimeError("the service did not start")
        yield int(found[1]), process.pid
    finally:
        process.terminate()
        process.communicate(timeout=60)


def read_megabytes(process: int) -> float:
    """What a process and all below it hold in memory, without counting shared pages twice."""
    return sum(map(count_bytes, list_family(process))) / 2**20


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser("service", __doc__, repeats=3)
    parser.add_argument("--files", type=int, default=64, help="requests of a round (64)")
    parser.add_argument(
        "--memory-requests",
        type=int,
        default=2000,
        help="over which memory is watched, 0 for none (2000)",
    )
    parser.add_argument(
        "--video-seconds", type=int, default=600, help="of the long video, 0 for none (600)"
    )
    options = parser.parse_args(arguments)
    console = make_console()
    print_machine("fastapi", "uvicorn", repeats=options.repeats, console=console)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = make_pictures(folder / "pictures", megapixels=0.1, files=options.files)
        paths = list(pictures.paths)
        contents = [path.read_bytes() for path in paths]
        with (
            serving(folder / "service", "--file-seconds", str(LONGEST_SECONDS)) as (port, process),
            closing(Asking(port)) as asking,
        ):
            with Detector(Settings()) as detector:
                detector.engine.warm()
                rows = time_entries(folder / "audit.jsonl", detector)
                print_results(
                    "An entry of the audit log", ["p50 ms", "p99 ms"], rows, console=console
                )
                rows = compare(asking, process, detector, paths, contents, repeats=options.repeats)
            print_results("Small pictures", HEAD, rows, console=console)
            if options.memory_requests:
                tiny = make_pictures(folder / "tiny", megapixels=0.03, files=options.files)
                small = [path.read_bytes() for path in tiny.paths]
                rows = watch_memory(asking, process, small, count=options.memory_requests)
                print_results("Memory", ["requests", "MiB"], rows, console=console)
            if options.video_seconds:
                path = folder / "long.webm"
                path.write_bytes(make_video(10 * options.video_seconds, size=(320, 240), rate=10))
                rows = beside_a_video(asking, path, contents)
                head = ["while", "requests", "p50 ms", "p99 ms"]
                title = f"Others beside a video of {options.video_seconds} s"
                print_results(title, head, rows, console=console)
    return 0


def compare(
    asking: Asking,
    process: int,
    detector: Detector,
    paths: list[Path],
    contents: list[bytes],
    *,
    repeats: int,
) -> list[list[str]]:
    """A row for each number of clients: medians of rounds of the service and of the detector."""

    def examine(path: Path) -> None:
        detector.detect(path, OPTIONS)

    rows = []
    for clients in CLIENTS:
        asked, bare, waits = [], [], []
        refusals, errors = asking.refusals, asking.errors
        threads = min(clients, count_cores())
        with ThreadPoolExecutor(clients) as askers, ThreadPoolExecutor(threads) as examiners:
            for round_ in range(repeats + 1):
                took: list[float] = []
                of_service = _Clock(process)
                took += askers.map(asking.detect, contents)
                of_service.stop()
                of_detector = _Clock(os.getpid(), without=process)
                list(examiners.map(examine, paths))
                of_detector.stop()
                if round_:  # the first warms up
                    asked.append(of_service)
                    bare.append(of_detector)
                    waits += took
        rows.append(
            [
                str(clients),
                f"{len(paths) / median(one.seconds for one in asked):.1f}",
                *_word_waits(waits),
                str(asking.refusals - refusals),
                str(asking.errors - errors),
                f"{len(paths) / median(one.seconds for one in bare):.1f}",
                _word_ratio(asked, bare, "seconds"),
                f"{1000 * median(one.processor_seconds for one in asked) / len(paths):.0f}",
                _word_ratio(asked, bare, "processor_seconds"),
            ]
        )
    return rows


def time_entries(path: Path, detector: Detector, *, count: int = 300) -> list[list[str]]:
    """What it takes to enter an examination in an audit log, with its ``fsync``."""
    seconds = []
    with AuditLog(path, make_pair(path.with_suffix(".keys")), who="benchmark") as log:
        for number in range(count):
            started = time.perf_counter()
            log.append(
                "detect",
                media=f"{number:064x}",
                bundles=detector.engine.active,
                verdict="inconclusive",
            )
            seconds.append(time.perf_counter() - started)
    return [_word_waits(seconds)]


class _Clock:
    """Wall seconds, and processor seconds of a process and all below it, but for those of another
    one.
    """

    def __init__(self, process: int, *, without: int | None = None) -> None:
        self._process, self._without = process, without
        self._before, self._started = self._count(), time.perf_counter()
        self.seconds = self.processor_seconds = 0.0

    def stop(self) -> None:
        self.seconds = time.perf_counter() - self._started
        self.processor_seconds = self._count() - self._before

    def _count(self) -> float:
        other = 0.0 if self._without is None else count_processor_seconds(self._without)
        return count_processor_seconds(self._process) - other


def _word_ratio(ours: list[_Clock], theirs: list[_Clock], of: str) -> str:
    pairs = zip(ours, theirs, strict=True)
    return f"{median(getattr(one, of) / getattr(other, of) for one, other in pairs):.2f}"


def watch_memory(
    asking: Asking, process: int, contents: list[bytes], *, count: int
) -> list[list[str]]:
    """The memory of the service before and while it answers so many requests."""
    rows = [["0", f"{read_megabytes(process):.0f}"]]
    parts = 10
    with ThreadPoolExecutor(8) as askers:
        for part in range(1, parts + 1):
            share = [contents[place % len(contents)] for place in range(count // parts)]
            list(askers.map(asking.detect, share))
            rows.append([str(part * (count // parts)), f"{read_megabytes(process):.0f}"])
    return rows


def beside_a_video(asking: Asking, path: Path, contents: list[bytes]) -> list[list[str]]:
    """How long one client waits for reports before and while a long video is a job."""
    alone = [asking.detect(content) for content in contents]
    job = json.loads(asking.send("POST", "/v1/jobs?effort=quick", path.read_bytes(), expected=202))[
        "id"
    ]
    ended = Event()

    def follow() -> None:
        while json.loads(asking.send("GET", f"/v1/jobs/{job}", expected=200))["state"] in (
            "queued",
            "running",
        ):
            time.sleep(0.5)
        ended.set()

    beside = []
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow)
        started = time.perf_counter()
        while not ended.is_set():
            beside.append(asking.detect(contents[len(beside) % len(contents)]))
        took = time.perf_counter() - started
        following.result()
    state = json.loads(asking.send("GET", f"/v1/jobs/{job}", expected=200))["state"]
    return [
        ["nothing else", str(len(alone)), *_word_waits(alone)],
        [f"the video, {took:.0f} s, {state}", str(len(beside)), *_word_waits(beside)],
    ]


def _word_waits(seconds: list[float]) -> list[str]:
    p99 = quantiles(seconds, n=100)[98] if len(seconds) > 1 else seconds[0]
    return [f"{1000 * median(seconds):.3g}", f"{1000 * p99:.3g}"]


if __name__ == "__main__":
    sys.exit(main())
