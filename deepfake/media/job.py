"""One request to the decoder process: the file, what it may cost, and the way to answer."""

from __future__ import annotations

import io
import os
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from ..settings import Limits
from .wire import send

if TYPE_CHECKING:
    from .wire import Array

_PROGRESS_SECONDS = 1.0


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
        if self._position >= self.bytes:  # perhaps beyond what the system takes as an offset
            return 0
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
    shared: npt.NDArray[np.uint8] | None = None
    warnings: list[str] = field(default_factory=list)
    _progress: float = field(default_factory=time.monotonic)
    _started: float = field(default_factory=time.process_time)

    def part(self, array: Array | None = None, **values: Any) -> None:
        """Send one result, its pixels over the shared memory where they fit on it."""
        painted = array is not None and array.dtype == np.uint8 and self._paint(array)
        send(self.connection, {"type": "part", "values": values}, array=array, painted=painted)
        self._progress = time.monotonic()

    def _paint(self, pixels: npt.NDArray[Any]) -> bool:
        """Copy pixels to the shared memory, unless they lie there; False where they do not fit."""
        if self.shared is None or pixels.size > len(self.shared):
            return False
        if not np.may_share_memory(pixels, self.shared):
            self.shared[: pixels.size].reshape(pixels.shape)[...] = pixels
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
