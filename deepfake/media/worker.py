"""The decoder process: confines itself, then answers requests on standard input until it ends.

Expected failures are sent as errors. Anything else is left to end the process with its traceback
on standard error, from which the owner explains the death: after an unforeseen failure inside a
decoder the process is not fit for another file anyway.
"""

from __future__ import annotations

import ctypes
import importlib
import io
import math
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from ..errors import DeepfakeError
from ..settings import Limits
from .shared_memory import paint_on
from .wire import Message, error_to_dict, receive, send

if TYPE_CHECKING:
    from .wire import Array

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_OPEN_FILES = 128
_PROGRESS_SECONDS = 1.0
_PICTURE_MODULES = (
    "deepfake.media.probe",
    "deepfake.media.image",
    "deepfake.traces.containers",
    "simplejpeg",
)


class Descriptor(io.RawIOBase):
    """A file read by position, because its offset is shared with other decoder processes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._position = descriptor, 0
        self.bytes = os.fstat(descriptor).st_size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._descriptor, [buffer], self._position)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.bytes}[whence]
        if start + offset < 0:
            raise OSError("seek before the start")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


@dataclass(kw_only=True)
class Job:
    """One request: the file, what it may cost, and the way to answer. ``name`` is for texts."""

    connection: socket.socket
    stream: Descriptor
    name: str
    limits: Limits
    canvas: npt.NDArray[np.uint8] | None = None
    warnings: list[str] = field(default_factory=list)
    _progress: float = field(default_factory=time.monotonic)
    _started: float = field(default_factory=time.process_time)

    def part(self, array: Array | None = None, **values: Any) -> None:
        """Send one result, its pixels over the canvas where they fit on it."""
        painted = array is not None and array.dtype == np.uint8 and self._paint(array)
        send(self.connection, {"type": "part", "values": values}, array=array, painted=painted)
        self._progress = time.monotonic()

    def _paint(self, pixels: npt.NDArray[Any]) -> bool:
        """Copy pixels to the canvas, unless they lie there; False where they do not fit."""
        if self.canvas is None or pixels.size > len(self.canvas):
            return False
        if not np.may_share_memory(pixels, self.canvas):
            self.canvas[: pixels.size].reshape(pixels.shape)[...] = pixels
        return True

    def progress(self) -> None:
        """Tell the owner, at most once a second, that decoding moves on."""
        now = time.monotonic()
        if now - self._progress > _PROGRESS_SECONDS:
            send(self.connection, {"type": "progress"})
            self._progress = now

    def warn(self, text: str) -> None:
        """Record one sentence for a person, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def nearly_spent(self) -> bool:
        """Whether most of the processor time is used, so that it is time to end with what is."""
        spent = time.process_time() - self._started
        return spent > 0.9 * self.limits.decode_cpu_seconds

    def buffered(self) -> BinaryIO:
        """The file from its start, for decoders that read in small steps."""
        self.stream.seek(0)
        return cast(BinaryIO, _Unowned(self.stream, 256 * 1024))


class _Unowned(io.BufferedReader):
    """A reader whose disposal leaves the file open, since several decoders may follow."""

    def close(self) -> None:
        pass


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
            canvas = paint_on(descriptors[1]) if len(descriptors) > 1 else None
            serve(message, connection, stream, canvas)


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


def serve(
    message: Message,
    connection: socket.socket,
    stream: Descriptor,
    canvas: npt.NDArray[np.uint8] | None,
) -> None:
    """Answer one request."""
    limits = Limits(**message["limits"])
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(time.process_time()) + limits.decode_cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, most))
    job = Job(
        connection=connection, stream=stream, name=message["name"], limits=limits, canvas=canvas
    )
    operation = _operations()[message["operation"]]
    try:
        values = operation(job, **message["values"])
    except DeepfakeError as error:
        send(connection, {"type": "error", **error_to_dict(error)})
    else:
        values = {**values, "warnings": job.warnings}
        send(connection, {"type": "done", "values": values})


def _operations() -> dict[str, Callable[..., dict[str, Any]]]:
    return {
        "probe": _probe,
        "image": _image,
        "frames": _frames,
        "bursts": _bursts,
        "audio": _audio,
        "metadata": _metadata,
        "manifest": _manifest,
    }


def _probe(job: Job) -> dict[str, Any]:
    from .probe import probe

    return probe(job)


def _image(job: Job, *, format: str) -> dict[str, Any]:
    from .image import decode_image

    return decode_image(job, format=format)


def _frames(job: Job, *, format: str, most: int) -> dict[str, Any]:
    from .video import decode_frames

    return decode_frames(job, format=format, most=most)


def _bursts(job: Job, *, format: str, **values: Any) -> dict[str, Any]:
    from .bursts import decode_bursts

    return decode_bursts(job, format=format, **values)


def _audio(job: Job, *, format: str, sample_rate: int, max_seconds: float) -> dict[str, Any]:
    from .audio import decode_audio

    return decode_audio(job, format=format, sample_rate=sample_rate, max_seconds=max_seconds)


def _metadata(job: Job, *, format: str) -> dict[str, Any]:
    from ..traces.containers import read_metadata

    limit_bytes = job.limits.metadata_bytes
    return {"result": read_metadata(job.buffered(), format=format, limit_bytes=limit_bytes)}


def _manifest(job: Job, *, format: str, trust_anchors: str | None) -> dict[str, Any]:
    from ..traces.containers import read_manifest

    return {"result": read_manifest(job.buffered(), format=format, trust_anchors=trust_anchors)}
