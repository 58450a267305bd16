"""Runs a command and records whom it and its children ask, and what they write.

The kernel reports their system calls, so that native code is seen as well, without root and without
a tool: seccomp's user notification (``man 2 seccomp_unotify``, Linux 5.9). Nothing reaches another
machine from here: a call that would is recorded and refused.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import math
import os
import platform
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
INHERITED = (
    *("PATH", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"),
    "DEEPFAKE_TRUSTED_KEYS",
)
"""All that an observed command gets of this environment: telemetry rests where a ``CI`` is named,
and where the switches are set that this process has set already. The keys sign the tests' bundles.
"""
DNS_PORT = 53
CHILD_SECONDS = 5.0
"""How long a child may outlive the command."""
_NOTIF = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_AT_FDCWD = -100
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Call(NamedTuple):
    """A system call and the argument that tells what it is about."""

    name: str
    subject: str
    argument: int


class Platform(NamedTuple):
    """What the filter needs of a processor; ``calls`` by their numbers."""

    audit: int
    seccomp: int
    calls: dict[int, Call]


def _calls(**numbers: tuple[int, str, int]) -> dict[int, Call]:
    return {number: Call(name, kind, at) for name, (number, kind, at) in numbers.items()}


PLATFORMS = {
    "x86_64": Platform(
        audit=0xC000003E,
        seccomp=317,
        calls=_calls(
            connect=(42, "address", 1),
            sendto=(44, "address", 4),
            sendmsg=(46, "message", 1),
            sendmmsg=(307, "message", 1),
            open=(2, "path", 0),
            creat=(85, "path", 0),
            openat=(257, "path at", 1),
            mkdir=(83, "path", 0),
            mkdirat=(258, "path at", 1),
            rename=(82, "path", 1),
            renameat=(264, "path at", 3),
            renameat2=(316, "path at", 3),
            link=(86, "path", 1),
            linkat=(265, "path at", 3),
            symlink=(88, "path", 1),
            symlinkat=(266, "path at", 2),
            mknod=(133, "path", 0),
            mknodat=(259, "path at", 1),
            truncate=(76, "path", 0),
        ),
    ),
    "aarch64": Platform(
        audit=0xC00000B7,
        seccomp=277,
        calls=_calls(
            connect=(203, "address", 1),
            sendto=(206, "address", 4),
            sendmsg=(211, "message", 1),
            sendmmsg=(269, "message", 1),
            openat=(56, "path at", 1),
            mkdirat=(34, "path at", 1),
            renameat=(38, "path at", 3),
            renameat2=(276, "path at", 3),
            linkat=(37, "path at", 3),
            symlinkat=(36, "path at", 2),
            mknodat=(33, "path at", 1),
            truncate=(45, "path", 0),
        ),
    ),
}
_FLAGS_OF = {"open": 1, "openat": 2}

_LAUNCHER = """
import ctypes, os, socket, sys, threading

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

number, instructions, descriptor, *command = sys.argv[1:]
channel = socket.socket(fileno=int(descriptor))
channel.set_inheritable(False)
found = []
installed = threading.Event()

def hand_over():  # the filter asks about sendmsg, but only in the thread that has installed it
    installed.wait()
    listener, error = found
    socket.send_fds(channel, [str(error).encode()], [listener] if listener >= 0 else [])

thread = threading.Thread(target=hand_over)
thread.start()
instructions = bytes.fromhex(instructions)
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)  # no new privileges, without which only root may install a filter
program = Program(len(instructions) // 8, instructions)
listener = libc.syscall(int(number), 1, 8, ctypes.byref(program))
found[:] = listener, ctypes.get_errno()
installed.set()
thread.join()
if listener < 0:
    sys.exit("not observed")
os.execv(command[0], command)
"""


class Unobservable(Exception):
    """This system does not let a process observe another one's system calls."""


class Observed:
    """A command that runs in ``folder/work``, with ``folder/home`` and ``folder/tmp`` as its own.

    ``asked`` are the addresses that it or a child tried to reach beyond this machine, servers of
    names on it included; ``written`` are the paths that one of them created, or opened to write.
    Without ``watched`` the command runs, and both stay empty. Raises ``Unobservable``.
    """

    def __init__(self, command: Sequence[str], folder: Path, *, watched: bool = True) -> None:
        self.asked: list[str] = []
        self.written: list[Path] = []
        self.home, self.temporary, self.work = (folder / n for n in ("home", "tmp", "work"))
        for own in (self.home, self.temporary, self.work):
            own.mkdir(parents=True, exist_ok=True)
        self._output = folder / "output"
        self._thread: threading.Thread | None = None
        self.watched = watched
        self._end_seconds, self._left_behind = math.inf, False
        self.process = self._watch(command) if watched else self._start(command)

    def _start(self, command: Sequence[str], *descriptors: int) -> subprocess.Popen[bytes]:
        with self._output.open("wb") as output:
            return subprocess.Popen(
                command,
                cwd=self.work,
                env={
                    **{name: os.environ[name] for name in INHERITED if name in os.environ},
                    "HOME": str(self.home),
                    "TMPDIR": str(self.temporary),
                    "PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'app'}",
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "PYTHONUNBUFFERED": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=descriptors,
            )

    def _watch(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        here = PLATFORMS.get(platform.machine())
        if here is None:
            raise Unobservable(f"no table of system calls for {platform.machine()}")
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                own = theirs.fileno()
                arguments = [str(here.seccomp), _filter(here).hex(), str(own), *command]
                process = self._start([sys.executable, "-I", "-c", _LAUNCHER, *arguments], own)
            error, listeners, _, _ = socket.recv_fds(ours, 16, 1)
        if not listeners:
            process.wait()
            raise Unobservable(f"seccomp: {os.strerror(int(error or b'0'))}")
        self._thread = threading.Thread(target=self._serve, args=(*listeners, here), daemon=True)
        self._thread.start()
        return process

    def text(self) -> str:
        """What it has printed so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float) -> int:
        """The exit status; raises ``TimeoutExpired`` when the command takes longer, and
        ``AssertionError`` when it leaves a process behind.
        """
        try:
            status = self.process.wait(seconds)
        finally:
            self.process.kill()
            self.process.wait()
            self._end_seconds = time.monotonic() + CHILD_SECONDS
            if self._thread is not None:
                self._thread.join()
        assert not self._left_behind, "a child has outlived the command"
        return status

    def _serve(self, listener: int, here: Platform) -> None:
        """Answer each call that is asked about, until no process is left."""
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        try:
            while time.monotonic() < self._end_seconds:
                events = poll.poll(100)
                if events and events[0][1] & select.POLLHUP:
                    return
                if events:
                    with contextlib.suppress(FileNotFoundError):  # interrupted, or ended
                        self._answer(listener, here)
            self._left_behind = True
        finally:
            os.close(listener)

    def _answer(self, listener: int, here: Platform) -> None:
        buffer = bytearray(_NOTIF.size)
        fcntl.ioctl(listener, _RECEIVE, buffer)
        number_of_call, pid, _, number, _, _, *values = _NOTIF.unpack(buffer)
        error = self._judge(here.calls[number], pid, values)
        answer = _RESPONSE.pack(number_of_call, 0, -error, 0 if error else _CONTINUE)
        fcntl.ioctl(listener, _SEND, answer)

    def _judge(self, call: Call, pid: int, values: list[int]) -> int:
        """Record a call; 0, or the number of the error that it gets."""
        try:
            if call.subject.startswith("path"):
                self._note_path(call, pid, values)
                return 0
            return self._note_address(call, pid, values)
        except OSError:  # the process has ended meanwhile
            return 0

    def _note_path(self, call: Call, pid: int, values: list[int]) -> None:
        folder = _AT_FDCWD
        if call.subject == "path at":
            (folder,) = struct.unpack("=i", struct.pack("=I", values[call.argument - 1] % 2**32))
        base = f"/proc/{pid}/cwd" if folder == _AT_FDCWD else f"/proc/{pid}/fd/{folder}"
        name = os.fsdecode(_read(pid, values[call.argument], 4096, text=True))
        path = Path(os.path.normpath(Path(base).readlink() / name))
        if path not in self.written:
            self.written.append(path)

    def _note_address(self, call: Call, pid: int, values: list[int]) -> int:
        at, length = values[call.argument], values[call.argument + 1]
        if call.subject == "message":
            at, length = struct.unpack("=QI", _read(pid, at, 12))
        address = _read(pid, at, min(length, 128)) if at and length else b""
        place, refused = _place(address)
        line = f"{_command_of(pid)}: {call.name} {place}"
        if place and line not in self.asked:
            self.asked.append(line)
        return refused


def _place(address: bytes) -> tuple[str, int]:
    """What of a socket address is to be recorded, and the error that its use shall give."""
    if len(address) < 2:
        return "", 0
    (family,) = struct.unpack("=H", address[:2])
    if family == socket.AF_UNIX:
        name = os.fsdecode(address[2:].rstrip(b"\0").lstrip(b"\0").partition(b"\0")[0])
        if name.endswith("nscd/socket"):  # a cache of names; without it they are asked for
            return "", errno.ENOENT
        asks = "/systemd/resolve/" in name
        return (name, errno.ENOENT) if asks else ("", 0)
    if family == socket.AF_INET:
        host: ipaddress.IPv4Address | ipaddress.IPv6Address
        host = ipaddress.IPv4Address(address[4:8])
    elif family == socket.AF_INET6:
        host = ipaddress.IPv6Address(address[8:24])
    else:
        return "", 0
    (port,) = struct.unpack("!H", address[2:4])
    here = host.is_loopback or host.is_unspecified
    if here and port != DNS_PORT:
        return "", 0
    what = " (a look-up)" if port == DNS_PORT else ""
    return f"{host} port {port}{what}", errno.ENETUNREACH


def _filter(here: Platform) -> bytes:
    """A program of the Berkeley packet filter that asks about ``calls`` and lets all others be.

    Of the calls that open a file it asks only about those that may write.
    """
    load, equal, some_bits, give = 0x20, 0x15, 0x45, 0x06
    allow, ask = (give, 0, 0, 0x7FFF0000), (give, 0, 0, 0x7FC00000)
    steps = [(load, 0, 0, 4), (equal, 1, 0, here.audit), allow, (load, 0, 0, 0)]
    for number, call in here.calls.items():
        if call.name in _FLAGS_OF:
            flags = (load, 0, 0, 16 + 8 * _FLAGS_OF[call.name])
            steps += [(equal, 0, 4, number), flags, (some_bits, 0, 1, _WRITES), ask, allow]
        elif call.name == "sendto":  # without an address it goes where connect has led
            address = (load, 0, 0, 16 + 8 * call.argument)
            steps += [(equal, 0, 4, number), address, (equal, 1, 0, 0), ask, allow]
        else:
            steps += [(equal, 0, 1, number), ask]
    return b"".join(struct.pack("=HBBI", *step) for step in [*steps, allow])


def _read(pid: int, address: int, length: int, *, text: bool = False) -> bytes:
    """Memory of a process, less where it ends before ``length``; ``text`` up to its first zero."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        up_to_page = 4096 - address % 4096
        first = os.pread(memory.fileno(), min(length, up_to_page), address)
        if length > up_to_page and not (text and b"\0" in first):
            first += os.pread(memory.fileno(), length - up_to_page, address + up_to_page)
    return first.partition(b"\0")[0] if text else first


def _command_of(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return " ".join(os.fsdecode(b" ".join(words)).split())[:120]
