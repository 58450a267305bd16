"""Where the media of jobs lie, and what of it is deleted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("fsspec")

from deepfake_service.media import SharedMedia

TOKENS = [letter * 32 for letter in "abc"]
HOLD = f"""
import sys, fsspec
from deepfake_service.media import SharedMedia
fsspec.filesystem("memory").pipe("/held/{TOKENS[0]}/upload.png", b"somebody's picture")
with SharedMedia("memory://held").opened("{TOKENS[0]}/upload.png") as path:
    print(path, flush=True)
    sys.stdin.read()
"""


def test_a_sweep_deletes_old_uploads_and_nothing_else(tmp_path: Path) -> None:
    unused, used, new = (f"{token}/upload.png" for token in TOKENS)
    others = [
        "notes/todo.txt",
        "upload.png",
        f"{'d' * 32}/upload.png/part",
        f"{'e' * 32}/report.pdf",
        f"{'F' * 32}/upload",
        f"photos/{'f' * 32}/upload.jpg",
    ]
    media = SharedMedia(str(tmp_path))
    for place in (unused, used, new, *others):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"x")
        if place != new:
            os.utime(tmp_path / place, (1, 1))
    media.sweep([used])
    assert not (tmp_path / unused).parent.exists()
    assert all((tmp_path / place).exists() for place in (used, new, *others))


def test_what_a_killed_worker_fetched_is_removed_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        left = Path(process.stdout.readline().strip())
        SharedMedia("memory://held")
        assert left.read_bytes() == b"somebody's picture"
        process.send_signal(signal.SIGKILL)
    assert left.exists()
    SharedMedia("memory://held")
    assert list(tmp_path.iterdir()) == []
