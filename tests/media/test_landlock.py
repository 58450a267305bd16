"""What a decoder that a file has taken over cannot do, tried in a process confined as it is."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from deepfake.media import landlock
from tests.media.confined import try_confined

_TRIES = """
import mmap, os, pathlib, subprocess, sys

folder = pathlib.Path(sys.argv[1])
kept = os.open(folder / "open", os.O_RDONLY)


def change_in_place():
    with open(folder / "victim", "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:6] = b"broken"


tries = {
    "read": lambda: (folder / "victim").read_text(),
    "list": lambda: os.listdir(folder),
    "change": change_in_place,
    "truncate": lambda: os.truncate(folder / "victim", 0),
    "delete": lambda: (folder / "victim").unlink(),
    "make": lambda: (folder / "new").touch(),
    "link": lambda: (folder / "new").symlink_to("victim"),
    "rename": lambda: (folder / "victim").rename(folder / "new"),
    "run": lambda: subprocess.run(["/bin/true"], check=True),
    "signal": lambda: os.kill(os.getppid(), 0),
    "environment": lambda: pathlib.Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "kept": lambda: os.read(kept, 4),
    "import": lambda: __import__("wave"),
}
"""


def landlock_version() -> int:
    return int(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1))


def test_a_confined_process_reaches_no_file_but_libraries(tmp_path: Path) -> None:
    version = landlock_version()
    if version < 6:
        pytest.skip("this kernel has no Landlock that does all of it")
    (tmp_path / "victim").write_text("a file of the user")
    (tmp_path / "open").write_text("kept")
    assert try_confined(_TRIES, str(tmp_path)) == ["kept", "import"]
    assert {path.name for path in tmp_path.iterdir()} == {"victim", "open"}
    assert (tmp_path / "victim").read_text() == "a file of the user"


def test_packages_that_are_linked_from_elsewhere_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache" / "linked").mkdir(parents=True)
    (tmp_path / "cache" / "linked" / "__init__.py").touch()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "linked").symlink_to(tmp_path / "cache" / "linked")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(landlock, "_PACKAGES", ("linked", "no_such_package"))
    assert str(tmp_path / "cache") in landlock._readable()
