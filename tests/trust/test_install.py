"""Bundles from folders, archives and URLs: whole and vouched for, or refused without a trace."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deepfake.bundle import Bundle
from deepfake.commands.cli import main
from deepfake.errors import DeepfakeError, ModelError, SettingsError
from deepfake.settings import user_models_folder
from deepfake.trust import install as installing
from deepfake.trust import registry
from deepfake.trust.install import install
from deepfake.trust.registry import activate, read_bundles, shipped_bundles
from tests.bundles import add_full_tier


@pytest.fixture
def models(known_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A models folder that lists a full tier, which this release ships and which lies apart."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = Path(shutil.copytree(known_models, tmp_path / "models"))
    full = add_full_tier(folder)
    activate(folder, "image-1-large")
    shutil.move(full.folder, tmp_path / "image-1-large")
    shipped = tmp_path / "shipped.json"
    shipped.write_text(json.dumps({full.name: full.sha256}))
    monkeypatch.setattr(registry, "SHIPPED", shipped)
    shipped_bundles.cache_clear()
    yield folder
    shipped_bundles.cache_clear()


@pytest.fixture
def bundle(models: Path, tmp_path: Path) -> Bundle:
    return Bundle.read(tmp_path / "image-1-large")


def pack_zip(bundle: Bundle, *, top: str = "image-1-large/") -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(bundle.folder.iterdir()):
            archive.write(path, top + path.name)
    return target.getvalue()


def pack_tar(bundle: Bundle, mode: str = "w") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:
        archive.add(bundle.folder, arcname="./image-1-large")
    return target.getvalue()


def left() -> list[str]:
    folder = user_models_folder()
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("kind", ["folder", "zip", "flat zip", "tar"])
def test_what_is_whole_is_installed_and_answers(
    models: Path, bundle: Bundle, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "given"
    match kind:
        case "folder":
            source = bundle.folder
        case "zip":
            source.write_bytes(pack_zip(bundle))
        case "flat zip":
            source.write_bytes(pack_zip(bundle, top=""))
        case "tar":
            source.write_bytes(pack_tar(bundle))
    assert "image-large" not in read_bundles(models)
    for _ in range(2):  # a second time in place of the first
        assert main(["models", "install", str(source), "--models", str(models)]) == 0
        text = capsys.readouterr().out.replace("\n", "")
        assert "installed image-1-large (" in text
        assert "it answers" in text
    assert left() == ["image-1-large"]
    found = read_bundles(models)["image-large"]
    assert found.folder == user_models_folder() / "image-1-large"
    assert found.sha256 == bundle.sha256
    found.verify()


def rewrite(bundle: Bundle, change: Callable[[zipfile.ZipFile], None]) -> bytes:
    target = io.BytesIO(pack_zip(bundle))
    with zipfile.ZipFile(target, "a") as archive:
        change(archive)
    return target.getvalue()


def link(archive: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo("image-1-large/link")
    entry.external_attr = 0o120777 << 16
    archive.writestr(entry, "/etc/passwd")


def add(name: str) -> Callable[[zipfile.ZipFile], None]:
    return lambda archive: archive.writestr(name, b"data")


def linked_tar(bundle: Bundle, kind: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.add(bundle.folder, arcname="image-1-large")
        entry = tarfile.TarInfo("image-1-large/link")
        entry.type, entry.linkname = kind, "image-1-large/bundle.json"
        archive.addfile(entry)
    return target.getvalue()


HOSTILE: dict[str, Callable[[Bundle], bytes]] = {
    "zip with a link": lambda bundle: rewrite(bundle, link),
    "zip that climbs": lambda bundle: rewrite(bundle, add("../evil")),
    "zip that climbs within": lambda bundle: rewrite(bundle, add("image-1-large/../../evil")),
    "zip with an absolute path": lambda bundle: rewrite(bundle, add("/tmp/evil")),
    "zip with a backslash": lambda bundle: rewrite(bundle, add("image-1-large/..\\evil")),
    "zip with two folders": lambda bundle: rewrite(bundle, add("other/file")),
    "zip with a hidden file": lambda bundle: rewrite(bundle, add("image-1-large/.evil")),
    "zip with an extra file": lambda bundle: rewrite(bundle, add("image-1-large/extra.py")),
    "zip with many files": lambda bundle: rewrite(
        bundle, lambda archive: [add(f"image-1-large/f{n}")(archive) for n in range(40)] and None
    ),
    "tar with a symbolic link": lambda bundle: linked_tar(bundle, tarfile.SYMTYPE),
    "tar with a hard link": lambda bundle: linked_tar(bundle, tarfile.LNKTYPE),
    "tar with a device": lambda bundle: linked_tar(bundle, tarfile.CHRTYPE),
    "compressed tar": lambda bundle: pack_tar(bundle, "w:gz"),
    "zip that is cut": lambda bundle: pack_zip(bundle)[:-40],
    "zip with a changed byte": lambda bundle: flip(pack_zip(bundle)),
    "no archive": lambda bundle: b"hello",
    "empty": lambda bundle: b"",
}


def flip(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_leave_nothing(bundle: Bundle, tmp_path: Path, name: str) -> None:
    path = tmp_path / "given"
    path.write_bytes(HOSTILE[name](bundle))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ModelError, match="given"):
        install(str(path))
    assert left() == []
    assert sorted({*tmp_path.iterdir()} - {tmp_path / "data"}) == before


def test_a_bomb_ends_at_the_limit(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundle.folder / "model.onnx").write_bytes(bytes(3_000_000))
    path = tmp_path / "given"
    path.write_bytes(pack_zip(bundle))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(installing, "MOST_BYTES", 1_000_000)
    with pytest.raises(ModelError, match="is over"):
        install(str(path))
    assert left() == []


def test_what_differs_from_the_release_is_refused(
    bundle: Bundle, tmp_path: Path, models: Path
) -> None:
    original = Path(shutil.copytree(bundle.folder, tmp_path / "copy" / "image-1-large"))
    (bundle.folder / "model.onnx").write_bytes(b"other weights")
    with pytest.raises(ModelError, match=r"model\.onnx differs from its recorded sha256"):
        install(str(bundle.folder))
    values = json.loads((original / "bundle.json").read_text())
    values["calibration"]["intercept"] = 5.0
    (original / "bundle.json").write_text(json.dumps(values))
    changed = Bundle.read(original).sha256
    for sha256 in (None, changed):  # the name of a shipped bundle is taken
        with pytest.raises(ModelError, match="has the name for itself"):
            install(str(original), sha256=sha256)
    assert left() == []


def test_a_bundle_of_somebody_else_needs_its_sha256(
    models: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.SHIPPED.write_text("{}")
    shipped_bundles.cache_clear()
    with pytest.raises(ModelError, match=f"nothing vouches for it.*--sha256 {bundle.sha256}"):
        install(str(bundle.folder))
    with pytest.raises(ModelError, match="get it again"):
        install(str(bundle.folder), sha256="0" * 64)
    with pytest.raises(SettingsError, match="64"):
        install(str(bundle.folder), sha256="0")
    assert left() == []
    values = json.loads((models / "active.json").read_text())
    del values["bundles"]["image-large"]
    (models / "active.json").write_text(json.dumps(values))
    command = ["models", "install", str(bundle.folder), "--sha256", bundle.sha256]
    assert main([*command, "--models", str(models)]) == 0
    assert "deepfake models activate image-1-large" in capsys.readouterr().out
    assert main(["models", "activate", "image-1-large", "--models", str(models)]) == 0
    assert read_bundles(models)["image-large"].folder.parent == user_models_folder()


class Server(HTTPServer):
    content = b""
    headers: tuple[tuple[str, str], ...] = ()
    status = 200


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        for name, value in self.server.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/image-1-large.zip"


def test_a_bundle_is_downloaded(models: Path, bundle: Bundle, server: Server) -> None:
    server.content = pack_zip(bundle)
    server.headers = (("Content-Length", str(len(server.content))),)
    told: list[tuple[str, int, int | None]] = []
    install(address(server), advance=lambda *one: told.append(one))
    size = len(server.content)
    assert ("download", size, size) in told
    assert {one[0] for one in told} == {"download", "unpack"}
    assert read_bundles(models)["image-large"].sha256 == bundle.sha256


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (404, (), "cannot be had"),
        (200, (("Content-Length", "99999999999"),), "is over"),
        (200, (("Content-Length", "400"),), "cannot be had|ended after"),
        (302, (("Location", "http://example.com/x"),), "is not https"),
        (302, (("Location", "file:///etc/passwd"),), "not allowed"),
        (200, (), "no folder, zip archive or plain tar"),
    ],
)
def test_a_download_that_fails_is_told(
    bundle: Bundle,
    server: Server,
    status: int,
    headers: tuple[tuple[str, str], ...],
    words: str,
) -> None:
    server.status, server.headers, server.content = status, headers, b"some bytes"
    with pytest.raises(DeepfakeError, match=words):
        install(address(server))
    assert left() == []


def test_a_download_ends_after_its_time_and_bytes(
    bundle: Bundle, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = pack_zip(bundle)
    with pytest.raises(SettingsError, match="not here within 0 seconds"):
        install(address(server), most_seconds=0.0)
    monkeypatch.setattr(installing, "MOST_BYTES", 100)
    with pytest.raises(ModelError, match="is over"):
        install(address(server))
    assert left() == []


@pytest.mark.parametrize(
    "url", ["http://example.com/a.zip", "ftp://example.com/a.zip", "file:///tmp/a.zip"]
)
def test_other_urls_are_refused(models: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="is not https"):
        install(url)


def test_a_missing_file_is_wrong_usage(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "install", "no-such.zip", "--models", str(models)]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    assert main(["models", "install", "--models", str(models)]) == 2
