"""Rows of the database as the JSON of the interface."""

from __future__ import annotations

from pydantic import BaseModel
from starlette.responses import Response

from deepfake.types import Report

from ..answers import redact
from ..service import Service
from ..store.keys import Identity
from ..store.tables import Feedback, Job, Ruling, State, StoredReport, word_time
from .shapes import FeedbackAnswer, JobAnswer, JobError, ReportAnswer


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
        share, step = service.workers.progress(row.id)
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


def answer(shape: BaseModel, status: int = 200, **headers: str) -> Response:
    """The JSON of a shape; underscores in the names of headers stand for hyphens."""
    return Response(
        shape.model_dump_json(),
        status,
        {name.replace("_", "-"): value for name, value in headers.items()},
        media_type="application/json",
    )
