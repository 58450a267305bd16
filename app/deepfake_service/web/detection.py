"""Endpoints that take media."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

from deepfake_app.storage import Incoming
from fastapi import APIRouter, Header, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from deepfake.errors import DeepfakeError, ModelError, ServiceError
from deepfake.reasons import Code

from ..service import Service
from ..store.keys import Identity
from ..store.tables import Job, StoredReport, new_id
from .access import MayDetect, ServiceHere
from .receiving import describe_body, receive_media
from .repeating import IdempotencyKey, once
from .shapes import BatchAnswer, JobAnswer, Options, ReportAnswer
from .wording import answer, word_job, word_report

router = APIRouter(prefix="/v1", tags=["detection"])
Asked = Annotated[Options, Query()]
Prefer = Annotated[
    str | None,
    Header(max_length=200, description="`respond-async` makes a job of any file (RFC 7240)."),
]


class Received:
    """The media of one request, which are deleted with it unless they are put in line as jobs."""

    def __init__(self, service: Service, identity: Identity, files: list[Incoming]) -> None:
        self._service, self._identity = service, identity
        self.files, self.in_line = files, False

    @property
    def parts(self) -> list[Any]:
        """What tells the files from others, beside their content."""
        return [file.name for file in self.files]

    async def add_jobs(self, asked: Options, *, batch: str | None = None) -> list[Job]:
        """A job for each file."""
        jobs = await run_in_threadpool(
            lambda: self._service.put_in_line(
                self._identity,
                self.files,
                asked.chosen(),
                priority=asked.priority,
                batch=batch,
            )
        )
        self.in_line = self._service.media.in_place
        return jobs


@contextlib.asynccontextmanager
async def receiving(
    request: Request, service: Service, identity: Identity, asked: Options, **how: Any
) -> AsyncIterator[Received]:
    """The media of a request; ``how`` is as :func:`receive_media` has it, and so are errors.

    Raises ``ServiceError`` for an effort that this service has no model for.
    """
    try:
        service.detector.engine.require_effort(asked.chosen().effort)
    except ModelError as error:
        raise ServiceError(
            "option effort: there is no full tier here",
            code=Code.MODEL,
            hint="choose auto or quick",
            status=422,
        ) from error
    files = await receive_media(request, service.uploads, service.fetcher, **how)
    received = Received(service, identity, files)
    try:
        yield received
    finally:
        if not received.in_line:
            service.uploads.drop([str(file.path) for file in files])


@router.post(
    "/detect",
    response_model=ReportAnswer,
    responses={202: {"model": JobAnswer, "description": "A job was made of a large file"}},
    openapi_extra=describe_body(several=False),
)
async def detect(
    *,
    request: Request,
    service: ServiceHere,
    identity: MayDetect,
    asked: Asked,
    repeat: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Examine one file, and answer with its report; a large file becomes a job (202)."""
    async with receiving(request, service, identity, asked, name=asked.name) as received:
        (file,) = received.files
        gone = request.is_disconnected if repeat is None else _stays

        async def examine() -> Response:
            if file.bytes > service.settings.sync_bytes or "respond-async" in (prefer or ""):
                return _accept(await received.add_jobs(asked), service)
            if not identity.allowance.budgeted:
                return await report_now()
            await run_in_threadpool(lambda: service.budgets.take(identity, files=1))
            try:
                return await report_now()
            except ServiceError:  # the service could not, whatever the file is
                await run_in_threadpool(lambda: service.budgets.give_back(identity, files=1))
                raise

        async def report_now() -> Response:
            try:
                report = await service.examiner.report(
                    file.path,
                    asked.chosen(),
                    name=file.name,
                    tenant=identity.tenant,
                    gone=gone,
                )
            except DeepfakeError as error:
                await run_in_threadpool(service.audit.note_examination, identity, error)
                raise

            def keep() -> StoredReport:
                service.audit.note_examination(identity, report)
                row = service.reports.add(identity, report)
                service.watch.note(report, tenant=identity.tenant, key=identity.key)
                service.aftermath.note(identity.tenant, row.id, report, file.path)
                return row

            row = await run_in_threadpool(keep)
            return answer(word_report(row, identity), Content_Location=f"/v1/reports/{row.id}")

        return await once(
            service,
            identity,
            repeat,
            ("detect", asked.model_dump(), prefer, received.parts),
            examine,
            files=[file.path],
        )


@router.post(
    "/jobs", response_model=JobAnswer, status_code=202, openapi_extra=describe_body(several=False)
)
async def add_job(
    *,
    request: Request,
    service: ServiceHere,
    identity: MayDetect,
    asked: Asked,
    repeat: IdempotencyKey = None,
) -> Response:
    """Put one file in line. Its media are deleted with its report."""
    async with receiving(request, service, identity, asked, name=asked.name) as received:

        async def add() -> Response:
            return _accept(await received.add_jobs(asked), service)

        return await once(
            service,
            identity,
            repeat,
            ("jobs", asked.model_dump(), received.parts),
            add,
            files=[file.path for file in received.files],
        )


@router.post(
    "/batches",
    response_model=BatchAnswer,
    status_code=202,
    openapi_extra=describe_body(several=True),
)
async def add_batch(
    *,
    request: Request,
    service: ServiceHere,
    identity: MayDetect,
    asked: Asked,
    repeat: IdempotencyKey = None,
) -> Response:
    """Put the files of a form in line, all or none of them."""
    most = service.settings.batch_files
    how: dict[str, Any] = {"name": "", "most_files": most, "raw": False}
    async with receiving(request, service, identity, asked, **how) as received:

        async def add() -> Response:
            batch = new_id("bat")
            jobs = await received.add_jobs(asked, batch=batch)
            said = BatchAnswer(id=batch, jobs=[word_job(job, service) for job in jobs])
            return answer(said, 202, Location=f"/v1/jobs?batch={batch}")

        return await once(
            service,
            identity,
            repeat,
            ("batches", asked.model_dump(), received.parts),
            add,
            files=[file.path for file in received.files],
        )


def _accept(jobs: list[Job], service: Service) -> Response:
    (job,) = jobs
    return answer(word_job(job, service), 202, Location=f"/v1/jobs/{job.id}")


async def _stays() -> bool:
    """Of a client that may send its request again, and then wants the report of the first one:
    it is never gone.
    """
    return False
