"""Scans on a Ray cluster: one actor for each core or GPU, each with an engine of its own.

What travels is small: a task is a path or a URL, which the node opens itself, and an answer is the
line of the results file. A node must therefore see the same paths, and have this package with the
same bundles installed; both are compared before the node gets its first file.

An actor that dies is replaced by a new one, wherever the cluster has room. Ray's own restarts are
not used, because the new actor may be on another node, which is to be compared first.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..engine.engine import check_bundles
from ..errors import BackendError, DeepfakeError, MissingDependency, SettingsError
from ..faults import internal_error
from ..reasons import Code
from ..settings import Settings, shipped_models_folder
from ..trust.keys import read_public_pairs
from ..trust.registry import read_bundles
from ..trust.signatures import REVOKED, SHIPPED_KEYS, read_revoked
from ..version import VERSION
from .executors import Line, Task, Worker, WorkerSetup, error_line, worker_died

IN_FLIGHT = 2
"""Files at an actor: one in work, and one that waits there, so that no actor waits for its next."""
MOST_ATTEMPTS = 3
"""Times that a file's actor may die under it before the file gets the blame."""
MOST_FAILED_STARTS = 3
START_SECONDS = 600.0
"""Longest wait for a first actor; a cluster that grows on demand needs minutes for a new node."""
OBJECT_STORE_BYTES = 100 * 1024**2

_PROXIES = ("http_proxy", "HTTP_PROXY")
_NOWHERE = "http://127.0.0.1:9"

Facts = dict[str, str]
"""What must be equal on every node: the package, its code, the models, and whose are believed."""


class RayExecutor:
    """Up to ``workers`` actors of a Ray cluster; each is started when there is work for it.

    ``address`` is ``ray://host:port`` for a Ray client, or ``host:port`` on a machine of the
    cluster. Without it ``RAY_ADDRESS`` is used, and without that a cluster on this machine is
    started, which ends with :meth:`close`; a connection that the process already has is used as it
    is. ``workers`` 0 means all cores of the cluster, or all its GPUs with ``device="cuda"``: an
    actor holds one core, and a GPU only with that device. ``worker`` is made from the setup on the
    node.

    ``run`` raises ``SettingsError`` when there is no such cluster or a node has another version or
    other models, and ``BackendError`` when the cluster fails. Raises ``MissingDependency`` without
    Ray.
    """

    def __init__(
        self,
        setup: WorkerSetup,
        *,
        address: str | None = None,
        workers: int = 0,
        worker: type[Worker] = Worker,
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingDependency("ray", extra="cluster") from error
        self._ray: Any = ray
        settings = setup.settings
        if settings.wants_cuda:  # a node numbers its devices itself, and an actor sees one
            settings = replace(settings, device="cuda")
        if settings.device == "auto":  # an actor without a GPU of its own must not share one
            settings = replace(settings, device="cpu")
        self._setup, self._worker = replace(setup, settings=settings), worker
        self._address = address or os.environ.get("RAY_ADDRESS") or "local"
        self._most = workers
        self._actors: list[_Actor] = []
        self._failed_starts = 0
        self._facts: Facts = {}
        self._connection = contextlib.ExitStack()
        self._connected = False

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Line]]:
        """See :class:`deepfake.scan.executors.Executor`."""
        first = next(tasks, None)
        if first is None:
            return
        waiting, more = deque([_Attempt(first)]), True
        try:
            self._connect()
            while True:
                while more and len(waiting) < self._room():
                    task = next(tasks, None)
                    if task is None:
                        more = False
                    else:
                        waiting.append(_Attempt(task))
                self._give(waiting)
                if not waiting and not any(actor.work for actor in self._actors):
                    return
                for actor in self._answering():
                    if actor.ready:
                        yield from self._take(actor, waiting)
                    else:
                        self._welcome(actor)
        except ConnectionError as error:
            raise BackendError(
                f"cluster {self._address!r}: the connection was lost ({_first_line(error)})",
                hint="the same command goes on from there",
            ) from error
        finally:  # answers to a scan that was given up must not reach the next one
            for actor in [actor for actor in self._actors if actor.work]:
                self._end(actor)

    def close(self) -> None:
        """End every actor, and the cluster if it was started here."""
        for actor in list(self._actors):
            self._end(actor)
        self._connected = False
        self._connection.close()

    def _room(self) -> int:
        """How many tasks could be given now, an actor that is not there yet counting as one."""
        ready = [actor for actor in self._actors if actor.ready]
        free = sum(IN_FLIGHT - len(actor.work) for actor in ready)
        return free + self._most - len(ready)

    def _give(self, waiting: deque[_Attempt]) -> None:
        """Hand out what waits, evenly, and start actors for the rest."""
        while waiting:
            ready = [a for a in self._actors if a.ready and len(a.work) < IN_FLIGHT]
            if not ready:
                break
            actor = min(ready, key=lambda actor: len(actor.work))
            attempt = waiting.popleft()
            actor.work.append((attempt, actor.handle.examine.remote(attempt.task)))
        starting = sum(not actor.ready for actor in self._actors)
        for _ in range(min(len(waiting) - starting, self._most - len(self._actors))):
            self._actors.append(self._start())

    def _answering(self) -> list[_Actor]:
        """Wait until an actor has started, has answered its first task or has died."""
        awaited = {actor.awaited: actor for actor in self._actors if actor.awaited is not None}
        if not self._ray.is_initialized():
            raise ConnectionError("Ray has disconnected")
        working = any(actor.work for actor in self._actors)
        done, _ = self._ray.wait(list(awaited), timeout=None if working else START_SECONDS)
        if not done:
            raise BackendError(
                f"cluster {self._address!r}: had no room for a worker within "
                f"{START_SECONDS:g} seconds",
                hint="look at ray status: each worker needs a free core, or a GPU with --device "
                "cuda",
            )
        done, _ = self._ray.wait(list(awaited), num_returns=len(awaited), timeout=0)
        return [awaited[ref] for ref in done]

    def _take(self, actor: _Actor, waiting: deque[_Attempt]) -> Iterator[tuple[Task, Line]]:
        """The answer to an actor's first task; or, when the actor died, its tasks wait again.

        Tasks are worked on in order, so the first is the one that may have ended the actor.
        """
        attempt, answer = actor.work[0]
        try:
            line = self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as fault:
            error = internal_error(attempt.task.path, fault)
            actor.work.popleft()
            yield attempt.task, error_line(attempt.task.path, error.code, str(error))
        except self._ray.exceptions.RayError:
            lost = [attempt for attempt, _ in actor.work]
            self._end(actor)
            attempt.deaths += 1
            if attempt.deaths >= MOST_ATTEMPTS:
                lost.remove(attempt)
                yield attempt.task, worker_died(attempt.task.path)
            waiting.extendleft(reversed(lost))
        else:
            actor.work.popleft()
            yield attempt.task, line

    def _start(self) -> _Actor:
        remote = self._ray.remote(num_cpus=1, num_gpus=int(self._on_gpu))(_Examiner)
        handle = remote.remote()
        settings = self._setup.settings
        shipped = settings.models_folder == shipped_models_folder()
        described = handle.node_facts.remote(settings, shipped)
        environment = {name: os.environ.get(name) for name in _PROXIES}
        return _Actor(
            handle, described, handle.start.remote(self._worker, self._setup, shipped, environment)
        )

    def _welcome(self, actor: _Actor) -> None:
        """Compare an actor that has started with this machine; it then may be given tasks."""
        exceptions = self._ray.exceptions
        try:
            compare(self._ray.get(actor.described), self._facts)
            problem = self._ray.get(actor.started)
        except exceptions.RayTaskError as error:
            raise SettingsError(
                f"cluster {self._address!r}: a worker cannot start: {_last_line(error)}",
                hint="install the same version of this package on every node",
            ) from error
        except exceptions.RayError as error:
            self._end(actor)
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS:
                raise BackendError(
                    f"cluster {self._address!r}: {self._failed_starts} workers died while they "
                    f"started: {_last_line(error)}",
                    hint="install the same version of this package on every node, and give a "
                    "worker more memory",
                ) from error
            return
        if problem is not None:
            code, message = problem
            raise SettingsError(f"cluster {self._address!r}: {message}", code=code)
        self._failed_starts = 0
        actor.ready = True

    def _end(self, actor: _Actor) -> None:
        self._actors.remove(actor)
        if self._ray.is_initialized():  # else Ray would connect anew, wherever it can
            with contextlib.suppress(self._ray.exceptions.RayError, ConnectionError):
                self._ray.kill(actor.handle)

    @property
    def _on_gpu(self) -> bool:
        return self._setup.settings.device == "cuda"

    def _connect(self) -> None:
        if self._connected:
            return
        if not self._ray.is_initialized():
            local = self._address == "local"
            self._connection.enter_context(
                local_cluster(self._most or os.cpu_count() or 1)
                if local
                else _connection(self._address)
            )
        self._facts = node_facts(self._setup.settings)
        unit = "GPU" if self._on_gpu else "CPU"
        self._most = self._most or int(self._ray.cluster_resources().get(unit, 0))
        if not self._most:
            raise SettingsError(
                f"cluster {self._address!r}: has no {unit}",
                hint="choose another --device, or give --workers if the cluster grows on demand",
            )
        self._connected = True


@dataclass
class _Attempt:
    task: Task
    deaths: int = 0


@dataclass
class _Actor:
    """An actor, what its start will answer, and its tasks in the order in which it works."""

    handle: Any
    described: Any
    started: Any
    ready: bool = False
    work: deque[tuple[_Attempt, Any]] = field(default_factory=deque)

    @property
    def awaited(self) -> Any:
        """What it answers next, or None when it has nothing to do."""
        if not self.ready:
            return self.started
        return self.work[0][1] if self.work else None


class _Examiner:
    """The actor: a worker on a node of the cluster."""

    _worker: Worker

    def node_facts(self, settings: Settings, shipped: bool) -> Facts:
        return node_facts(node_settings(settings, shipped=shipped))

    def start(
        self,
        worker: type[Worker],
        setup: WorkerSetup,
        shipped: bool,
        environment: dict[str, str | None],
    ) -> tuple[Code, str] | None:
        """Verify and load the models; gives the code and the text of what prevents it."""
        _set_environment(environment)
        try:
            settings = node_settings(setup.settings, shipped=shipped)
            check_bundles(settings, effort=setup.options.effort)
            self._worker = worker(replace(setup, settings=settings))
        except DeepfakeError as error:
            return error.code, str(error)
        return None

    def examine(self, task: Task) -> Line:
        return self._worker.examine(task)


def node_settings(settings: Settings, *, shipped: bool) -> Settings:
    """The settings on a node, where the shipped models may lie in another folder."""
    return replace(settings, models_folder=shipped_models_folder()) if shipped else settings


def node_facts(settings: Settings) -> Facts:
    """What answers on this machine: versions, and a sha256 of all code, bundles and files."""
    package = Path(__file__).resolve().parent.parent
    code = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        code.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    facts = {"deepfake": VERSION, "code": code.hexdigest()}
    for slot, bundle in read_bundles(settings.models_folder).items():
        facts[slot] = f"{bundle.name} {bundle.sha256}"
    # The pair of a user is trusted on his machine alone; what it signed is refused elsewhere.
    places = (SHIPPED_KEYS, *settings.trusted_keys)
    keys = {key for place in places for pair in read_public_pairs(place) for key in pair.ids}
    revoked = read_revoked(settings.models_folder / REVOKED)
    for name, ids in (
        ("trusted keys", keys),
        ("revoked keys", revoked.keys),
        ("revoked bundles", revoked.bundles),
    ):
        facts[name] = hashlib.sha256(" ".join(sorted(ids)).encode()).hexdigest()
    for name, file in (("face model", settings.face_model), ("anchors", settings.trust_anchors)):
        if file is not None:
            facts[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return facts


def compare(node: Facts, here: Facts) -> None:
    """Raise ``SettingsError`` that names what a node has other than this machine."""
    for name in here | node:
        if node.get(name) != here.get(name):
            raise SettingsError(
                f"cluster node: has {name} {node.get(name, 'none')}, this machine has "
                f"{here.get(name, 'none')}",
                hint="install the same version of this package, with the same models, trusted keys "
                "and revocation list, on every node",
            )


@contextlib.contextmanager
def local_cluster(cores: int) -> Iterator[None]:
    """A Ray cluster on this machine, as long as the context lasts.

    Raises ``SettingsError`` when Ray cannot start it.
    """
    with (
        tempfile.TemporaryDirectory(prefix="deepfake-ray-", ignore_cleanup_errors=True) as folder,
        _connection(
            "local",
            num_cpus=cores,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=folder,  # logs and sockets, which Ray would leave where all users meet
        ),
    ):
        yield


@contextlib.contextmanager
def _connection(address: str, **options: Any) -> Iterator[None]:
    """Ray in this process, which gets back what Ray replaces."""
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    environment = _local_environment() if address == "local" else contextlib.nullcontext()
    try:
        try:
            with environment:
                ray.init(address, log_to_driver=False, configure_logging=False, **options)
        except (ImportError, OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise SettingsError(
                f"cluster {address!r}: cannot be used: {_first_line(error)}",
                hint="give ray://host:port of a head node that runs the same Ray and Python, with "
                "its token, or ray alone for a cluster on this machine",
            ) from error
        yield
    finally:
        ray.shutdown()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def _local_environment() -> Iterator[None]:
    """What Ray's own processes get so that they neither report nor listen to strangers.

    A token for all connections, which Ray asks for by itself, and which never reaches a file; and a
    proxy that refuses, since Ray asks the metadata services of three clouds where it runs, even
    without usage statistics. Actors get the true proxy back, and run with the priority of this
    process instead of Ray's 15 steps below.
    """
    os.environ.setdefault("RAY_worker_niceness", "0")
    if not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    log = logging.getLogger("ray")
    before, level = {name: os.environ.get(name) for name in _PROXIES}, log.level
    _set_environment(dict.fromkeys(_PROXIES, _NOWHERE))
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        _set_environment(before)
        log.setLevel(level)


def _set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _last_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
