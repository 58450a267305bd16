"""Endpoints of the monitor."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from deepfake.errors import ServiceError
from deepfake.reasons import Code
from deepfake.types import Kind

from ..monitoring.field import Held, read_field
from ..monitoring.monitor import Standing
from ..monitoring.page import render_monitor
from .access import MayMeasure, ServiceHere
from .wording import answer

router = APIRouter(prefix="/monitor", tags=["monitor"])


class ChangeAnswer(BaseModel):
    """Something that happens more often than in the reference."""

    signal: str = Field(examples=["image score"])
    event: str = Field(examples=["image score above 0.81"])
    reference: float = Field(ge=0, le=1, description="its share in the reference, at most")
    recent: float = Field(ge=0, le=1, description="its share lately")


class AlarmAnswer(BaseModel):
    """An alarm that was given."""

    at: str = Field(examples=["2026-03-01T09:30:00.000Z"])
    tenant: str
    kind: Kind
    files: int = Field(ge=0, description="of the stream, when it was given")
    changes: list[ChangeAnswer]


class StreamAnswer(BaseModel):
    """The files of one kind that a tenant sends."""

    tenant: str = Field(examples=["shop"])
    kind: Kind
    place: str = Field(description="the process that watches it; empty where there is one alone")
    files: int = Field(ge=0, examples=[5230])
    learnt: float = Field(ge=0, le=1, description="how much of the reference there is")
    evidence: float = Field(ge=0, description="for a change; 1 is the limit of an alarm")
    changes: list[ChangeAnswer]
    alarms: list[AlarmAnswer]


class HeldAnswer(BaseModel):
    """How often a verdict held, of the reports that moderators have ruled on."""

    tenant: str
    verdict: str = Field(examples=["synthetic"])
    confirmed: int
    overturned: int
    escalated: int
    share: float | None = Field(description="that was confirmed, of both")
    low: float = Field(description="of its 95 % interval")
    high: float


class MonitorAnswer(BaseModel):
    """How the streams of all tenants stand."""

    streams: list[StreamAnswer]
    field: list[HeldAnswer]


@router.get(
    "",
    response_model=MonitorAnswer,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def show_monitor(
    service: ServiceHere,
    identity: MayMeasure,
    format: Annotated[
        Literal["html", "json"], Query(description="for a person, or for a program")
    ] = "html",
) -> Response:
    """Drift of what is sent and scored, and accuracy in the field, of all tenants."""
    streams = await run_in_threadpool(service.monitor.streams)
    field = await run_in_threadpool(read_field, service.database)
    if format == "html":
        return HTMLResponse(await run_in_threadpool(render_monitor, streams, field))
    return answer(_word(streams, field))


@router.delete("/{tenant}/{kind}", status_code=204)
async def forget_stream(
    service: ServiceHere,
    identity: MayMeasure,
    tenant: Annotated[str, Path(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$")],
    kind: Kind,
) -> Response:
    """Learn the reference of a stream anew, from its next files: a change is there to stay."""
    streams = await run_in_threadpool(service.monitor.streams)
    if not any((it.tenant, it.kind) == (tenant, kind) for it in streams):
        raise ServiceError(
            "stream: there is none of this tenant and kind", code=Code.NOTHING_HERE, status=404
        )
    await run_in_threadpool(service.monitor.forget, tenant, kind.value)
    return Response(status_code=204)


def _word(streams: list[Standing], field: list[Held]) -> MonitorAnswer:
    return MonitorAnswer(
        streams=[
            StreamAnswer(
                tenant=it.tenant,
                kind=Kind(it.kind),
                place=it.place,
                files=it.files,
                learnt=it.learnt,
                evidence=it.evidence,
                changes=[
                    ChangeAnswer(
                        signal=change.event.signal,
                        event=str(change.event),
                        reference=change.reference,
                        recent=change.recent,
                    )
                    for change in it.changes
                ],
                alarms=[AlarmAnswer(**alarm) for alarm in it.alarms],
            )
            for it in streams
        ],
        field=[HeldAnswer(**it._asdict()) for it in field],
    )
