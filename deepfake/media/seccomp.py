"""A seccomp filter (Linux 3.17 and newer): system calls that decoding never needs are refused.

By bare system calls, as in :mod:`.landlock`, which can confine neither these nor older kernels. See
``linux/seccomp.h`` and ``linux/filter.h`` for the numbers.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass

_SET_FILTER = 1
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_CLONE_THREAD = 0x10000
_OTHER_ABI = 0x40000000
"""From here on numbers are those of x32, a second way to every system call of x86-64."""


@dataclass(frozen=True)
class Machine:
    """A processor: its number in ``linux/audit.h`` and those of its system calls, of ``refused``
    ones by name.
    """

    audit: int
    seccomp: int
    clone: int
    tgkill: int
    refused: Mapping[str, int]


CLONE3 = 435
"""It takes its flags from memory, which a filter cannot read; libraries do without it."""
_EVERYWHERE = {"pidfd_send_signal": 424, "io_uring_setup": 425, "pidfd_getfd": 438}
_EVERYWHERE |= {"fchmodat2": 452, "setxattrat": 463, "removexattrat": 466}
MACHINES = {
    "x86_64": Machine(
        audit=0xC000003E,
        seccomp=317,
        clone=56,
        tgkill=234,
        refused=_EVERYWHERE
        # sockets but the one it has, and pairs of them
        | {"socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "accept4": 288}
        # processes and programs
        | {"fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "unshare": 272, "setns": 308}
        # other processes
        | {"kill": 62, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311}
        | {"rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "tkill": 200}
        # modes, owners, times and attributes of files
        | {"chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260}
        | {"fchmodat": 268, "utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280}
        | {"setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197}
        | {"lremovexattr": 198, "fremovexattr": 199, "mknod": 133, "mknodat": 259}
        # parts of the kernel with many faults
        | {"bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "open_by_handle_at": 304}
        | {"add_key": 248, "request_key": 249, "keyctl": 250, "mount": 165, "umount2": 166},
    ),
    "aarch64": Machine(
        audit=0xC00000B7,
        seccomp=277,
        clone=220,
        tgkill=131,
        refused=_EVERYWHERE
        | {"socket": 198, "bind": 200, "listen": 201, "accept": 202, "connect": 203, "accept4": 242}
        | {"execve": 221, "execveat": 281, "unshare": 97, "setns": 268}
        | {"kill": 129, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271}
        | {"rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "tkill": 130}
        | {"fchmod": 52, "fchmodat": 53, "fchownat": 54, "fchown": 55, "utimensat": 88}
        | {"setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14}
        | {"lremovexattr": 15, "fremovexattr": 16, "mknodat": 33}
        | {"bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "open_by_handle_at": 265}
        | {"add_key": 217, "request_key": 218, "keyctl": 219, "mount": 40, "umount2": 39},
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse_system_calls(libc: ctypes.CDLL) -> None:
    """From now on refuse this thread, and those that it begins, the system calls of
    :data:`MACHINES`, to begin processes and to signal others.

    Needs ``PR_SET_NO_NEW_PRIVS``; does nothing on other processors and where the kernel refuses.
    """
    machine = MACHINES.get(os.uname().machine)
    if machine is not None and sys.maxsize > 2**32:  # another table is that of 32-bit programs
        instructions = _write_filter(machine)
        program = _Program(len(instructions) // 8, instructions)
        libc.syscall(machine.seccomp, _SET_FILTER, 0, ctypes.byref(program))


def _write_filter(machine: Machine) -> bytes:
    """Instructions of 8 bytes; a test names the labels to go on at where it holds and where not, or
    none for the next instruction.
    """
    begin = [
        (_LOAD, "", "", _ARCHITECTURE),
        (_IF_EQUAL, "", "refuse", machine.audit),
        (_LOAD, "", "", _NUMBER),
        (_IF_AT_LEAST, "refuse", "", _OTHER_ABI),
        *((_IF_EQUAL, "refuse", "", number) for number in sorted(machine.refused.values())),
        (_IF_EQUAL, "missing", "", CLONE3),
        (_IF_EQUAL, "begin", "", machine.clone),
        (_IF_EQUAL, "", "allow", machine.tgkill),
        (_LOAD, "", "", _FIRST_ARGUMENT),
        (_IF_EQUAL, "allow", "refuse", os.getpid()),
    ]
    parts = {
        "": begin,
        "begin": [
            (_LOAD, "", "", _FIRST_ARGUMENT),
            (_IF_SET, "allow", "refuse", _CLONE_THREAD),
        ],
        "refuse": [(_RETURN, "", "", _REFUSE | errno.EPERM)],
        "missing": [(_RETURN, "", "", _REFUSE | errno.ENOSYS)],
        "allow": [(_RETURN, "", "", _ALLOW)],
    }
    starts: dict[str, int] = {}
    rows: list[tuple[int, str, str, int]] = []
    for label, part in parts.items():
        starts[label] = len(rows)
        rows += part
    return b"".join(
        struct.pack(
            "=HBBI", code, *(starts[to] - here if to else 0 for to in (held, failed)), value
        )
        for here, (code, held, failed, value) in enumerate(rows, 1)
    )
