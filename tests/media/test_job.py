from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from deepfake.media.job import Descriptor
from deepfake.media.wire import receive
from deepfake.settings import Limits
from tests.decoding import job_for

TEXT = bytes(range(256)) * 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(TEXT)
    return path


def test_a_descriptor_reads_as_a_file_does(path: Path) -> None:
    plain = io.BytesIO(TEXT)
    with Descriptor(os.open(path, os.O_RDONLY)) as stream:
        assert stream.bytes == len(TEXT)
        for offset, whence in ((0, 0), (900, 0), (-17, 2), (-100, 1), (5, 1), (20_000, 0)):
            assert stream.seek(offset, whence) == plain.seek(offset, whence)
            assert stream.read(33) == plain.read(33)
            assert stream.tell() == plain.tell()


def test_a_seek_before_the_start_is_an_error_and_moves_nothing(path: Path) -> None:
    with Descriptor(os.open(path, os.O_RDONLY)) as stream:
        stream.seek(7)
        with pytest.raises(OSError, match="before the start"):
            stream.seek(-8, os.SEEK_CUR)
        assert stream.tell() == 7


def test_a_place_that_no_file_reaches_is_its_end(path: Path) -> None:
    """A hostile header may state any size up to 64 bits."""
    with Descriptor(os.open(path, os.O_RDONLY)) as stream:
        for place in (len(TEXT), 2**63 - 1, 2**64):
            stream.seek(place)
            assert stream.read(8) == b""


def test_two_readers_of_one_open_file_keep_their_places(path: Path) -> None:
    """A copied descriptor shares the offset of the system, as those of two decoders do."""
    first = os.open(path, os.O_RDONLY)
    with Descriptor(first) as one, Descriptor(os.dup(first)) as other:
        one.seek(100)
        assert other.read(4) == TEXT[:4]
        assert one.read(4) == TEXT[100:104]


def test_closing_twice_closes_nothing_of_others(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    stream = Descriptor(number)
    stream.close()
    again = os.open(path, os.O_RDONLY)
    assert again == number
    stream.close()
    assert os.read(again, 2) == TEXT[:2]
    os.close(again)


def test_a_buffered_reader_starts_anew_and_leaves_the_file_open() -> None:
    with job_for(TEXT) as (job, _):
        job.stream.seek(500)
        with job.buffered() as reader:
            assert reader.read(10) == TEXT[:10]
        del reader
        assert job.buffered().read() == TEXT


def test_parts_come_with_values_and_pixels() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    with job_for(TEXT) as (job, owner):
        job.part(pixels, seconds=1.5)
        job.part(bursts=3)
        first, second = (receive(owner, max_array_bytes=100) for _ in range(2))
    assert first.message["values"] == {"seconds": 1.5}
    np.testing.assert_array_equal(first.array, pixels)
    assert (second.message["values"], second.array) == ({"bursts": 3}, None)


def test_pixels_go_over_the_canvas_where_they_fit() -> None:
    shared = np.zeros(30, np.uint8)
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    with job_for(TEXT, shared=shared) as (job, owner):
        job.part(pixels[:, ::-1])
        painted = receive(owner, max_array_bytes=100, shared=shared)
        assert painted.array is not None
        assert np.shares_memory(painted.array, shared)
        np.testing.assert_array_equal(painted.array, pixels[:, ::-1])
        for other in (np.ones((4, 4, 3), np.uint8), np.ones(5, np.float32)):
            job.part(other)
            sent = receive(owner, max_array_bytes=100, shared=shared)
            assert sent.array is not None
            assert not np.shares_memory(sent.array, shared)
            np.testing.assert_array_equal(sent.array, other)


def test_a_decoder_that_painted_itself_is_not_copied() -> None:
    shared = np.arange(24, dtype=np.uint8)
    with job_for(TEXT, shared=shared) as (job, owner):
        job.part(shared[:12].reshape(1, 4, 3))
        received = receive(owner, max_array_bytes=100, shared=shared)
    np.testing.assert_array_equal(received.array, np.arange(12).reshape(1, 4, 3))


def test_progress_is_told_once_a_second() -> None:
    with job_for(TEXT) as (job, owner):
        owner.setblocking(False)
        job.progress()
        with pytest.raises(BlockingIOError):
            receive(owner, max_array_bytes=0)
        job._progress -= 1.1
        job.progress()
        job.progress()
        assert receive(owner, max_array_bytes=0).message == {"type": "progress"}
        with pytest.raises(BlockingIOError):
            receive(owner, max_array_bytes=0)


def test_a_warning_is_kept_once() -> None:
    with job_for(TEXT) as (job, _):
        for text in ("cut", "odd", "cut"):
            job.warn(text)
        assert job.warnings == ["cut", "odd"]


@pytest.mark.parametrize(("limit", "spent"), [(600, False), (0, True)])
def test_processor_time_runs_out(limit: int, spent: bool) -> None:
    with job_for(TEXT, limits=Limits(decode_cpu_seconds=limit)) as (job, _):
        sum(range(1000))
        job._started -= 0.01
        assert job.nearly_spent() is spent


def test_an_owner_that_hung_up_is_an_error() -> None:
    with job_for(TEXT) as (job, owner):
        owner.shutdown(socket.SHUT_RDWR)
        owner.close()
        with pytest.raises(OSError, match=r"pipe|reset"):
            job.part(np.zeros((900, 900, 3), np.uint8))
