"""Beyond what ``test_process`` shows of a canvas in use."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import numpy as np
import pytest

from deepfake.media.shared_memory import Canvas, paint_on


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_canvas_starts_empty_and_keeps_what_was_painted_after_it_was_closed() -> None:
    canvas = Canvas(5000)
    assert canvas.pixels.shape == (5000,)
    assert not canvas.pixels.any()
    painted = paint_on(os.dup(canvas.descriptor))
    painted[:3] = 7
    canvas.close()
    canvas.close()
    assert canvas.pixels[:4].tolist() == [7, 7, 7, 0]


def test_its_seals_cannot_be_taken_off_or_added_to() -> None:
    canvas = Canvas(10)
    seals = fcntl.fcntl(canvas.descriptor, fcntl.F_GET_SEALS)
    assert seals == fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    with pytest.raises(PermissionError):
        fcntl.fcntl(canvas.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    canvas.close()


def test_nothing_stays_open() -> None:
    before = open_files()
    for _ in range(3):
        canvas = Canvas(100)
        painted = paint_on(os.dup(canvas.descriptor))
        canvas.close()
        painted[0] = 1
        del canvas, painted
    for size in (0, -1):
        with pytest.raises((OSError, ValueError)):
            Canvas(size)
    assert open_files() == before


def test_a_file_that_is_no_canvas_is_refused_and_closed(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    before = open_files()
    with pytest.raises(ValueError, match="empty"):
        paint_on(os.open(tmp_path / "empty", os.O_RDWR))
    assert open_files() == before


def test_pixels_can_be_written_by_both_sides() -> None:
    canvas = Canvas(12)
    picture = canvas.pixels.reshape(2, 2, 3)
    picture[...] = 5
    assert paint_on(os.dup(canvas.descriptor)).tolist() == [0] * 12
    np.testing.assert_array_equal(picture, 5)
    canvas.close()
