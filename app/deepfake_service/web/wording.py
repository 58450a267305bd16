"""Rows of the database as the JSON of the interface."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from deepfake.types import Report

from ..answers import redact
from ..service import Service
from ..store.keys import Identity
from ..store.tables import (
    Delivery,
    DeliveryState,
    Event,
    Feedback,
    Job,
    Ruling,
    State,
    StoredReport,
    Webhook,
    word_time,
)
from .shapes import (
    DeliveryAnswer,
    FeedbackAnswer,
    JobAnswer,
    JobError,
    NewWebhookAnswer,
    ReportAnswer,
    WebhookAnswer,
)


def word_report(
    row: StoredReport, identity: Identity, *, revised: str | None = None
) -> ReportAnswer:
    """A report as the key may see it."""
    return ReportAnswer(
        id=row.id,
        created=word_time(row.created) or "",
        policy=identity.policy,
        job=row.job,
        revised=revised,
        report=redact(Report.from_dict(row.document), identity.policy).to_dict(),
    )


def word_job(row: Job, service: Service) -> JobAnswer:
    """A job as it is now."""
    share, step = (1.0, "") if row.state == State.DONE else (0.0, "")
    if row.state == State.RUNNING:
        share, step = service.workers.progress(row)
    return JobAnswer(
        id=row.id,
        state=State(row.state),
        name=row.name,
        bytes=row.bytes,
        batch=row.batch,
        priority=row.priority,
        attempts=row.attempt,
        created=word_time(row.created) or "",
        started=word_time(row.started),
        ended=word_time(row.ended),
        progress=round(share, 3),
        step=step,
        report=row.report,
        error=None if row.error is None else JobError(**row.error),
    )


def word_feedback(row: Feedback) -> FeedbackAnswer:
    return FeedbackAnswer(
        id=row.id,
        created=word_time(row.created) or "",
        report=row.report,
        ruling=Ruling(row.ruling),
        note=row.note,
    )


def word_webhook(row: Webhook) -> WebhookAnswer:
    return WebhookAnswer(**_webhook(row))


def word_new_webhook(row: Webhook, secret: str) -> NewWebhookAnswer:
    return NewWebhookAnswer(**_webhook(row), secret=secret)


def _webhook(row: Webhook) -> dict[str, Any]:
    return {
        "id": row.id,
        "created": word_time(row.created),
        "url": row.url,
        "events": row.events,
        "gone": word_time(row.gone),
    }


def word_delivery(row: Delivery) -> DeliveryAnswer:
    waits = row.state == DeliveryState.QUEUED
    return DeliveryAnswer(
        id=row.id,
        event=Event(row.event),
        state=DeliveryState(row.state),
        tries=row.attempt,
        created=word_time(row.created) or "",
        due=word_time(row.due) if waits else None,
        ended=word_time(row.ended),
        status=row.status,
        error=row.error,
    )


def answer(shape: BaseModel, status: int = 200, **headers: str) -> Response:
    """The JSON of a shape; underscores in the names of headers stand for hyphens."""
    return Response(
        shape.model_dump_json(),
        status,
        {name.replace("_", "-"): value for name, value in headers.items()},
        media_type="application/json",
    )
