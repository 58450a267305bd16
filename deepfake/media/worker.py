"""The decoder process: confines itself, then answers requests on standard input until it ends.

Expected failures are sent as errors. Anything else is left to end the process with its traceback
on standard error, from which the owner explains the death: after an unforeseen failure inside a
decoder the process is not fit for another file anyway. It confines itself with bare system calls,
because a sandbox of another program may be missing where this one runs.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import DeepfakeError
from ..settings import Limits
from .job import Descriptor, Job
from .landlock import keep_reading_libraries
from .seccomp import refuse_system_calls
from .shared_memory import map_shared
from .wire import Message, error_to_dict, receive, send

if TYPE_CHECKING:
    pass

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_OPEN_FILES = 128
_OPERATIONS = {
    "probe": ("deepfake.media.probe", "probe"),
    "image": ("deepfake.media.image", "decode_image"),
    "frames": ("deepfake.media.video", "decode_frames"),
    "bursts": ("deepfake.media.bursts", "decode_bursts"),
    "audio": ("deepfake.media.audio", "decode_audio"),
    "metadata": ("deepfake.traces.answers", "metadata"),
    "manifest": ("deepfake.traces.answers", "manifest"),
}
"""Imported when they are asked for, by name: what reads traces lies a floor above."""
_PICTURE_MODULES = (
    "deepfake.media.probe",
    "deepfake.media.image",
    "deepfake.traces.answers",
    "simplejpeg",
)


def main() -> None:
    """Serve the owner at the other end of standard input until it hangs up."""
    confine(memory_bytes=int(sys.argv[2]), parent=int(sys.argv[3]))
    connection = socket.socket(fileno=os.dup(0))
    send(connection, {"type": "ready"})
    for name in _PICTURE_MODULES:  # while the owner still opens the file
        importlib.import_module(name)
    while True:
        try:
            message, _, descriptors = receive(connection, max_array_bytes=0, most_descriptors=2)
        except EOFError:
            return
        if not descriptors:
            raise SystemExit("a request without a file")
        with Descriptor(descriptors[0]) as stream:
            shared = map_shared(descriptors[1]) if len(descriptors) > 1 else None
            serve(message, connection, stream, shared)


def confine(*, memory_bytes: int, parent: int) -> None:
    """Give up what decoding does not need; end with the owner."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    # An empty network namespace where the system allows one; without, only this layer is missing.
    libc.unshare(_CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWUSER | _CLONE_NEWNET)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the owner is gone")
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        _, most = resource.getrlimit(limit)
        allowed = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(limit, (allowed, allowed))
    keep_reading_libraries(libc)  # likewise only where the system has it
    refuse_system_calls(libc)


def serve(
    message: Message,
    connection: socket.socket,
    stream: Descriptor,
    shared: npt.NDArray[np.uint8] | None,
) -> None:
    """Answer one request."""
    limits = Limits(**message["limits"])
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(time.process_time()) + limits.decode_cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, most))
    job = Job(
        connection=connection, stream=stream, name=message["name"], limits=limits, shared=shared
    )
    operation = find_operation(message["operation"])
    try:
        values = operation(job, **message["values"])
    except DeepfakeError as error:
        send(connection, {"type": "error", **error_to_dict(error)})
    else:
        values = {**values, "warnings": job.warnings}
        send(connection, {"type": "done", "values": values})


def find_operation(name: str) -> Callable[..., dict[str, Any]]:
    """The function that answers requests of this name: ``(job, **values)`` to JSON values."""
    module, attribute = _OPERATIONS[name]
    operation: Callable[..., dict[str, Any]] = getattr(importlib.import_module(module), attribute)
    return operation
