"""The decoder processes: confined, reused, replaced, safe under threads, forks and sudden ends."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from deepfake.errors import Corrupt, DeepfakeError, MediaError, SettingsError, TooLarge
from deepfake.media import process as decode
from deepfake.media import wire
from deepfake.media.opening import Media, open_media
from deepfake.media.process import POOL, Decoder, Pool, ask
from deepfake.media.shared_memory import SharedPixels, map_shared
from deepfake.reasons import Code
from deepfake.settings import Limits
from deepfake.text import escape
from tests import media_files as make

PNG = make.image_bytes(make.scene())
MOVIE = make.video_bytes([make.scene(seed=seed) for seed in range(30)])


@pytest.fixture(autouse=True)
def no_children_left_from_other_tests() -> Iterator[None]:
    POOL.close()
    yield
    POOL.close()


def idle() -> list[Decoder]:
    return list(POOL._idle)


def ended(process_id: int, *, within: float = 5.0) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_one_child_serves_many_files() -> None:
    for _ in range(5):
        with open_media(PNG) as media:
            media.image()
    assert len(idle()) == 1
    assert idle()[0].requests == 10


def test_a_child_is_replaced_after_a_failure() -> None:
    open_media(PNG).close()
    (first,) = idle()
    with pytest.raises(Corrupt):
        open_media(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert idle() == []
    assert ended(first.process.pid)
    open_media(PNG).close()
    (second,) = idle()
    assert second.process.pid != first.process.pid


def test_a_failure_to_decode_is_remembered() -> None:
    with open_media(PNG[:60]) as media:
        errors = []
        for _ in range(2):
            with pytest.raises(Corrupt) as caught:
                media.image()
            errors.append(caught.value)
        assert errors[0] is errors[1]


def test_a_refusal_keeps_the_child() -> None:
    with pytest.raises(MediaError):
        open_media(b"just some text, no media at all")
    assert len(idle()) == 1


def test_a_child_is_replaced_after_its_share_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_REQUESTS", 2)
    with open_media(PNG) as media:
        media.image()
    assert idle() == []


def test_leaving_frames_early_ends_the_child() -> None:
    with open_media(MOVIE) as media:
        frames = media.frames(most=20)
        next(frames)
        (busy,) = POOL._living
        frames.close()  # type: ignore[attr-defined]
        assert ended(busy.process.pid)
        assert len(list(media.frames(most=20))) == 20


def test_a_dead_idle_child_is_replaced() -> None:
    open_media(PNG).close()
    (first,) = idle()
    first.process.kill()
    first.process.wait()
    with open_media(PNG) as media:
        assert (media.image() == make.scene()).all()


def test_a_child_that_dies_meanwhile_is_an_error() -> None:
    with open_media(MOVIE) as media:
        frames = media.frames(most=30)
        next(frames)
        (busy,) = POOL._living
        busy.process.send_signal(signal.SIGSEGV)
        with pytest.raises(Corrupt, match="SIGSEGV"):
            list(frames)
    assert not POOL._living


def test_a_stalled_child_is_ended() -> None:
    limits = Limits(decode_stall_seconds=0.3)
    with open_media(PNG) as media:
        (child,) = idle()
        media.limits = limits
        child.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(TooLarge, match="no progress") as caught:
            media.image()
    assert caught.value.code == "decoder_stalled"
    assert 0.2 < time.monotonic() - began < 10
    assert ended(child.process.pid)


def test_processor_time_is_limited() -> None:
    picture = make.image_bytes(np.zeros((9000, 9000), np.uint8), compress_level=1)

    def decode_often(media: Media) -> None:
        for _ in range(9):
            media._pixels = None
            media.image()

    with open_media(picture) as media:
        media.limits = Limits(decode_cpu_seconds=0)
        with pytest.raises(TooLarge, match="processor time"):
            decode_often(media)


def test_a_video_that_takes_too_long_gives_its_beginning() -> None:
    with open_media(MOVIE) as media:
        media.limits = Limits(decode_cpu_seconds=0)
        frames = list(media.frames(most=30))
        assert any("took too long" in warning for warning in media.warnings)
    assert 1 <= len(frames) < 30


def test_confinement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    limits = Limits(decode_memory_bytes=777 * 1024**2)
    open_media(PNG, limits=limits).close()
    proc = Path("/proc") / str(idle()[0].process.pid)
    facts = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines())
    assert facts["NoNewPrivs"].strip() == "1"
    table = (proc / "limits").read_text().splitlines()
    allowed = {line[:26].strip(): line[26:].split()[:2] for line in table}
    assert allowed["Max address space"] == [str(777 * 1024**2)] * 2
    assert allowed["Max file size"] == ["0", "0"]
    assert allowed["Max core file size"] == ["0", "0"]
    assert int(allowed["Max cpu time"][0]) <= limits.decode_cpu_seconds + 2
    environment = (proc / "environ").read_bytes()
    assert b"hunter2" not in environment
    assert b"OMP_NUM_THREADS=1" in environment
    assert b"ORT_DISABLE_TELEMETRY=1" in environment
    assert (proc / "cwd").readlink() == Path("/")


def test_children_keep_no_file_open() -> None:
    with open_media(PNG) as media:
        media.image()
        folder = Path(f"/proc/{idle()[0].process.pid}/fd")
        for _ in range(50):
            opened = {str(link.readlink()) for link in folder.iterdir()}
            if not any("memfd:media" in target for target in opened):
                break
            time.sleep(0.02)
        else:
            pytest.fail(f"still open: {opened}")


def test_no_network_where_the_system_allows_it() -> None:
    open_media(PNG).close()
    own = Path("/proc/self/ns/net").readlink()
    child = (Path("/proc") / str(idle()[0].process.pid) / "ns/net").readlink()
    if child == own:
        pytest.skip("this system allows no network namespaces")
    assert child != own


def test_different_memory_limits_use_different_children() -> None:
    for megabytes in (700, 800, 700):
        open_media(PNG, limits=Limits(decode_memory_bytes=megabytes * 1024**2)).close()
    assert sorted(child.memory_bytes // 1024**2 for child in idle()) == [700, 800]


def test_many_threads() -> None:
    scenes = [make.scene(seed=seed) for seed in range(6)]
    files = [make.image_bytes(scene) for scene in scenes]

    def read(index: int) -> bool:
        with open_media(files[index % 6]) as media:
            return bool((media.image() == scenes[index % 6]).all())

    with ThreadPoolExecutor(3) as threads:
        assert all(threads.map(read, range(60)))
    assert 1 <= len(idle()) <= 3
    # Children must outlive the threads that first asked for them.
    before = {child.process.pid for child in idle()}
    time.sleep(0.1)
    open_media(PNG).close()
    assert {child.process.pid for child in idle()} == before


def test_frames_and_sound_of_one_file_at_once() -> None:
    """Both read the same descriptor, each at its own position."""
    sound = make.tone(2.0, sample_rate=48000)
    movie = make.video_bytes([make.scene()] * 50, format="matroska", sound=sound)
    with open_media(movie) as media:
        alone = media.audio(sample_rate=16000, max_seconds=10)
        for count, _ in enumerate(media.frames(most=50)):
            if count % 10 == 0:
                assert (media.audio(sample_rate=16000, max_seconds=10) == alone).all()


def test_too_few_open_files_is_an_error_not_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", refuse)
    with pytest.raises(DeepfakeError, match="cannot be started") as caught:
        open_media(PNG)
    assert caught.value.code == "decoder"


def test_a_child_that_cannot_import_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_import_paths", lambda: ["/nonexistent"])
    decode.POOL.close()
    with pytest.raises(DeepfakeError, match="cannot be started"):
        open_media(PNG)


def test_a_child_that_died_before_it_was_asked_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a failed start nor the death of an idle child is the fault of a file."""
    paths = decode._import_paths()
    starts = [["/nonexistent"], paths, paths]
    monkeypatch.setattr(decode, "_import_paths", lambda: starts.pop(0))
    decode.POOL.close()
    assert open_one(PNG) == make.scene()[0, 0, 2]
    assert "ModuleNotFoundError" in caplog.text
    assert len(starts) == 1
    (child,) = idle()
    monkeypatch.setattr(child.process, "poll", lambda: None)  # it dies just after this look
    os.kill(child.process.pid, signal.SIGTERM)
    child.process.wait()
    assert open_one(PNG) == make.scene()[0, 0, 2]
    assert not starts


def test_a_child_is_started_while_another_thread_imports_opencv(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """For a while the folder of OpenCV, where a ``typing`` is, stands before those of Python."""
    folder = str(Path(cv2.__file__).parent)
    assert Path(folder, "typing").exists()
    monkeypatch.setattr(sys, "path", [sys.path[0], folder, *sys.path[1:]])
    decode.POOL.close()
    assert open_one(PNG) == make.scene()[0, 0, 2]
    assert not caplog.text


def open_one(content: bytes) -> int:
    with open_media(content) as media:
        return int(media.image()[0, 0, 2])


def test_in_a_spawned_process() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(open_one, (PNG,)) == make.scene()[0, 0, 2]


SCRIPT = """
import os, sys
from deepfake.media.shared_memory import SharedPixels, map_shared
from deepfake.media.process import POOL
from deepfake.media.opening import Media, open_media
content = sys.stdin.buffer.read()
def read():
    with open_media(content) as media:
        media.image()
    return POOL._idle[0].process.pid
"""


def run_script(code: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT + code],
        input=PNG,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_in_a_fork() -> None:
    done = run_script(
        """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
first = read()
if os.fork() == 0:
    assert read() != first
    sys.exit(0)
_, status = os.wait()
assert status == 0
assert read() == first
print("fine")
"""
    )
    assert (done.stdout, done.stderr) == (b"fine\n", b"")


@pytest.mark.parametrize("end", ["", "os._exit(3)", "os.kill(os.getpid(), 9)"])
def test_children_do_not_outlive_their_owner(end: str) -> None:
    done = run_script(f"print(read(), flush=True)\n{end}\n")
    assert done.stderr == b""
    assert ended(int(done.stdout))


def test_ctrl_c_does_not_reach_the_child() -> None:
    open_media(PNG).close()
    (child,) = idle()
    child.process.send_signal(signal.SIGINT)
    open_media(PNG).close()
    assert idle() == [child]


def test_errors_of_the_metadata_readers_arrive_whole(tmp_path: Path) -> None:
    """Class, code, text and hint survive the way from the child."""
    for error in (
        Corrupt("thing x: why", code=Code.NO_STREAMS, hint="do that"),
        SettingsError("option y: wrong"),
        TooLarge("file z: big", hint="cut it"),
    ):
        copy = wire.error_from_dict(wire.error_to_dict(error))
        assert (type(copy), str(copy), copy.code, copy.hint) == (
            type(error),
            str(error),
            error.code,
            error.hint,
        )
    unknown = wire.error_from_dict({"class": "os.system", "text": "t", "code": "c", "hint": None})
    assert type(unknown) is Corrupt


def test_metadata_and_manifest_of_a_plain_picture() -> None:
    pytest.importorskip("deepfake.traces.containers")
    with open_media(make.image_bytes(make.scene(), "jpeg", comment=b"made here")) as media:
        assert "made here" in str(media.metadata())
        assert isinstance(media.manifest(), dict)


HOSTILE: list[tuple[bytes, str]] = [
    (b"\xff\xff\xff\xff", "header"),
    (b"\x04\0\0\0nope", "no JSON"),
    (b"\x02\0\0\0[]", "no JSON object"),
    (b"\x0e\0\0\0" + b'{"shape": [-1]}'[:14], "no JSON"),
    (b"\x22\0\0\0" + b'{"shape":[4,-1,3],"dtype":"uint8"}', "impossible shape"),
    (b"\x24\0\0\0" + b'{"shape":[1,1,1,1],"dtype":"uint8"} ', "unknown form"),
    (b"\x1f\0\0\0" + b'{"shape":[9],"dtype":"object"} ', "unknown form"),
    (b"\x27\0\0\0" + b'{"shape":[900,900],"dtype":"uint8"}    ', "bytes"),
]


def painted(shape: list[int], dtype: str = "uint8") -> bytes:
    text = json.dumps({"shape": shape, "dtype": dtype, "painted": True}).encode()
    return struct.pack("<I", len(text)) + text


@pytest.mark.parametrize(
    ("data", "size"), [(painted([9]), None), (painted([9]), 8), (painted([1], "float32"), 8)]
)
def test_pixels_beyond_the_canvas_are_refused(data: bytes, size: int | None) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        shared = None if size is None else np.zeros(size, np.uint8)
        with pytest.raises(wire.ProtocolError, match="no shared memory"):
            wire.receive(ours, max_array_bytes=1000, shared=shared)


def test_descriptors_from_a_child_are_not_taken() -> None:
    ours, theirs = socket.socketpair()
    opened = Path("/proc/self/fd")
    with ours, theirs, Path(os.devnull).open("rb") as file:
        wire.send(theirs, {"type": "part"}, descriptors=[file.fileno()])
        before = len(list(opened.iterdir()))
        assert wire.receive(ours, max_array_bytes=0).descriptors == []
        assert len(list(opened.iterdir())) == before


def test_a_canvas_keeps_its_size_and_what_its_owner_writes() -> None:
    shared = SharedPixels(6)
    other = map_shared(os.dup(shared.descriptor))
    other[:] = [1, 2, 3, 4, 5, 6]
    assert shared.pixels.tolist() == [1, 2, 3, 4, 5, 6]
    shared.pixels[0] = 9
    assert other[0] == 1
    for size in (3, 12):
        with pytest.raises(PermissionError):
            os.ftruncate(shared.descriptor, size)
    shared.close()
    assert shared.pixels.tolist() == [9, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("turned", [1, 6])
def test_jpegs_have_the_pixels_that_pillow_gives(subsampling: str, turned: int) -> None:
    exif = Image.Exif()
    exif[274] = turned
    file = io.BytesIO()
    picture = Image.fromarray(make.scene()[:101, :67])
    picture.save(file, "jpeg", quality=80, subsampling=subsampling, exif=exif)
    with open_media(file.getvalue()) as media:
        pixels = media.image()
        assert pixels.flags.writeable
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(file.getvalue())))
    assert expected is not None
    np.testing.assert_array_equal(pixels, np.asarray(expected))


@pytest.mark.parametrize(("data", "words"), HOSTILE)
def test_nonsense_from_a_child_is_refused(data: bytes, words: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(wire.ProtocolError, match=words):
            wire.receive(ours, max_array_bytes=1000)


class FakeDecoder(Decoder):
    """A decoder whose process is replaced by prepared messages."""

    def __init__(self, messages: list[tuple[dict[str, Any], Any]]) -> None:
        self.connection, self._theirs = socket.socketpair()
        self.memory_bytes, self.requests, self._ready = 1, 0, True
        for message, array in messages:
            wire.send(self._theirs, message, array=array)

    def close(self) -> None:
        self.connection.close()
        self._theirs.close()


@pytest.mark.parametrize(
    "messages",
    [
        [({"type": "surprise"}, None)],
        [({"type": "done", "values": [1]}, None)],
        [({"type": "done", "values": {"kind": "banana", "format": "png"}}, None)],
        [({"type": "done", "values": {}}, None)],
    ],
)
def test_impossible_answers_are_refused(
    messages: list[tuple[dict[str, Any], Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeDecoder(messages)
    monkeypatch.setattr(Pool, "take", lambda pool, **options: fake)
    monkeypatch.setattr(Pool, "give_back", Pool.discard)
    with pytest.raises(Corrupt, match="answer") as caught:
        open_media(PNG)
    assert caught.value.code == "decoder_failed"
    fake.close()


def test_arrays_cross_quickly() -> None:
    """A picture of 36 MB must not wait for its copy; measured without decoding."""
    pixels = np.zeros((3000, 4000, 3), np.uint8)
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as threads:
        best = 9.0
        for _ in range(5):
            began = time.perf_counter()
            sending = threads.submit(wire.send, theirs, {"type": "part"}, array=pixels)
            received = wire.receive(ours, max_array_bytes=pixels.nbytes)
            sending.result()
            best = min(best, time.perf_counter() - began)
    assert received.array is not None
    assert received.array.shape == pixels.shape
    assert best < 0.5


def test_escaping() -> None:
    assert escape("a\nb\x1b[0m\udcff\u202e – é") == "a\\nb\\x1b[0m\\xff\\u202e – é"


def test_ask_reports_where_nothing_can_be_read() -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    with pytest.raises(MediaError):
        list(ask("probe", descriptor=read_end, name="pipe", limits=Limits()))
    os.close(read_end)
