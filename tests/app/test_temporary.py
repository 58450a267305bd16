from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from deepfake_app.temporary import LOCK, PREFIX, private_folder, remove_leftovers

HOLD = """
import sys
from deepfake_app.temporary import private_folder
with private_folder() as folder:
    (folder / "upload").write_bytes(b"somebody's picture")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def hold() -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_the_folder_is_private_and_goes_with_its_block(tmp_path: Path) -> None:
    with private_folder() as folder:
        assert folder.stat().st_mode & 0o077 == 0
        assert folder.parent.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    process, left = hold()
    with process:
        process.send_signal(signal.SIGKILL)
    assert (left / "upload").exists()
    with private_folder() as folder:
        assert list(tmp_path.iterdir()) == [folder.parent]


def test_the_folder_of_a_running_process_is_never_touched(tmp_path: Path) -> None:
    process, theirs = hold()
    with process, private_folder():
        remove_leftovers()
        assert (theirs / "upload").exists()
        process.communicate()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_this_process_is_never_touched_either() -> None:
    with private_folder() as one, private_folder() as two:
        assert one.exists()
        assert two.exists()


def test_what_is_no_leftover_stays(tmp_path: Path) -> None:
    others, unlocked = tmp_path / "others", tmp_path / f"{PREFIX}new"
    others.mkdir()
    unlocked.mkdir()  # another process is just making it
    (others / LOCK).touch()
    (tmp_path / f"{PREFIX}link").symlink_to(others)
    os.mkfifo(tmp_path / f"{PREFIX}pipe")
    remove_leftovers()
    assert len(list(tmp_path.iterdir())) == 4
    assert (others / LOCK).exists()
