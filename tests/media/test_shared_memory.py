"""Beyond what ``test_process`` shows of shared memory in use."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import numpy as np
import pytest

from deepfake.media.shared_memory import SharedPixels, map_shared


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_canvas_starts_empty_and_keeps_what_was_painted_after_it_was_closed() -> None:
    shared = SharedPixels(5000)
    assert shared.pixels.shape == (5000,)
    assert not shared.pixels.any()
    painted = map_shared(os.dup(shared.descriptor))
    painted[:3] = 7
    shared.close()
    shared.close()
    assert shared.pixels[:4].tolist() == [7, 7, 7, 0]


def test_its_seals_cannot_be_taken_off_or_added_to() -> None:
    shared = SharedPixels(10)
    seals = fcntl.fcntl(shared.descriptor, fcntl.F_GET_SEALS)
    assert seals == fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    with pytest.raises(PermissionError):
        fcntl.fcntl(shared.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    shared.close()


def test_nothing_stays_open() -> None:
    before = open_files()
    for _ in range(3):
        shared = SharedPixels(100)
        painted = map_shared(os.dup(shared.descriptor))
        shared.close()
        painted[0] = 1
        del shared, painted
    for size in (0, -1):
        with pytest.raises((OSError, ValueError)):
            SharedPixels(size)
    assert open_files() == before


def test_a_file_that_is_no_canvas_is_refused_and_closed(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    before = open_files()
    with pytest.raises(ValueError, match="empty"):
        map_shared(os.open(tmp_path / "empty", os.O_RDWR))
    assert open_files() == before


def test_pixels_can_be_written_by_both_sides() -> None:
    shared = SharedPixels(12)
    picture = shared.pixels.reshape(2, 2, 3)
    picture[...] = 5
    assert map_shared(os.dup(shared.descriptor)).tolist() == [0] * 12
    np.testing.assert_array_equal(picture, 5)
    shared.close()
