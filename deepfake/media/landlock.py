"""Landlock (Linux 5.13 and newer): what this process may never do to files again.

By bare system calls, as in :mod:`.worker`; see ``linux/landlock.h`` for the numbers.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls, the same on x86 and Arm."""
_GET_VERSION, _PATH_BENEATH = 1, 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_EVERY_TCP, _EVERY_SCOPE = 0b11, 0b11
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many rights on files a version knows; newer ones know 16."""
_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/nix/store", "/gnu/store", "/etc/ld.so.cache"),
    *("/dev/urandom", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat"),
    "/sys/devices/system/cpu",
)
_PACKAGES = ("av", "c2pa", "cv2", "defusedxml", "mutagen", "numpy", "PIL", "pi_heif", "simplejpeg")
"""What decoding imports: an installer may have linked it into ``sys.path`` from elsewhere."""


def keep_reading_libraries(libc: ctypes.CDLL) -> None:
    """Take from this thread every right on files but to read what Python imports, and the system's
    libraries; with newer kernels also TCP (6.7) and signals to other processes (6.12).

    Files that are open stay so. Needs ``PR_SET_NO_NEW_PRIVS``; does nothing where it is missing.
    """
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _GET_VERSION)
    if version < 1:
        return
    handled = struct.pack(
        "QQQ",
        (1 << _FILE_RIGHTS.get(version, 16)) - 1,
        _EVERY_TCP if version >= 4 else 0,
        _EVERY_SCOPE if version >= 6 else 0,
    )
    ruleset = libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    if ruleset < 0:
        return
    try:
        for path in _readable():
            _allow_reading(libc, ruleset, path)
        libc.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _readable() -> Iterable[str]:
    folders = [sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[1]), *sys.path]
    folders += os.environ.get("LD_LIBRARY_PATH", "").split(":")
    found = [spec.origin for name in _PACKAGES if (spec := find_spec(name)) and spec.origin]
    folders += [str(Path(origin).resolve().parents[1]) for origin in found]
    return dict.fromkeys([*_SYSTEM, *filter(os.path.isabs, folders)])


def _allow_reading(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = _READ_FILE | (_READ_FOLDER if os.path.isdir(path) else 0)  # noqa: PTH112
        rule = struct.pack("=Qi", rights, descriptor)
        libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)
