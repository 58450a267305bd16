from __future__ import annotations

import hashlib
import io
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from deepfake.errors import Cancelled, MediaError, SettingsError, TooLarge, UnsupportedMedia
from deepfake.media.sources import OpenFile, open_bytes, open_path, open_stream
from deepfake.settings import Limits

CONTENT = bytes(range(251)) * 12_000  # nearly three times what is read at once
LIMITS = Limits(file_bytes=len(CONTENT))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def read_and_close(file: OpenFile) -> bytes:
    content = os.pread(file.descriptor, file.bytes + 1, 0)
    os.close(file.descriptor)
    return content


def test_every_source_gives_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    before = open_files()
    stream = io.BytesIO(b"before" + CONTENT)
    stream.seek(6)
    opened = [
        open_path(path, name="file", limits=LIMITS),
        open_path(os.fsencode(path), name="file", limits=LIMITS),
        open_bytes(CONTENT, name="file", limits=LIMITS),
        open_bytes(bytearray(CONTENT), name="file", limits=LIMITS),
        open_bytes(memoryview(CONTENT), name="file", limits=LIMITS),
        open_stream(stream, name="file", limits=LIMITS),
    ]
    for file in opened:
        assert file.sha256 == hashlib.sha256(CONTENT).hexdigest()
        assert file.bytes == len(CONTENT)
        assert read_and_close(file) == CONTENT
    assert open_files() == before


def test_a_stream_that_trickles_is_read_to_its_end() -> None:
    class Trickle(io.RawIOBase):
        left = CONTENT[:5000]

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            piece, self.left = self.left[:777], self.left[777:]
            return piece

    assert read_and_close(open_stream(Trickle(), name="pipe", limits=LIMITS)) == CONTENT[:5000]


def test_bytes_cannot_be_changed_once_they_are_measured() -> None:
    file = open_bytes(CONTENT, name="file", limits=LIMITS)
    again = os.open(f"/proc/self/fd/{file.descriptor}", os.O_RDWR)
    for change in (lambda: os.pwrite(again, b"x", 0), lambda: os.ftruncate(again, 3)):
        with pytest.raises(PermissionError):
            change()
    os.close(again)
    assert read_and_close(file) == CONTENT


@pytest.mark.parametrize("excess", [0, 1])
def test_the_limit_holds_for_every_source(tmp_path: Path, excess: int) -> None:
    limits = Limits(file_bytes=len(CONTENT) - excess)
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    sources: list[Callable[[], OpenFile]] = [
        lambda: open_path(path, name="file", limits=limits),
        lambda: open_bytes(CONTENT, name="file", limits=limits),
        lambda: open_stream(io.BytesIO(CONTENT), name="file", limits=limits),
    ]
    before = open_files()
    for source in sources:
        if excess:
            with pytest.raises(TooLarge, match=r"Limits\.file_bytes"):
                source()
        else:
            os.close(source().descriptor)
    assert open_files() == before


def test_a_file_that_grows_while_it_is_read_is_stopped_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    limits = Limits(file_bytes=3 * 1024**2)

    def grow() -> None:
        with path.open("ab") as file:
            file.write(bytes(1024**2))

    with pytest.raises(TooLarge, match="has more than"):
        open_path(path, name="file", limits=limits, check=grow)


def test_an_endless_stream_is_stopped_at_the_limit() -> None:
    with Path("/dev/zero").open("rb") as zeros, pytest.raises(TooLarge, match="has more than"):
        open_stream(zeros, name="zeros", limits=Limits(file_bytes=2 * 1024**2))


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        before = open_files()
        for path, what in (
            (tmp_path, "a folder"),
            (tmp_path / "pipe", "a named pipe"),
            (tmp_path / "socket", "a socket"),
            (Path("/dev/null"), "a device"),
        ):
            with pytest.raises(MediaError, match=what) as caught:
                open_path(path, name="it", limits=LIMITS)
            assert caught.value.code == "not_a_file"
            assert caught.value.hint
        assert open_files() == before


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, code, why in (
        ("missing", "not_found", "does not exist"),
        ("file/inside", "not_found", "does not exist"),
        ("a" * 300, "unreadable", "File name too long"),
        ("loop", "unreadable", "symbolic links"),
        ("nul\0", "unreadable", "null"),
    ):
        with pytest.raises(MediaError, match=why) as caught:
            open_path(f"{tmp_path}/{path}", name="it", limits=LIMITS)
        assert (caught.value.code, type(caught.value)) == (code, MediaError)
        assert str(tmp_path) not in str(caught.value)


def test_nothing_is_no_media(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = open_files()
    for source in (
        lambda: open_path(tmp_path / "file", name="it", limits=LIMITS),
        lambda: open_bytes(b"", name="it", limits=LIMITS),
        lambda: open_stream(io.BytesIO(), name="it", limits=LIMITS),
    ):
        with pytest.raises(UnsupportedMedia, match="is empty") as caught:
            source()
        assert caught.value.code == "empty"
    assert open_files() == before


def test_a_stream_of_text_or_one_that_fails_is_refused() -> None:
    with pytest.raises(SettingsError, match="binary mode"):
        open_stream(io.StringIO("text"), name="it", limits=LIMITS)  # type: ignore[arg-type]
    closed = io.BytesIO(b"x")
    closed.close()
    with pytest.raises(MediaError, match="cannot be read"):
        open_stream(closed, name="it", limits=LIMITS)


def test_reading_ends_when_it_is_no_longer_wanted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise Cancelled("stopped")

    before = open_files()
    for source in (
        lambda: open_path(path, name="it", limits=LIMITS, check=check),
        lambda: open_stream(io.BytesIO(CONTENT), name="it", limits=LIMITS, check=check),
    ):
        calls.clear()
        with pytest.raises(Cancelled):
            source()
    assert open_files() == before
