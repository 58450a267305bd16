from __future__ import annotations

import asyncio
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
from typing import Any

import pytest

pytest.importorskip("gradio")

import httpx
from deepfake_app.server import running

from deepfake.detector import Detector
from deepfake.errors import SettingsError
from tests.media_files import image_bytes, scene

# pandas 3 tells gradio's statistics of the queue, which cannot be switched off
pytestmark = pytest.mark.filterwarnings("ignore:.future.no_silent_downcasting. is deprecated")


def start(manager: Any) -> str:
    async def enter() -> str:  # within a loop gradio makes none of its own
        return str(manager.__enter__())

    return asyncio.run(enter())


@pytest.fixture(scope="module")
def address(known_detector: Detector) -> Iterator[str]:
    manager = running(known_detector, host="127.0.0.1", port=0)
    yield start(manager)
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    assert folder.is_dir()
    manager.__exit__(None, None, None)
    assert not folder.exists()
    assert "GRADIO_TEMP_DIR" not in os.environ


def upload(address: str, content: bytes, name: str) -> httpx.Response:
    return httpx.post(f"{address}gradio_api/upload", files={"files": (name, content)}, timeout=30)


def call(address: str, path: str) -> tuple[str, str]:
    """Ask ``/detect`` about a path on the server; the kind of the last event and its data."""
    file = {"path": path, "orig_name": "photo.png", "meta": {"_type": "gradio.FileData"}}
    values = [file, True, True, 0.5, 32, 600]
    url = f"{address}gradio_api/call/detect"
    event = httpx.post(url, json={"data": values}, timeout=30).json()["event_id"]
    text = httpx.get(f"{url}/{event}", timeout=60).text
    *_, (kind, data) = re.findall(r"event: (\w+)\ndata: (.*)", text)
    return kind, data


def test_upload_a_picture_and_get_its_report(address: str) -> None:
    path = upload(address, image_bytes(scene()), "photo.png").json()[0]
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    assert Path(path).is_relative_to(folder)
    assert folder.stat().st_mode & 0o077 == 0
    kind, data = call(address, path)
    assert kind == "complete"
    report = json.loads(json.loads(data)[0])
    assert report["path"] == "photo.png"
    assert report["media"]["width"] == 96
    assert list(folder.iterdir()) == []


def test_a_bad_file_is_an_error_and_is_deleted(address: str) -> None:
    path = upload(address, b"no picture", "photo.png").json()[0]
    kind, data = call(address, path)
    assert kind == "error"
    assert "not media" in data
    assert "Traceback" not in data
    assert list(Path(os.environ["GRADIO_TEMP_DIR"]).iterdir()) == []


def test_files_of_the_server_cannot_be_read(address: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(image_bytes(scene()))
    assert call(address, str(secret))[0] == "error"
    assert secret.exists()
    assert httpx.get(f"{address}gradio_api/file={secret}").status_code == 403
    folder = os.environ["GRADIO_TEMP_DIR"]
    assert httpx.get(f"{address}gradio_api/file={folder}").status_code == 403


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


def test_uploads_are_limited_and_abandoned_ones_deleted(
    known_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepfake_app.server.MOST_UPLOAD_BYTES", 1000)
    monkeypatch.setattr("deepfake_app.page.CACHE_CHECK_SECONDS", 1)
    monkeypatch.setattr("deepfake_app.page.CACHE_AGE_SECONDS", 1)
    manager = running(known_detector, host="127.0.0.1", port=0)
    address = start(manager)
    try:
        assert upload(address, b"x" * 5000, "a.png").status_code == 413
        answer = upload(address, b"x" * 500, "a.png")
        assert answer.status_code == 200
        wait_until_gone(Path(answer.json()[0]))
    finally:
        manager.__exit__(None, None, None)


def wait_until_gone(path: Path) -> None:
    until = time.monotonic() + 10
    while path.exists():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.parametrize("host", ["127.0.0.1", "203.0.113.1", "no such host"])
def test_an_address_that_cannot_be_used_is_one_clear_error(
    known_detector: Detector, host: str
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        manager = running(known_detector, host=host, port=listener.getsockname()[1])
        with pytest.raises(SettingsError, match=r"cannot be used.*choose another"):
            start(manager)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_cleanly_and_leaves_nothing(
    known_models: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "deepfake", "serve", "--threads", "1"]
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
        assert list(tmp_path.glob("deepfake-*/*/a.png"))
        started = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - started < 10
        assert process.stderr.read() == ""
    assert list(tmp_path.glob("deepfake-*")) == []
