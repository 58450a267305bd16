"""A client of the service (``deepfake serve``): files are examined where that runs.

>>> from deepfake.client import Client
>>> with Client("http://127.0.0.1:7860") as client:     # doctest: +SKIP
...     client.detect("photo.jpg").report.verdict

:class:`AsyncClient` is the same with ``await``. Needs httpx (extra ``client``).
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from .errors import DeepfakeError, MediaError, MissingDependency, ServiceError, SettingsError
from .reasons import Code, Group, find_code
from .settings import DetectOptions
from .types import Report
from .webhooks import WebhookEvent as WebhookEvent  # noqa: PLC0414 (for those who receive them)
from .webhooks import verify_webhook as verify_webhook  # noqa: PLC0414

try:
    import httpx
except ImportError as error:
    raise MissingDependency("httpx", extra="client") from error

Media = str | os.PathLike[str] | bytes
"""A path, or the content of a file."""
T = TypeVar("T")
_CHUNK_BYTES = 1024**2
_TRY_AGAIN = frozenset({409, 429, 502, 503, 504})
"""Of which those with ``Retry-After`` are sent again: nothing is done twice."""
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.3, 20.0
_ENDED_BADLY = ("failed", "dead", "cancelled")


class Answer(NamedTuple):
    """A report, and the ``id`` under which the service keeps it. ``policy`` is how much of it the
    key may see: full, rounded or verdict.
    """

    id: str
    policy: str
    report: Report


class Job(NamedTuple):
    """A job as the service tells of it; ``values`` holds everything that it said.

    ``state`` is queued, running, done, failed, dead or cancelled; ``report`` the id of its report.
    """

    id: str
    state: str
    progress: float
    report: str | None
    values: Mapping[str, Any]


class _Call(NamedTuple):
    """A request that may be sent several times. ``files`` are its media."""

    method: str
    path: str
    query: Mapping[str, Any] | None = None
    json: Any = None
    media: Media | None = None
    files: Sequence[Path] = ()
    name: str = ""


class _Pause(NamedTuple):
    seconds: float


_Steps = Generator[_Call | _Pause, Any, T]
"""What both clients carry out: requests, whose answers (or errors) they send back, and pauses."""


class _Asking:
    """What is asked of the service, in which order, whoever carries it out."""

    def __init__(self, *, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds

    def detect(
        self, media: Media, options: DetectOptions | None, name: str | None
    ) -> _Steps[Answer]:
        query = _query(media, options, name)
        answer = yield from self._send(_Call("POST", "/v1/detect", query, media=media))
        if answer.status_code == httpx.codes.ACCEPTED:
            return (yield from self.wait(_read(answer)["id"], None))
        return _read_answer(answer)

    def submit(
        self, media: Media, options: DetectOptions | None, name: str | None, priority: int
    ) -> _Steps[Job]:
        query = _query(media, options, name) | {"priority": priority}
        return _read_job((yield from self._send(_Call("POST", "/v1/jobs", query, media=media))))

    def submit_batch(
        self, paths: Sequence[str | os.PathLike[str]], options: DetectOptions | None, priority: int
    ) -> _Steps[list[Job]]:
        query = _options(options) | {"priority": priority}
        files = [Path(path) for path in paths]
        answer = yield from self._send(_Call("POST", "/v1/batches", query, files=files))
        return [_job(values) for values in _read(answer)["jobs"]]

    def job(self, id: str) -> _Steps[Job]:
        return _read_job((yield from self._send(_Call("GET", f"/v1/jobs/{_word(id)}"))))

    def jobs(self, query: dict[str, Any], most: int) -> _Steps[list[Job]]:
        found: list[Job] = []
        cursor: str | None = None
        while len(found) < most:
            asked = query | {"limit": min(200, most - len(found)), "cursor": cursor}
            asked = {key: value for key, value in asked.items() if value is not None}
            page = _read((yield from self._send(_Call("GET", "/v1/jobs", asked))))
            found += [_job(values) for values in page["jobs"]]
            cursor = page.get("next")
            if cursor is None:
                break
        return found

    def cancel(self, id: str) -> _Steps[Job]:
        return _read_job((yield from self._send(_Call("DELETE", f"/v1/jobs/{_word(id)}"))))

    def wait(self, id: str, seconds: float | None) -> _Steps[Answer]:
        until = None if seconds is None else time.monotonic() + seconds
        pause = _FIRST_WAIT_SECONDS
        while True:
            job = yield from self.job(id)
            if job.state == "done" and job.report is not None:
                return (yield from self.report(job.report))
            if job.state in _ENDED_BADLY:
                raise _job_error(job)
            if until is not None and time.monotonic() + pause > until:
                raise ServiceError(
                    f"job {id}: is still {job.state}",
                    code=Code.TIME_LIMIT,
                    hint="wait longer",
                    status=None,
                )
            yield _Pause(pause)
            pause = min(1.5 * pause, 5.0)

    def report(self, id: str) -> _Steps[Answer]:
        return _read_answer((yield from self._send(_Call("GET", f"/v1/reports/{_word(id)}"))))

    def feedback(self, report: str, ruling: str, note: str) -> _Steps[str]:
        values = {"report": report, "ruling": ruling, "note": _text(note)}
        answer = yield from self._send(_Call("POST", "/v1/feedback", json=values))
        return str(_read(answer)["id"])

    def models(self) -> _Steps[dict[str, str]]:
        values = _read((yield from self._send(_Call("GET", "/v1/models"))))
        return {model["slot"]: model["name"] for model in values["models"]}

    def _send(self, call: _Call) -> _Steps[httpx.Response]:
        """The answer to a request, sent again while it may fare better and there is patience."""
        call = call._replace(name=uuid.uuid4().hex)
        waited, wait = 0.0, _FIRST_WAIT_SECONDS
        while True:
            outcome = yield call
            if isinstance(outcome, httpx.Response):
                if outcome.is_success:
                    return outcome
                error = _error_of(outcome)
                again = outcome.status_code in _TRY_AGAIN
                after = error.retry_seconds if isinstance(error, ServiceError) else None
                again = again and (after is not None or outcome.status_code >= 500)
            else:
                error, again, after = _no_answer(outcome), True, None
            pause = wait if after is None else after
            if not again or waited + pause > self._patience_seconds:
                raise error
            yield _Pause(pause)
            waited, wait = waited + pause, min(2 * wait, _LONGEST_WAIT_SECONDS)


class Client:
    """Asks the service at ``url``, with a ``key`` if it wants one; safe to share between threads.

    A request that the service cannot answer now is sent again as it says (``Retry-After``), or
    after growing pauses, for ``patience_seconds`` in all; the service does nothing twice, because
    each has an Idempotency-Key. ``timeout_seconds`` is the longest wait for an answer, such as the
    report of one file. Use it as a context manager, or call :meth:`close`.

    Every method raises ``MediaError`` for what is wrong with a file, and ``ServiceError`` for
    everything else, with the code and the remedy that the service named.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_seconds: float = 660.0,
        patience_seconds: float = 120.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._asking = _Asking(patience_seconds=patience_seconds)
        self._http = httpx.Client(**_settings(url, key, timeout_seconds), transport=transport)

    def detect(
        self, media: Media, options: DetectOptions | None = None, *, name: str | None = None
    ) -> Answer:
        """The report on a file; of one that the service makes a job of, once that is done."""
        return self._run(self._asking.detect(media, options, name))

    def submit(
        self,
        media: Media,
        options: DetectOptions | None = None,
        *,
        name: str | None = None,
        priority: int = 5,
    ) -> Job:
        """Put a file in line; of ``priority`` 0…9 the highest are examined first."""
        return self._run(self._asking.submit(media, options, name, priority))

    def submit_batch(
        self,
        paths: Sequence[str | os.PathLike[str]],
        options: DetectOptions | None = None,
        *,
        priority: int = 5,
    ) -> list[Job]:
        """Put several files in line, all or none; their jobs in the same order."""
        return self._run(self._asking.submit_batch(paths, options, priority))

    def job(self, id: str) -> Job:
        """A job as it is now."""
        return self._run(self._asking.job(id))

    def jobs(
        self, *, state: str | None = None, batch: str | None = None, most: int = 200
    ) -> list[Job]:
        """The newest jobs, of a state or a batch if one is named."""
        return self._run(self._asking.jobs({"state": state, "batch": batch}, most))

    def wait(self, id: str, *, seconds: float | None = None) -> Answer:
        """The report of a job once it is done.

        Raises what was wrong when it failed, and ``ServiceError`` when it is cancelled, or is not
        done within ``seconds``.
        """
        return self._run(self._asking.wait(id, seconds))

    def cancel(self, id: str) -> Job:
        """End a job that has not ended."""
        return self._run(self._asking.cancel(id))

    def report(self, id: str) -> Answer:
        """A report that the service keeps."""
        return self._run(self._asking.report(id))

    def feedback(self, report: str, ruling: str, *, note: str = "") -> str:
        """Rule on a report (confirm, overturn or escalate); the id of the ruling."""
        return self._run(self._asking.feedback(report, ruling, note))

    def models(self) -> dict[str, str]:
        """The model of each slot of the service."""
        return self._run(self._asking.models())

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, steps: _Steps[T]) -> T:
        outcome: Any = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, _Pause):
                time.sleep(step.seconds)
                outcome = None
            else:
                outcome = self._exchange(step)

    def _exchange(self, call: _Call) -> httpx.Response | httpx.RequestError:
        with _Body(call) as body:
            try:
                return self._http.request(**body.request(body.chunks))
            except httpx.RequestError as error:
                return error


class AsyncClient:
    """:class:`Client` for an event loop: the same methods, to be awaited."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_seconds: float = 660.0,
        patience_seconds: float = 120.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._asking = _Asking(patience_seconds=patience_seconds)
        self._http = httpx.AsyncClient(**_settings(url, key, timeout_seconds), transport=transport)

    async def detect(
        self, media: Media, options: DetectOptions | None = None, *, name: str | None = None
    ) -> Answer:
        """See :meth:`Client.detect`."""
        return await self._run(self._asking.detect(media, options, name))

    async def submit(
        self,
        media: Media,
        options: DetectOptions | None = None,
        *,
        name: str | None = None,
        priority: int = 5,
    ) -> Job:
        """See :meth:`Client.submit`."""
        return await self._run(self._asking.submit(media, options, name, priority))

    async def submit_batch(
        self,
        paths: Sequence[str | os.PathLike[str]],
        options: DetectOptions | None = None,
        *,
        priority: int = 5,
    ) -> list[Job]:
        """See :meth:`Client.submit_batch`."""
        return await self._run(self._asking.submit_batch(paths, options, priority))

    async def job(self, id: str) -> Job:
        """See :meth:`Client.job`."""
        return await self._run(self._asking.job(id))

    async def jobs(
        self, *, state: str | None = None, batch: str | None = None, most: int = 200
    ) -> list[Job]:
        """See :meth:`Client.jobs`."""
        return await self._run(self._asking.jobs({"state": state, "batch": batch}, most))

    async def wait(self, id: str, *, seconds: float | None = None) -> Answer:
        """See :meth:`Client.wait`."""
        return await self._run(self._asking.wait(id, seconds))

    async def cancel(self, id: str) -> Job:
        """See :meth:`Client.cancel`."""
        return await self._run(self._asking.cancel(id))

    async def report(self, id: str) -> Answer:
        """See :meth:`Client.report`."""
        return await self._run(self._asking.report(id))

    async def feedback(self, report: str, ruling: str, *, note: str = "") -> str:
        """See :meth:`Client.feedback`."""
        return await self._run(self._asking.feedback(report, ruling, note))

    async def models(self) -> dict[str, str]:
        """See :meth:`Client.models`."""
        return await self._run(self._asking.models())

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self, steps: _Steps[T]) -> T:
        import asyncio

        outcome: Any = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, _Pause):
                await asyncio.sleep(step.seconds)
                outcome = None
            else:
                outcome = await self._exchange(step)

    async def _exchange(self, call: _Call) -> httpx.Response | httpx.RequestError:
        with _Body(call) as body:
            try:
                return await self._http.request(**body.request(body.chunks_async))
            except httpx.RequestError as error:
                return error


class _Body:
    """The files of a request, open while it is sent. Raises ``MediaError`` for what is none."""

    def __init__(self, call: _Call) -> None:
        self._call = call
        paths = list(call.files)
        if call.media is not None and not isinstance(call.media, bytes):
            paths = [Path(call.media)]
        self._files = []
        for path in paths:
            try:
                self._files.append(path.open("rb"))
            except OSError as error:
                self.__exit__()
                missing = isinstance(error, FileNotFoundError)
                raise MediaError(
                    f"file {path}: cannot be read ({error.strerror})",
                    code=Code.NOT_FOUND if missing else Code.UNREADABLE,
                    hint="check the path",
                ) from error

    def __enter__(self) -> _Body:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            file.close()

    def request(self, chunks: Callable[[], Any]) -> dict[str, Any]:
        """The arguments of httpx."""
        call = self._call
        request: dict[str, Any] = {"method": call.method, "url": call.path, "params": call.query}
        headers = {} if call.method == "GET" else {"Idempotency-Key": call.name}
        if call.json is not None:
            request["json"] = call.json
        elif call.files:
            request["files"] = [
                ("file", (_text(path.name), file))
                for path, file in zip(call.files, self._files, strict=True)
            ]
        elif isinstance(call.media, bytes):
            headers["Content-Type"] = "application/octet-stream"
            request["content"] = call.media
        elif call.media is not None:
            headers["Content-Type"] = "application/octet-stream"
            headers["Content-Length"] = str(os.fstat(self._files[0].fileno()).st_size)
            request["content"] = chunks()
        return request | {"headers": headers}

    def chunks(self) -> Iterator[bytes]:
        while chunk := self._files[0].read(_CHUNK_BYTES):
            yield chunk

    async def chunks_async(self) -> AsyncIterator[bytes]:
        import asyncio

        while chunk := await asyncio.to_thread(self._files[0].read, _CHUNK_BYTES):
            yield chunk


def _settings(url: str, key: str | None, timeout_seconds: float) -> dict[str, Any]:
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise SettingsError(f"server {url!r}: is no URL", hint="write http://HOST:PORT") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise SettingsError(f"server {url!r}: is no URL of HTTP", hint="write http://HOST:PORT")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise SettingsError("key: is none of a service", hint="give it as it was shown")
    return {
        "base_url": address,
        "headers": {} if key is None else {"Authorization": f"Bearer {key}"},
        "timeout": httpx.Timeout(timeout_seconds, connect=10.0),
    }


def _query(media: Media, options: DetectOptions | None, name: str | None) -> dict[str, Any]:
    if name is None:
        name = "upload" if isinstance(media, bytes) else Path(media).name
    return _options(options) | {"name": _text(name)[-200:]}


def _text(text: str) -> str:
    """What can be sent of a text: names of files need not be UTF-8."""
    return text.encode(errors="replace").decode()


def _options(options: DetectOptions | None) -> dict[str, Any]:
    """What differs from the options of the service, which has the same defaults."""
    plain = asdict(DetectOptions())
    chosen = asdict(options or DetectOptions())
    return {key: value for key, value in chosen.items() if value != plain[key]}


def _word(id: str) -> str:
    """An id that is one part of an address. Raises ``SettingsError`` for what is none."""
    if not (id.isascii() and id.replace("_", "").isalnum()):
        raise SettingsError(f"id {id[:60]!r}: is none", hint="give it as the service named it")
    return id


def _read(answer: httpx.Response) -> dict[str, Any]:
    try:
        values = answer.json()
    except ValueError as error:
        raise _no_answer(error) from error
    if not isinstance(values, dict):
        raise _no_answer(None)
    return values


def _read_answer(answer: httpx.Response) -> Answer:
    values = _read(answer)
    try:
        return Answer(values["id"], values["policy"], Report.from_dict(values["report"]))
    except (KeyError, ValueError, AttributeError) as error:
        raise _no_answer(error) from error


def _read_job(answer: httpx.Response) -> Job:
    return _job(_read(answer))


def _job(values: Mapping[str, Any]) -> Job:
    try:
        return Job(values["id"], values["state"], values["progress"], values.get("report"), values)
    except KeyError as error:
        raise _no_answer(error) from error


def _error_of(answer: httpx.Response) -> DeepfakeError:
    """The error that a problem is (RFC 9457)."""
    try:
        values = answer.json()
    except ValueError:
        values = None
    if not isinstance(values, dict) or "code" not in values:
        values = {"code": Code.NO_ANSWER, "detail": f"server: answers {answer.status_code}"}
    return _word_error(
        values,
        status=answer.status_code,
        retry_seconds=_seconds(answer.headers.get("retry-after")),
        request_id=answer.headers.get("x-request-id"),
    )


def _job_error(job: Job) -> DeepfakeError:
    if job.state == "cancelled":
        return ServiceError(f"job {job.id}: was cancelled", code=Code.CANCELLED, status=None)
    return _word_error(job.values.get("error") or {}, status=None)


def _word_error(values: Mapping[str, Any], *, status: int | None, **more: Any) -> DeepfakeError:
    code = find_code(str(values.get("code"))) or Code.ERROR
    text, hint = str(values.get("detail", code.meaning)), str(values.get("remedy", ""))
    if code.group is Group.FILE:
        return MediaError(text, code=code, hint=hint)
    return ServiceError(text, code=code, hint=hint, status=status, **more)


def _seconds(text: str | None) -> float | None:
    """The seconds of ``Retry-After``; a date, which this service never sends, counts as none."""
    return float(text) if text is not None and text.isascii() and text.isdigit() else None


def _no_answer(error: Exception | None) -> ServiceError:
    why = "its answer is none of this service" if error is None else str(error)
    return ServiceError(
        f"server: does not answer ({why})",
        code=Code.NO_ANSWER,
        hint="check the address, and whether the service runs there",
        status=None,
    )
