"""What the service adds to a bare ``Detector``, how many clients it bears, its memory.

    python -m benchmarks.service
    python -m benchmarks.service --memory-requests 20000 --video-seconds 7200

A ``deepfake serve`` of its own, on this machine's loopback, is asked by clients in one process that
keep their connections; every picture is small, and another one. *Bare* is ``Detector.detect`` in as
many threads as the service has, in turns with it, on the same pictures. The load generator works on
the same cores: what it takes itself counts against the service. Memory is that of the server and
its decoders. A long video is examined as a job, while one client goes on sending pictures.
"""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median, quantiles
from threading import Event, local

from deepfake.detector import Detector
from deepfake.settings import DetectOptions, Settings

from .hostile import make_video
from .media import make_pictures
from .timing import count_cores, make_console, make_parser, print_machine, print_results

CLIENTS = (1, 8, 64)
OPTIONS = DetectOptions(effort="quick")


class Asking:
    """Sends pictures to a service over one kept connection for each thread."""

    def __init__(self, port: int) -> None:
        self._port, self._here = port, local()
        self._connections: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def detect(self, content: bytes) -> float:
        """The seconds that a report took."""
        started = time.perf_counter()
        self.send("POST", "/v1/detect?effort=quick", content, expected=200)
        return time.perf_counter() - started

    def send(self, method: str, path: str, content: bytes = b"", *, expected: int) -> bytes:
        connection = getattr(self._here, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=900)
            self._here.connection = connection
            self._connections.append(connection)
        headers = {"Content-Type": "application/octet-stream"} if content else {}
        try:
            connection.request(method, path, content or None, headers)
            answer = connection.getresponse()
        except ConnectionError:  # it was idle for too long, and is opened anew
            connection.close()
            connection.request(method, path, content or None, headers)
            answer = connection.getresponse()
        said: bytes = answer.read()
        if answer.status != expected:
            raise RuntimeError(f"{method} {path}: {answer.status} {said[:300]!r}")
        return said


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
    below = [
        int(child)
        for task in Path(f"/proc/{process}/task").glob("*/children")
        for child in task.read_text().split()
    ]
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    own = next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return own + sum(read_megabytes(child) for child in below)


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser("service", __doc__, repeats=3)
    parser.add_argument("--files", type=int, default=64, help="requests of a round (64)")
    parser.add_argument(
        "--memory-requests", type=int, default=2000, help="over which memory is watched (2000)"
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
            serving(folder / "service") as (port, process),
            closing(Asking(port)) as asking,
        ):
            with Detector(Settings()) as detector:
                detector.engine.warm()
                rows = compare(asking, detector, paths, contents, repeats=options.repeats)
            head = ["clients", "requests/s", "p50 ms", "p99 ms", "bare files/s", "service / bare"]
            print_results("Small pictures", head, rows, console=console)
            rows = watch_memory(asking, process, contents, count=options.memory_requests)
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
    asking: Asking, detector: Detector, paths: list[Path], contents: list[bytes], *, repeats: int
) -> list[list[str]]:
    """A row for each number of clients: medians of rounds of the service and of the detector."""

    def examine(path: Path) -> None:
        detector.detect(path, OPTIONS)

    rows = []
    for clients in CLIENTS:
        seconds, bare, waits = [], [], []
        threads = min(clients, count_cores())
        with ThreadPoolExecutor(clients) as askers, ThreadPoolExecutor(threads) as examiners:
            for round_ in range(repeats + 1):
                started = time.perf_counter()
                took = list(askers.map(asking.detect, contents))
                between = time.perf_counter()
                list(examiners.map(examine, paths))
                if round_:  # the first warms up
                    seconds.append(between - started)
                    bare.append(time.perf_counter() - between)
                    waits += took
        ratio = median(one / other for one, other in zip(seconds, bare, strict=True))
        rows.append(
            [
                str(clients),
                f"{len(paths) / median(seconds):.1f}",
                *_word_waits(waits),
                f"{len(paths) / median(bare):.1f}",
                f"{ratio:.2f}",
            ]
        )
    return rows


def watch_memory(
    asking: Asking, process: int, contents: list[bytes], *, count: int
) -> list[list[str]]:
    """The memory of the service before and while it answers so many requests."""
    rows = [["0", f"{read_megabytes(process):.0f}"]]
    parts = 5
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
    return [f"{1000 * median(seconds):.0f}", f"{1000 * p99:.0f}"]


if __name__ == "__main__":
    sys.exit(main())
