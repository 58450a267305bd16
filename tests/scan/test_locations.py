"""Object stores: a real server for S3 on this machine, and fsspec's store in memory."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deepfake.errors import MediaError, SettingsError, TooLarge, UnsupportedMedia
from deepfake.progress import Watch
from deepfake.scan import locations
from deepfake.scan.executors import LocalExecutor
from deepfake.scan.listing import Filter, list_sources
from deepfake.scan.locations import list_url, open_location
from deepfake.settings import Limits
from tests.media_files import image_bytes, scene
from tests.scans import read_lines, run_scan

fsspec = pytest.importorskip("fsspec")

ODD = "odd ü?#%41 '\"<.jpg"


def fetch(url: str, *, limits: Limits | None = None, watch: Watch | None = None) -> bytes:
    file = open_location(url, limits=limits or Limits(), watch=watch or Watch())
    content = os.pread(file.descriptor, file.bytes, 0)
    os.close(file.descriptor)
    return content


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The endpoint of a store with some pictures in the bucket ``box``."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    import boto3

    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    values = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="box")
        for number, name in enumerate(("a.jpg", "b/c.jpg", f"b/{ODD}", "b/text.txt", "folder/")):
            body = b"" if name == "folder/" else image_bytes(scene(seed=number), "jpeg")
            client.put_object(Bucket="box", Key=f"media/{name}", Body=body)
        client.put_object(Bucket="box", Key="media2/other.jpg", Body=b"not media")
        copy = image_bytes(scene(seed=0), "jpeg")
        client.put_object(Bucket="box", Key="media/copy.jpg", Body=copy)
        yield values["AWS_ENDPOINT_URL"]
        client.close()
    running.stop()


@pytest.mark.usefixtures("server")
def test_a_prefix_is_listed_as_a_folder_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a.jpg", "b/c.jpg", f"b/{ODD}", "b/text.txt", "copy.jpg"]
    for url in ("s3://box/media", "s3://box/media/"):
        assert sorted(file.url for file in list_url(url)) == sorted(
            f"s3://box/media/{name}" for name in names
        )
    (one,) = list_url("s3://box/media/a.jpg")
    assert one.size_bytes == len(image_bytes(scene(seed=0), "jpeg"))
    assert re.fullmatch("[0-9a-f]{32}", one.state)
    assert len(list(list_url("s3://box"))) == 6
    with pytest.raises(MediaError, match="there is nothing"):
        list(list_url("s3://box/med"))
    files, _ = locations.file_system("s3://box")
    call = files.call_s3
    monkeypatch.setattr(files, "call_s3", lambda *a, **k: call(*a, **{"MaxKeys": 2, **k}))
    assert len(list(list_url("s3://box/media/"))) == 5


@pytest.mark.usefixtures("server")
def test_a_bucket_is_scanned_and_scanned_on(tmp_path: Path, known_models: Path) -> None:
    import boto3

    output = tmp_path / "results.jsonl"
    values: dict[str, Any] = {
        "output": output,
        "models": known_models,
        "executor": LocalExecutor,
        "workers": 2,
        "include": ["*.jpg"],
    }
    summary = run_scan("s3://box/media", **values)
    assert (summary.scanned, summary.duplicates, summary.failed) == (4, 1, 0)
    lines = {line["path"]: line for line in read_lines(output)}
    assert f"s3://box/media/b/{ODD}" in lines
    equal = lines["s3://box/media/a.jpg"], lines["s3://box/media/copy.jpg"]
    assert [line.get("duplicate_of") for line in equal].count(None) == 1
    for path, line in lines.items():
        assert re.fullmatch(re.escape(path) + r"\|\d+\|[0-9a-f]{32}", line["journal"]["key"])
    client = boto3.client("s3")
    client.put_object(Bucket="box", Key="media/b/c.jpg", Body=image_bytes(scene(seed=9), "jpeg"))
    client.close()
    again = run_scan("s3://box/media", **values)
    assert (again.scanned, again.resumed) == (1, 3)


@pytest.mark.usefixtures("server")
def test_errors_of_a_store_are_lines_and_the_scan_goes_on(
    tmp_path: Path, known_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locations, "FIRST_PAUSE_SECONDS", 0.01)
    (tmp_path / "list.txt").write_text("s3://nowhere/a\ns3://box/media/gone.jpg\ngood.png\n")
    (tmp_path / "good.png").write_bytes(image_bytes(scene()))
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "results.jsonl"
    summary = run_scan("list.txt", "s3://box/media2", output=output, models=known_models)
    lines = {line["path"]: line for line in read_lines(output)}
    codes = {path: line.get("error", {}).get("code") for path, line in lines.items()}
    assert codes == {
        "s3://nowhere/a": "not_found",
        "s3://box/media/gone.jpg": "not_found",
        "s3://box/media2/other.jpg": "unsupported",
        "good.png": None,
    }
    assert summary.failed == 3
    assert all("; " in line["error"]["message"] for line in lines.values() if "error" in line)


def test_a_dead_endpoint_is_tried_again_and_told(
    tmp_path: Path, known_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs")
    monkeypatch.setattr(locations, "FIRST_PAUSE_SECONDS", 0.01)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "test")
    options = {"endpoint_url": f"http://127.0.0.1:{port}", "config_kwargs": {"retries": {}}}
    options["config_kwargs"] = {"retries": {"max_attempts": 0}}
    monkeypatch.setattr(locations, "_S3_OPTIONS", options)
    with pytest.raises(MediaError, match="failed 3 times") as caught:
        fetch("s3://box/a.jpg")
    assert caught.value.code == "network"
    output = tmp_path / "results.jsonl"
    for _ in range(2):
        summary = run_scan("s3://box/a", output=output, models=known_models)
        assert (summary.scanned, summary.failed) == (1, 1)
    assert [line["error"]["code"] for line in read_lines(output)] == ["listing", "listing"]


def test_a_url_that_is_none_is_a_line_and_the_scan_goes_on(
    tmp_path: Path, known_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locations, "FIRST_PAUSE_SECONDS", 0.01)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"ftp://127.0.0.1:{unused.getsockname()[1]}/x.jpg"
    wrong = ["reference://a/b", "dir://a/b", "asyncwrapper://a/b"]
    (tmp_path / "list.txt").write_text("\n".join([dead, "zip://", *wrong, "good.png"]))
    (tmp_path / "good.png").write_bytes(image_bytes(scene()))
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "results.jsonl"
    run_scan("list.txt", output=output, models=known_models)
    lines = {line["path"]: line.get("error", {}) for line in read_lines(output)}
    codes = {path: error.get("code") for path, error in lines.items()}
    listing = dict.fromkeys([dead, "zip://"], "listing")
    assert codes == {**listing, **dict.fromkeys(wrong, "settings"), "good.png": None}
    assert "failed 3 times (ConnectionRefusedError" in lines[dead]["message"]
    with pytest.raises(MediaError, match="failed 3 times") as caught:
        fetch(dead)
    assert caught.value.code == "network"


def test_a_fault_while_listing_is_a_line(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe_file("/media/a.png", b"x")
    monkeypatch.setattr(type(memory), "info", lambda self, path: {"name": path})
    (found,) = list_sources(["memory://media"], Filter())
    assert found.problem
    assert found.problem["error"]["code"] == "internal"


@pytest.fixture
def memory() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/", recursive=True)


def test_any_store_of_fsspec(memory: Any, tmp_path: Path, known_models: Path) -> None:
    content = image_bytes(scene())
    for name in ("z.png", "b/2.png", "b/1.png"):
        memory.pipe_file(f"/media/{name}", content)
    assert [file.url for file in list_url("memory://media")] == [
        f"memory://media/{name}" for name in ("z.png", "b/1.png", "b/2.png")
    ]
    assert [file.size_bytes for file in list_url("memory://media/z.png")] == [len(content)]
    *_, last = list_sources(["memory://media"], Filter(), is_unlisted="memory://media".__eq__)
    assert (last.path, last.listed) == ("memory://media", True)  # where it could not be before
    summary = run_scan("memory://media", output=tmp_path / "r.jsonl", models=known_models)
    assert (summary.scanned, summary.duplicates, summary.failed) == (3, 2, 0)
    assert fetch("memory://media/z.png") == content


def test_limits_hold_for_what_is_fetched(memory: Any) -> None:
    memory.pipe_file("/big", b"x" * 3_000_000)
    memory.pipe_file("/empty", b"")
    with pytest.raises(TooLarge, match="memory://big"):
        fetch("memory://big", limits=Limits(file_bytes=1_000_000))
    with pytest.raises(UnsupportedMedia, match="empty"):
        fetch("memory://empty")
    from deepfake.errors import TimeLimit

    with pytest.raises(TimeLimit):
        fetch("memory://big", watch=Watch(deadline=time.monotonic() - 1))


def test_a_read_that_fails_is_tried_again(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "FIRST_PAUSE_SECONDS", 0.01)
    memory.pipe_file("/flaky", b"content")
    failures = iter([OSError("reset"), RuntimeError("\x1b[2J gone"), None])
    read = locations._Reader.read

    def flaky(self: Any, size: int) -> bytes:
        if error := next(failures, None):
            raise locations._ReadFailed(locations._words(error))
        return read(self, size)

    monkeypatch.setattr(locations._Reader, "read", flaky)
    assert fetch("memory://flaky") == b"content"
    failures = iter([RuntimeError("\x1b[2J gone")] * 3)
    with pytest.raises(MediaError, match=r"RuntimeError: \\x1b\[2J gone"):
        fetch("memory://flaky")


@pytest.mark.parametrize("url", ["simplecache::memory://a", "zip://a::memory://b", "nothing://a"])
def test_what_cannot_be_understood_is_refused(url: str) -> None:
    with pytest.raises(SettingsError):
        locations.file_system(url)
