"""``Idempotency-Key``: a request that is sent again is answered as the first time."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import anyio
from fastapi import Header
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from deepfake.errors import ServiceError

from ..service import Service
from ..store.keys import Identity
from ..store.repeats import Answer
from .wording import word_report

LOG = logging.getLogger("deepfake_service")
KEPT_HEADERS = ("location", "content-location")
_REPORT = re.compile("/v1/reports/(.+)")

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="A name for this request: sent again under it within a day, it is answered as "
        "the first time, and nothing is done or counted twice.",
    ),
]


def fingerprint(*parts: Any, files: list[Path]) -> str:
    """What tells one request from another: its parts, and the content of its files."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


async def once(
    service: Service,
    identity: Identity,
    name: str | None,
    parts: tuple[Any, ...],
    make: Callable[[], Awaitable[Response]],
    *,
    files: list[Path],
) -> Response:
    """The answer that ``make`` gives; under a ``name`` that was used before, the one from then, of
    which a report is read again, as much of it as the key may see now.

    Errors are not kept. Raises as :meth:`Repeats.begin` and :meth:`Service.read_report`, and what
    ``make`` raises.
    """
    if name is None:
        return await make()
    repeats = service.repeats
    mark = await run_in_threadpool(lambda: fingerprint(*parts, files=files))
    before = await run_in_threadpool(lambda: repeats.begin(identity, name, fingerprint=mark))
    if before is not None:
        headers = before.headers | {"Idempotency-Replayed": "true"}
        body = before.body
        if report := _REPORT.fullmatch(headers.get("content-location", "")):
            body = await run_in_threadpool(_read_again, service, identity, report[1])
        return Response(body, before.status, headers, media_type="application/json")
    try:
        answer = await make()
    except BaseException:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(_quietly, lambda: repeats.drop(identity, name))
        raise
    headers = {key: answer.headers[key] for key in KEPT_HEADERS if key in answer.headers}
    kept = Answer(answer.status_code, headers, bytes(answer.body).decode())
    await run_in_threadpool(_quietly, lambda: repeats.keep(identity, name, kept))
    return answer


def _read_again(service: Service, identity: Identity, id: str) -> str:
    row = service.read_report(identity, id)
    revised = service.reports.revision_of(row.id)
    return word_report(row, identity, revised=revised).model_dump_json()


def _quietly(change: Callable[[], None]) -> None:
    """The answer stands, whether the database takes note of it or not."""
    try:
        change()
    except ServiceError as error:
        LOG.warning("idempotency: %s", error)
