"""System calls that a decoder is refused, tried in a process confined as it is."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest

from deepfake.media.seccomp import CLONE3, MACHINES
from tests.media.confined import try_confined

_TRIES = """
import os, signal, socket, subprocess, sys, threading

own = int(sys.argv[1])


def ask_by_x32():
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(0x40000000 + 39) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def begin_thread():
    thread = threading.Thread(target=print, args=["from a thread"])
    thread.start()
    thread.join()


tries = {
    "internet": lambda: socket.socket(),
    "local socket": lambda: socket.socket(socket.AF_UNIX),
    "fork": lambda: os.fork() or os._exit(0),
    "program": lambda: subprocess.run(["/bin/true"], check=True),
    "mode": lambda: os.fchmod(own, 0o777),
    "times": lambda: os.utime(own, (0, 0)),
    "attribute": lambda: os.setxattr(own, "user.a", b"b"),
    "signal": lambda: os.kill(os.getppid(), 0),
    "other table": ask_by_x32,
    "thread": begin_thread,
    "own thread": lambda: signal.pthread_kill(threading.get_ident(), 0),
    "answer": lambda: os.write(1, b""),
}
"""


@pytest.mark.skipif(platform.machine() not in MACHINES, reason="no filter for this processor")
def test_a_confined_process_is_refused_what_decoding_does_not_need(tmp_path: Path) -> None:
    path = tmp_path / "own"
    path.touch(mode=0o600)
    with path.open("r+b") as file:
        own = file.fileno()
        done = try_confined(_TRIES, str(own), pass_fds=[own])
    assert done == ["from a thread", "thread", "own thread", "answer"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_mtime > 0


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "asm-generic/unistd.h"),
    ],
)
def test_the_numbers_are_those_of_the_system(machine: str, header: str) -> None:
    path = Path("/usr/include") / header
    if not path.exists():
        pytest.skip("the headers of the kernel are not installed")
    found = re.findall(r"define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text())
    known = {name: int(number) for name, number in found}
    own = MACHINES[machine]
    named = {**own.refused, "seccomp": own.seccomp, "clone": own.clone, "tgkill": own.tgkill}
    newer = {"fchmodat2", "setxattrat", "removexattrat"}
    for name, number in {**named, "clone3": CLONE3}.items():
        assert known.get(name, number if name in newer else None) == number, name
