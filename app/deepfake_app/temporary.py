"""A folder for uploads that does not outlive its process for long."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "deepfake-page-"
LOCK = "in-use"


@contextlib.contextmanager
def private_folder(prefix: str = PREFIX) -> Iterator[Path]:
    """A folder that only this user can read, gone at the end of the block.

    Its lock is held by this process as long as it lives, however it ends, so that the next one
    finds and removes what a killed one left (:func:`remove_leftovers`).
    """
    remove_leftovers(prefix)
    folder, lock = _make(prefix)
    try:
        yield folder / "uploads"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_leftovers(prefix: str = PREFIX) -> None:
    """Remove the folders of processes that no longer run; those in use are not touched."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        lock = _lock(folder) if _is_ours(folder) else None
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _make(prefix: str) -> tuple[Path, int]:
    """A new folder and its held lock; again where another process took it for a leftover."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        (folder / LOCK).touch(mode=0o600)
        lock = _lock(folder)
        if lock is not None and (folder / LOCK).exists():
            (folder / "uploads").mkdir(mode=0o700)
            return folder, lock
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """The lock of ``folder``, now held; None when somebody holds it or there is none."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _is_ours(folder: Path) -> bool:
    """Whether it is a folder, no link, of this user's: others may write beside it."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
