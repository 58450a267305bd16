"""Endpoints of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from deepfake.errors import ServiceError
from deepfake.reasons import Code

from ..service import Service
from ..store.tables import ENDED, Job, State
from .access import MayDetect, MayRead, ServiceHere
from .pages import Cursor, Limit, read_cursor, write_cursor
from .shapes import BATCH_ID, JOB_ID, JobAnswer, JobsPage
from .wording import answer, word_job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
TICK_SECONDS = 0.3
JobId = Annotated[str, Path(pattern=JOB_ID)]


@router.get("", response_model=JobsPage)
async def list_jobs(
    *,
    service: ServiceHere,
    identity: MayRead,
    state: Annotated[State | None, Query(description="only those in this state")] = None,
    batch: Annotated[str | None, Query(pattern=BATCH_ID, description="only its jobs")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """The jobs of the key's tenant, the newest first."""
    before = None if cursor is None else read_cursor(cursor)
    rows = await run_in_threadpool(
        lambda: service.jobs.page(
            identity.tenant, state=state, batch=batch, before=before, most=limit + 1
        )
    )
    more = len(rows) > limit
    rows = rows[:limit]
    return answer(
        JobsPage(
            jobs=[word_job(row, service) for row in rows],
            next=write_cursor(rows[-1].number) if more else None,
        )
    )


@router.get("/{job}", response_model=JobAnswer)
async def read_job(service: ServiceHere, identity: MayRead, job: JobId) -> Response:
    """One job, and how far it is."""
    row = await run_in_threadpool(lambda: service.jobs.find(identity.tenant, job))
    return answer(word_job(row, service))


@router.delete("/{job}", response_model=JobAnswer)
async def cancel_job(service: ServiceHere, identity: MayDetect, job: JobId) -> Response:
    """Cancel a job that has not ended, and delete its media. To do it again changes nothing."""
    row = await run_in_threadpool(lambda: service.jobs.cancel(identity.tenant, job))
    await run_in_threadpool(lambda: service.workers.stop_job(row))
    return answer(word_job(row, service))


@router.post("/{job}/retry", response_model=JobAnswer, status_code=202)
async def retry_job(service: ServiceHere, identity: MayDetect, job: JobId) -> Response:
    """Put a dead letter in line again."""
    row = await run_in_threadpool(lambda: service.jobs.retry(identity.tenant, job))
    return answer(word_job(row, service), 202)


async def _find_stream(service: ServiceHere, identity: MayRead, job: JobId) -> AsyncIterator[Job]:
    """The job to follow. What is wrong is said here, before the stream begins."""
    row = await run_in_threadpool(lambda: service.jobs.find(identity.tenant, job))
    streams = service.streams
    if streams.open >= streams.most:
        raise ServiceError(
            "service: as many follow their jobs as may",
            code=Code.BUSY,
            hint="ask for the job itself from time to time",
            status=503,
            retry_seconds=5,
        )
    streams.open += 1
    try:
        yield row
    finally:
        streams.open -= 1


@router.get("/{job}/events", response_class=EventSourceResponse)
async def follow_job(
    service: ServiceHere, row: Annotated[Job, Depends(_find_stream)]
) -> AsyncIterator[ServerSentEvent]:
    """The job as server-sent events: `progress` whenever something changed, at last `end`."""
    before: Any = None
    while True:
        said = word_job(row, service)
        if row.state in ENDED:
            yield ServerSentEvent(event="end", data=said)
            return
        if said != before:
            yield ServerSentEvent(event="progress", data=said)
        before = said
        await asyncio.sleep(TICK_SECONDS)
        row = await run_in_threadpool(_look_again, service, row)


def _look_again(service: Service, row: Job) -> Job:
    """The job as it is now, or as it was when the database is away."""
    try:
        return service.jobs.find(row.tenant, row.id)
    except ServiceError as error:
        if error.code == Code.DATABASE:
            return row
        raise
