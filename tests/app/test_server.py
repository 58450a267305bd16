from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

import httpx
from deepfake_app.limits import PageLimits
from deepfake_app.server import running

from deepfake.detector import Detector
from deepfake.errors import SettingsError
from tests.media_files import image_bytes, scene
from tests.waiting import until

# pandas 3 tells gradio's statistics of the queue, which cannot be switched off
pytestmark = pytest.mark.filterwarnings("ignore:.future.no_silent_downcasting. is deprecated")


@contextlib.contextmanager
def served(detector: Detector, **settings: Any) -> Iterator[str]:
    """The address of the page and, in ``GRADIO_TEMP_DIR``, its folder."""
    manager = running(detector, host="127.0.0.1", port=0, **settings)

    async def enter() -> str:  # within a loop gradio makes none of its own
        return manager.__enter__()

    try:
        yield asyncio.run(enter())
    finally:
        manager.__exit__(None, None, None)


@pytest.fixture(scope="module")
def address(known_detector: Detector) -> Iterator[str]:
    with served(known_detector) as address:
        yield address
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        assert folder.is_dir()
    assert not folder.parent.exists()
    assert "GRADIO_TEMP_DIR" not in os.environ


def folder() -> Path:
    return Path(os.environ["GRADIO_TEMP_DIR"])


def upload(address: str, content: bytes, name: str) -> httpx.Response:
    return httpx.post(f"{address}gradio_api/upload", files={"files": (name, content)}, timeout=30)


def ask(address: str, path: str, *, prior: float = 0.5) -> httpx.Response:
    file = {"path": path, "orig_name": "photo.png", "meta": {"_type": "gradio.FileData"}}
    values = [file, True, True, prior, 32, 600, False, "auto"]
    return httpx.post(f"{address}gradio_api/call/detect", json={"data": values}, timeout=30)


def call(address: str, path: str, **options: float) -> tuple[str, str]:
    """Ask ``/detect`` about an upload; the kind of the last event and its data."""
    event = ask(address, path, **options).json()["event_id"]
    text = httpx.get(f"{address}gradio_api/call/detect/{event}", timeout=60).text
    *_, (kind, data) = re.findall(r"event: (\w+)\ndata: (.*)", text)
    return kind, data


def test_upload_a_picture_and_get_its_report(address: str) -> None:
    path = upload(address, image_bytes(scene()), "photo.png").json()[0]
    assert Path(path).is_relative_to(folder())
    assert folder().stat().st_mode & 0o077 == 0
    kind, data = call(address, path)
    assert kind == "complete"
    report = json.loads(json.loads(data)[0])
    assert report["path"] == "photo.png"
    assert report["media"]["width"] == 96
    assert list(folder().iterdir()) == []


def test_two_visitors_with_the_same_file_both_get_a_report(address: str) -> None:
    content = image_bytes(scene())
    paths = [upload(address, content, "same.png").json()[0] for _ in range(2)]
    assert [call(address, path)[0] for path in paths] == ["complete", "complete"]
    assert list(folder().iterdir()) == []


def test_a_bad_file_is_an_error_and_is_deleted(address: str) -> None:
    path = upload(address, b"no picture", "photo.png").json()[0]
    kind, data = call(address, path)
    assert kind == "error"
    assert "not media" in data
    assert "Traceback" not in data
    assert list(folder().iterdir()) == []


def test_the_upload_of_a_request_with_a_wrong_option_is_deleted(address: str) -> None:
    path = upload(address, image_bytes(scene()), "photo.png").json()[0]
    kind, data = call(address, path, prior=7.0)
    assert kind == "error"
    assert "prior" in data
    assert list(folder().iterdir()) == []


@pytest.mark.parametrize("route", ["call/nowhere", "queue/join"])
def test_the_upload_of_a_refused_request_is_deleted(address: str, route: str) -> None:
    path = upload(address, image_bytes(scene()), "photo.png").json()[0]
    values = {"data": [[{"path": path, "name": "photo.png"}]], "fn_index": 9999}
    assert httpx.post(f"{address}gradio_api/{route}", json=values).status_code >= 400
    assert list(folder().iterdir()) == []


@pytest.mark.parametrize("body", [b"[]", b"3", b"null", b'"text"', b"{"])
def test_a_request_that_is_no_object_is_refused(address: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    refused = httpx.post(f"{address}gradio_api/queue/join", content=body, headers=headers)
    assert refused.status_code == 400


def test_an_upload_can_be_examined_once(address: str) -> None:
    path = upload(address, image_bytes(scene()), "photo.png").json()[0]
    assert call(address, path)[0] == "complete"
    assert ask(address, path).status_code == 400


def test_files_of_the_server_cannot_be_read(address: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(image_bytes(scene()))
    held = upload(address, b"x", "a.png").json()[0]
    for path in (str(secret), f"{held}/../../../{secret.name}", held.replace("upload.png", "in")):
        assert ask(address, path).status_code == 400
    assert secret.exists()
    copies = [path for path in folder().rglob("*") if path.name == secret.name]
    assert copies == []
    for path in (secret, folder(), Path(held)):
        assert httpx.get(f"{address}gradio_api/file={path}").status_code == 404


def test_nothing_is_fetched_from_other_machines(address: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        other.settimeout(0.5)
        url = f"http://127.0.0.1:{other.getsockname()[1]}/a.png"
        assert ask(address, url).status_code == 400
        assert httpx.get(f"{address}gradio_api/file={url}").status_code == 404
        with pytest.raises(TimeoutError):
            other.accept()


def test_another_site_and_another_host_are_refused(address: str) -> None:
    form = {"files": ("a.png", b"x")}
    evil = {"Origin": "http://evil.example"}
    assert httpx.get(address, headers={"Host": "evil.example"}).status_code == 403
    assert httpx.post(f"{address}gradio_api/upload", files=form, headers=evil).status_code == 403
    own = {"Origin": address.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert httpx.post(f"{address}gradio_api/upload", files=form, headers=own).status_code == 200


def half_sent(address: str) -> socket.socket:
    """A connection on which an upload has begun and does not go on."""
    connection = socket.create_connection(("127.0.0.1", httpx.URL(address).port or 0), timeout=10)
    connection.sendall(
        b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 90000\r\n"
        b"Content-Type: multipart/form-data; boundary=B\r\n\r\n"
        b'--B\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nhalf'
    )
    return connection


def test_nothing_of_a_half_sent_upload_stays(address: str) -> None:
    before = set(folder().iterdir())
    with half_sent(address):
        until(lambda: set(folder().iterdir()) != before)
        (begun,) = set(folder().iterdir()) - before
    until(lambda: not begun.exists())


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", b"x"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=B", b"nothing like it"),
        ("multipart/form-data; boundary=B", b'--B\r\nContent-Disposition: form-data; name="f"'),
        (
            "multipart/form-data; boundary=B",
            b'--B\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nhalf',
        ),
    ],
)
def test_what_is_no_form_is_refused_and_not_kept(address: str, kind: str, body: bytes) -> None:
    before = set(folder().iterdir())
    answer = httpx.post(f"{address}gradio_api/upload", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert set(folder().iterdir()) == before


def test_the_page_asks_nothing_of_other_machines(address: str) -> None:
    answer = httpx.get(address)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "connect-src 'self'" in policy
    assert "http:" not in policy
    assert "https:" not in policy
    loaded = re.findall(r'<(?:script|link)[^>]+(?:src|href)="([^"]+)"', answer.text)
    assert loaded
    assert not [url for url in loaded if url.startswith(("http", "//"))]
    theme = httpx.get(f"{address}theme.css").text
    assert "system-ui" in theme
    assert not re.findall(r"url\((?!['\"]?data:)", theme)
    assert "@import" not in theme
    config = json.loads(re.findall(r"window.gradio_config = (.*?);</script>", answer.text)[0])
    assert config["analytics_enabled"] is False


@pytest.mark.parametrize("path", ["docs", "redoc", "openapi.json", "gradio_api/runs"])
def test_pages_that_nobody_needs_are_closed(address: str, path: str) -> None:
    assert httpx.get(address + path).status_code == 404


def test_examples_are_made_and_can_be_examined(address: str) -> None:
    assert httpx.get(f"{address}examples/secret.png").status_code == 404
    content = httpx.get(f"{address}examples/hummed.wav", timeout=30).content
    path = upload(address, content, "hummed.wav").json()[0]
    kind, data = call(address, path)
    assert kind == "complete"
    assert json.loads(json.loads(data)[0])["kind"] == "audio"


def test_uploads_are_limited_and_abandoned_ones_deleted(known_detector: Detector) -> None:
    limits = PageLimits(upload_bytes=1000, disk_bytes=1500, abandoned_seconds=1, stall_seconds=0.3)
    with served(known_detector, limits=limits) as address:
        with half_sent(address) as stalled:
            assert stalled.recv(4096).startswith(b"HTTP/1.1 408")
            assert list(folder().iterdir()) == []
        assert upload(address, b"x" * 5000, "a.png").status_code == 413
        assert upload(address, b"x" * 90_000, "a.png").status_code == 413
        first = upload(address, b"x" * 900, "a.png")
        assert first.status_code == 200
        full = upload(address, b"x" * 900, "a.png")
        assert full.status_code == 507
        assert "no room" in full.text
        until(lambda: not Path(first.json()[0]).parent.exists())
        assert upload(address, b"x" * 900, "a.png").status_code == 200


def test_the_uploads_of_a_full_queue_are_deleted(known_detector: Detector) -> None:
    with served(known_detector, limits=PageLimits(queued=1)) as address:
        content = image_bytes(scene(900, 700))
        paths = [upload(address, content, "a.png").json()[0] for _ in range(6)]
        answers: dict[str, int] = {}

        def join(path: str) -> None:
            answers[path] = ask(address, path).status_code

        threads = [threading.Thread(target=join, args=(path,)) for path in paths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [path for path, status in answers.items() if status == 503]
        assert refused
        assert not [path for path in refused if Path(path).exists()]


def test_an_examination_has_an_end(known_detector: Detector) -> None:
    with served(known_detector, limits=PageLimits(file_seconds=1e-6)) as address:
        path = upload(address, image_bytes(scene()), "a.png").json()[0]
        kind, data = call(address, path)
        assert kind == "error"
        assert "takes longer than" in data
        assert list(folder().iterdir()) == []


def test_an_address_that_is_taken_is_one_clear_error(known_detector: Detector) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        manager = running(known_detector, host="127.0.0.1", port=listener.getsockname()[1])
        with pytest.raises(SettingsError, match=r"cannot be used.*choose another"):
            manager.__enter__()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_cleanly_and_leaves_nothing(
    known_models: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "deepfake", "serve", "--threads", "1", "--public"]
    with subprocess.Popen(
        [*command, "--models", str(known_models), "--port", "0"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found
        assert upload(found[0], b"abandoned", "a.png").status_code == 200
        assert list(tmp_path.glob("deepfake-page-*/uploads/*/upload.png"))
        started = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - started < 10
        assert process.stderr.read() == ""
    assert list(tmp_path.glob("deepfake-*")) == []
