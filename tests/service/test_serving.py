"""The service on a port: beside the page, with slow and broken clients, and killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from deepfake_app.limits import PageLimits

from deepfake.detector import Detector
from deepfake.reasons import Code
from tests.service.serving import PICTURE, served

# pandas 3 tells gradio's statistics of the queue, which cannot be switched off
pytestmark = pytest.mark.filterwarnings("ignore:.future.no_silent_downcasting. is deprecated")
BODY = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def address(known_detector: Detector, folder: Path) -> Iterator[str]:
    limits = PageLimits(stall_seconds=1.0, body_seconds=3.0, upload_bytes=1_000_000)
    with served(known_detector, folder, limits=limits) as address:
        yield address


def connect(address: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", httpx.URL(address).port or 0), timeout=20)


def read_problem(connection: socket.socket) -> dict[str, object]:
    """The problem of the answer that ends the connection."""
    text = b""
    while chunk := connection.recv(65536):
        text += chunk
    head, _, body = text.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, text
    problem: dict[str, object] = json.loads(body)
    return problem


def test_the_interface_and_the_page_answer_on_one_port(address: str) -> None:
    page = httpx.get(address).text
    assert "gradio" in page
    assert "/cases" in page
    assert "Cases" in httpx.get(f"{address}cases").text
    assert httpx.get(f"{address}v1/models").json()["models"]
    report = httpx.post(f"{address}v1/detect", content=PICTURE, headers=BODY, timeout=60)
    assert report.status_code == 200, report.text
    job = httpx.post(f"{address}v1/jobs", content=PICTURE, headers=BODY).json()["id"]
    with httpx.stream("GET", f"{address}v1/jobs/{job}/events", timeout=60) as stream:
        lines = list(stream.iter_lines())
    assert "event: end" in lines


def test_ten_thousand_headers_are_a_problem(address: str) -> None:
    with connect(address) as connection, contextlib.suppress(OSError):
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        for number in range(10_000):
            connection.sendall(b"X-Header-%d: value\r\n" % number)
    with connect(address) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        connection.sendall(b"".join(b"X-%d: y\r\n" % n for n in range(4_000)))
        problem = read_problem(connection)
    assert problem["code"] == Code.BAD_REQUEST
    assert httpx.get(f"{address}healthz").status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Bad: a\x00b\r\n\r\n",
    ],
)
def test_what_is_not_http_is_a_problem(address: str, head: bytes) -> None:
    with connect(address) as connection:
        connection.sendall(head)
        assert read_problem(connection)["status"] == 400


@pytest.mark.parametrize("pause", [None, 0.2])
def test_a_slow_body_is_a_problem_and_keeps_nothing(
    address: str, folder: Path, pause: float | None
) -> None:
    with connect(address) as connection:
        connection.sendall(
            b"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 90000\r\n"
            b"Content-Type: application/octet-stream\r\nConnection: close\r\n\r\n" + PICTURE[:50]
        )
        with contextlib.suppress(OSError):
            while pause:
                time.sleep(pause)
                connection.sendall(b"x")
                connection.settimeout(0.001)
                with contextlib.suppress(TimeoutError):
                    if connection.recv(1, socket.MSG_PEEK):
                        break
        connection.settimeout(20)
        problem = read_problem(connection)
    assert (problem["status"], problem["code"]) == (408, Code.NOT_SENT)
    assert list((folder / "media").iterdir()) == []


def test_a_refused_body_is_not_listened_to(address: str) -> None:
    with connect(address) as connection:
        connection.sendall(
            b"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900000\r\n"
            b"Content-Type: text/plain\r\n\r\nsome of it"
        )
        assert read_problem(connection)["code"] == Code.WRONG_TYPE  # and then the end


def test_a_client_that_leaves_keeps_nothing(address: str, folder: Path) -> None:
    with connect(address) as connection:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 90000\r\n"
            b"Content-Type: application/octet-stream\r\n\r\n" + PICTURE[:50]
        )
        until = time.monotonic() + 10
        while not list((folder / "media").iterdir()):
            assert time.monotonic() < until
            time.sleep(0.01)
    while list((folder / "media").iterdir()):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_body_without_an_end_is_refused(address: str, folder: Path) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    with contextlib.suppress(httpx.WriteError):  # it may not get to read the answer
        answer = httpx.post(f"{address}v1/detect", content=endless(), headers=BODY, timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (413, Code.TOO_LARGE)
    assert list((folder / "media").iterdir()) == []


class Process:
    """``deepfake serve`` over the known models, as a process of its own."""

    def __init__(self, models: Path, folder: Path, *more: str) -> None:
        command = [sys.executable, "-m", "deepfake", "serve", "--threads", "1", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--models", str(models), "--data", str(folder), *more],
            env={**os.environ, "TMPDIR": str(folder.parent)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", self.process.stdout.readline())
        assert found, self.process.communicate()[1]
        self.address = found[0]

    def end(self, number: signal.Signals) -> str:
        """What it said on standard error."""
        self.process.send_signal(number)
        return self.process.communicate(timeout=30)[1]


@pytest.mark.slow
def test_nothing_is_lost_or_reported_twice_when_the_server_is_killed(
    known_models: Path, tmp_path: Path
) -> None:
    folder, made = tmp_path / "service", []
    for round_ in range(2):
        server = Process(known_models, folder)
        with httpx.Client(base_url=server.address, headers=BODY, timeout=60) as client:
            if round_ == 0:
                for number in range(30):
                    answer = client.post(f"/v1/jobs?name={number}.png", content=PICTURE)
                    made.append(answer.json()["id"])
                server.end(signal.SIGKILL)
                continue
            until = time.monotonic() + 100
            while True:
                jobs = client.get("/v1/jobs?limit=200").json()["jobs"]
                if all(job["state"] == "done" for job in jobs):
                    break
                assert time.monotonic() < until, jobs
                time.sleep(0.2)
            reports = {job["report"] for job in jobs}
            names = {
                client.get(f"/v1/reports/{report}").json()["report"]["path"] for report in reports
            }
        assert {job["id"] for job in jobs} == set(made)
        assert len(reports) == len(names) == 30
        assert server.end(signal.SIGTERM) == ""
        assert server.process.returncode == 0
    assert [path for path in (folder / "media").rglob("*") if path.is_file()] == []
    assert list(tmp_path.glob("deepfake-page-*")) == []
