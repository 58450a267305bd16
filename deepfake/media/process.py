"""Untrusted decoding: a child process opens the bytes, so that a hostile file can only hurt it.

The child gets the file as a descriptor, has limits on memory and processor time, no network and no
right to write, and is ended as soon as it stalls, fails or is no longer wanted. A child that has
answered well is kept for the next file, because starting one costs a quarter of a second.
Written by hand because the pools of the standard library neither confine their processes nor end a
single one.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import Corrupt, DeepfakeError, TooLarge
from ..quiet import SWITCHES
from ..reasons import Code
from ..settings import Limits
from ..text import escape
from .shared_memory import SharedPixels
from .wire import Message, ProtocolError, error_from_dict, receive, send

if TYPE_CHECKING:
    from .wire import Array

LOG = logging.getLogger("deepfake")
MAX_IDLE = 8
"""Most children that wait for the next file."""
MAX_REQUESTS = 1000
"""Requests after which a child is replaced, so that leaks in decoders stay small."""

_START = """
import json, sys, types
paths, folder = json.loads(sys.argv[1])
sys.path[:] = paths
package = types.ModuleType("deepfake")  # without running __init__: a decoder needs no detector
package.__path__ = [folder]
sys.modules["deepfake"] = package
from deepfake.media.worker import main
main()
"""
_FOLDER = str(Path(__file__).resolve().parent.parent)
_STDERR_BYTES = 64 * 1024
_START_SECONDS = 60.0
_CHECK_MILLISECONDS = 50
_MAX_PARTS = 1_000_000


class Part(NamedTuple):
    """One result of a decoder: JSON values and perhaps an array."""

    values: dict[str, Any]
    array: Array | None


class Decoder:
    """One child process. It serves one request at a time."""

    def __init__(self, *, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self.requests = 0
        self._ready = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        errors, write_end = os.pipe()
        os.set_blocking(errors, False)
        os.set_blocking(write_end, False)
        self.connection, self._stderr = ours, errors
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            theirs.setsockopt(socket.SOL_SOCKET, option, 1024**2)
        arguments = [
            *(sys.executable, "-I", "-B", "-c", _START),
            *(json.dumps([_import_paths(), _FOLDER]), str(memory_bytes), str(os.getpid())),
        ]
        try:
            self.process = subprocess.Popen(  # noqa: S603 (our own interpreter and text)
                arguments,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=write_end,
                env=_environment(),
                cwd="/",
                start_new_session=True,
            )
        except OSError:
            self.abandon()
            raise
        finally:
            theirs.close()
            os.close(write_end)

    def ask(
        self,
        request: Message,
        *,
        descriptor: int,
        shared: SharedPixels | None = None,
        limits: Limits,
        check: Callable[[], None],
    ) -> Iterator[Part]:
        """Parts of the answer to one request; the ``done`` message comes last, as its values.

        Raises what the child raised, or ``Corrupt`` / ``TooLarge`` for how it died, and what
        ``check`` raises, which is called many times a second.
        """
        self.requests += 1
        name, waited, parts = request["name"], 0.0, 0
        self.connection.settimeout(limits.decode_stall_seconds)
        most_bytes = max(3 * max(limits.image_pixels, limits.frame_pixels), 64 * 1024**2)
        descriptors = [descriptor] if shared is None else [descriptor, shared.descriptor]
        asked = False
        try:
            send(self.connection, request, descriptors=descriptors)
            asked = True
            while True:
                began = time.monotonic()
                self._await(limits.decode_stall_seconds, check)
                received = receive(
                    self.connection,
                    max_array_bytes=most_bytes,
                    shared=None if shared is None else shared.pixels,
                )
                check()
                waited += time.monotonic() - began
                kind = received.message.get("type")
                if kind == "error":
                    raise error_from_dict(received.message)
                if waited > 2 * limits.decode_cpu_seconds + limits.decode_stall_seconds:
                    raise TimeoutError
                if kind == "ready":
                    self._ready = True
                elif kind in ("part", "done") and parts < _MAX_PARTS:
                    parts += 1
                    yield Part(_object(received.message.get("values")), received.array)
                    if kind == "done":
                        return
                elif kind != "progress":
                    raise ProtocolError("a message of unknown type")
        except TimeoutError as error:
            raise TooLarge(
                f"file {name}: its decoder made no progress for "
                f"{limits.decode_stall_seconds:g} seconds",
                code=Code.DECODER_STALLED,
                hint="re-encode the file, or raise Limits.decode_stall_seconds",
            ) from error
        except ProtocolError as error:
            raise Corrupt(
                f"file {name}: its decoder answered with {error}",
                code=Code.DECODER_FAILED,
                hint="treat the file as hostile",
            ) from error
        except (EOFError, OSError) as error:
            raise self._death(name, limits, asked=asked and self._ready) from error

    def _await(self, seconds: float, check: Callable[[], None]) -> None:
        """Return when there is something to read; raises TimeoutError when nothing comes."""
        poll, until = select.poll(), time.monotonic() + seconds
        poll.register(self.connection, select.POLLIN)
        while not poll.poll(_CHECK_MILLISECONDS):
            check()
            if time.monotonic() > until:
                raise TimeoutError

    def _death(self, name: str, limits: Limits, *, asked: bool) -> DeepfakeError:
        """Why the child is gone, from its exit status and last words. Where it never was ``asked``,
        that is no fault of the file.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        status, said = self.process.returncode, self._said()
        words = escape(said[-1].strip()[:200]) if said else ""
        if not asked and status != -signal.SIGKILL:
            LOG.warning("decoder process %d: %s", self.process.pid, escape(" | ".join(said[-20:])))
            return DeepfakeError(
                f"decoder process: cannot be started ({words or status})",
                code=Code.DECODER,
                hint="check the installation with: deepfake doctor",
            )
        if status == -signal.SIGXCPU:
            return TooLarge(
                f"file {name}: takes more than {limits.decode_cpu_seconds} seconds of processor "
                "time to decode",
                hint="cut or re-encode the file, or raise Limits.decode_cpu_seconds",
            )
        starved = ("MemoryError", "bad_alloc", "allocat", "out of memory")
        if status == -signal.SIGKILL or any(mark in line for line in said for mark in starved):
            return memory_error(name, limits)
        why = words if status is None or status >= 0 else signal.Signals(-status).name
        return Corrupt(
            f"file {name}: its decoder failed ({why or status})",
            code=Code.DECODER_FAILED,
            hint="the file is damaged or hostile; re-encode it with a trusted program",
        )

    def _said(self) -> list[str]:
        """The lines on standard error that are left."""
        with contextlib.suppress(OSError):
            text = os.read(self._stderr, _STDERR_BYTES).decode("utf-8", "replace")
            return [line for line in text.split("\n") if line.strip()]
        return []

    def rest(self) -> None:
        """Between requests: forget what was written to standard error."""
        with contextlib.suppress(OSError):
            os.read(self._stderr, _STDERR_BYTES)

    def close(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.wait()
        self.abandon()

    def abandon(self) -> None:
        """Let go of the connection, which an own fork shares with its parent."""
        self.connection.close()
        if self._stderr >= 0:
            os.close(self._stderr)
            self._stderr = -1


class Pool:
    """Idle children, and all living ones. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Decoder] = []
        self._living: set[Decoder] = set()
        self._starts: queue.SimpleQueue[tuple[int, Future[Decoder]]] = queue.SimpleQueue()
        self._starter: threading.Thread | None = None
        self.kills = 0
        """Children that were ended before their answer was whole, since the process began."""

    @property
    def living(self) -> int:
        """How many children there are."""
        return len(self._living)

    def take(self, *, memory_bytes: int) -> Decoder:
        """An idle child with this memory limit, or a new one."""
        with self._lock:
            for decoder in reversed(self._idle):
                if decoder.memory_bytes == memory_bytes:
                    self._idle.remove(decoder)
                    if decoder.process.poll() is None:
                        return decoder
                    self._living.discard(decoder)
                    decoder.close()
                    break
            if self._starter is None:
                self._starter = threading.Thread(
                    target=self._start_all, name="decoder-starter", daemon=True
                )
                self._starter.start()
        future: Future[Decoder] = Future()
        self._starts.put((memory_bytes, future))
        try:
            decoder = future.result(timeout=_START_SECONDS)
        except (OSError, RuntimeError, MemoryError) as error:
            raise DeepfakeError(
                f"decoder process: cannot be started ({str(error) or type(error).__name__})",
                code=Code.DECODER,
                hint="free memory, processes or open files and try again",
            ) from error
        with self._lock:
            self._living.add(decoder)
        return decoder

    def prepare(self, *, memory_bytes: int) -> None:
        """Start a child in the background, where none is idle, for the file that comes next."""
        with self._lock:
            if self._idle:
                return

        def start() -> None:
            with contextlib.suppress(DeepfakeError):  # the file that needs it will say so
                self.give_back(self.take(memory_bytes=memory_bytes))

        threading.Thread(target=start, name="decoder-prepare", daemon=True).start()

    def give_back(self, decoder: Decoder) -> None:
        """Keep a child that answered well for the next file."""
        decoder.rest()
        with self._lock:
            keep = decoder in self._living and decoder.requests < MAX_REQUESTS
            if keep and len(self._idle) < MAX_IDLE:
                self._idle.append(decoder)
                return
        self.discard(decoder)

    def kill(self, decoder: Decoder) -> None:
        """End a child whose answer failed, or is not wanted any more."""
        with self._lock:
            self.kills += 1
        self.discard(decoder)

    def discard(self, decoder: Decoder) -> None:
        """End a child."""
        with self._lock:
            if decoder not in self._living:
                return
            self._living.discard(decoder)
        decoder.close()

    def close(self) -> None:
        """End every child. The pool can be used again afterwards."""
        with self._lock:
            living, self._living, self._idle = self._living, set(), []
        for decoder in living:
            decoder.close()

    def forget(self) -> None:
        """In a fork: the children belong to the parent process."""
        for decoder in self._living:
            decoder.process.returncode = 0
            decoder.abandon()
        self.__init__()  # type: ignore[misc]

    def _start_all(self) -> None:
        # Children ask to die with the thread that started them, so one lasting thread starts all.
        while True:
            memory_bytes, future = self._starts.get()
            try:
                future.set_result(Decoder(memory_bytes=memory_bytes))
            except (OSError, RuntimeError, MemoryError) as error:
                future.set_exception(error)


POOL = Pool()
atexit.register(POOL.close)
os.register_at_fork(after_in_child=POOL.forget)


def ask(
    operation: str,
    *,
    descriptor: int,
    name: str,
    limits: Limits,
    shared: SharedPixels | None = None,
    check: Callable[[], None] = lambda: None,
    **values: Any,
) -> Generator[Part, None, None]:
    """Run one operation on an open file in a child; the last part is its closing summary.

    ``name`` only serves error texts. A part may lie on ``shared``. ``check`` is called many
    times a second and may raise. A child whose answer fails, or is not read to its end, is ended.
    One that died before it was asked is replaced, once.
    """
    request = {
        "type": "request",
        "operation": operation,
        "name": name,
        "limits": asdict(limits),
        "values": values,
    }
    for again in (True, False):
        decoder = POOL.take(memory_bytes=limits.decode_memory_bytes)
        well = False
        try:
            yield from decoder.ask(
                request, descriptor=descriptor, shared=shared, limits=limits, check=check
            )
            well = True
        except DeepfakeError as error:
            well = error.code is Code.UNSUPPORTED
            if error.code is not Code.DECODER or not again:
                raise
        else:
            return
        finally:
            if well:
                POOL.give_back(decoder)
            else:
                POOL.kill(decoder)


def memory_error(name: str, limits: Limits) -> TooLarge:
    megabytes = limits.decode_memory_bytes // 1024**2
    return TooLarge(
        f"file {name}: needs more than {megabytes} MiB of memory to decode",
        hint="shrink the picture or video, or raise Limits.decode_memory_bytes",
    )


def _object(values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ProtocolError("no values")
    return values


def _import_paths() -> list[str]:
    """Where the child finds the dependencies of this package; never the working folder, nor the
    folder of a package: as long as another thread imports OpenCV that of OpenCV stands here too,
    whose ``typing`` would be taken for that of Python.
    """
    return [
        path
        for path in sys.path
        if Path(path).is_absolute() and not Path(path, "__init__.py").exists()
    ]


def _environment() -> dict[str, str]:
    kept = ("LD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT")
    return {
        "PATH": os.defpath,
        "LC_ALL": "C.UTF-8",
        "MALLOC_ARENA_MAX": "2",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        **SWITCHES,
        **{key: os.environ[key] for key in kept if key in os.environ},
    }
