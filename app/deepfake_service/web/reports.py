"""Endpoints of reports and rulings."""

from __future__ import annotations

import html
from importlib.resources import files
from typing import Annotated, Literal

from deepfake_app.views import render_report
from fastapi import APIRouter, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from deepfake.types import Report

from ..answers import redact
from ..store.keys import Identity
from ..store.tables import StoredReport
from .access import MayRead, MayRule, ServiceHere
from .repeating import IdempotencyKey, once
from .shapes import REPORT_ID, FeedbackAnswer, FeedbackRequest, ReportAnswer
from .wording import answer, word_feedback, word_report

router = APIRouter(prefix="/v1", tags=["reports"])


@router.get(
    "/reports/{report}",
    response_model=ReportAnswer,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def read_report(
    service: ServiceHere,
    identity: MayRead,
    report: Annotated[str, Path(pattern=REPORT_ID)],
    format: Annotated[
        Literal["json", "html"], Query(description="for a program, or for a person")
    ] = "json",
) -> Response:
    """One report, as much of it as the key may see."""
    row = await run_in_threadpool(lambda: service.reports.find(identity.tenant, report))
    if format == "html":
        return HTMLResponse(await run_in_threadpool(render_page, row, identity))
    revised = await run_in_threadpool(service.reports.revision_of, row.id)
    return answer(word_report(row, identity, revised=revised))


@router.post("/feedback", response_model=FeedbackAnswer, status_code=201)
async def rule(
    service: ServiceHere,
    identity: MayRule,
    feedback: FeedbackRequest,
    repeat: IdempotencyKey = None,
) -> Response:
    """Keep a moderator's ruling on a report."""

    async def keep() -> Response:
        row = await run_in_threadpool(
            lambda: service.reports.rule(
                identity, feedback.report, ruling=feedback.ruling, note=feedback.note
            )
        )
        about = await run_in_threadpool(service.reports.find, identity.tenant, feedback.report)
        service.metrics.note_ruling(about.verdict, feedback.ruling)
        return answer(word_feedback(row), 201)

    parts = ("feedback", feedback.model_dump())
    return await once(service, identity, repeat, parts, keep, files=[])


def render_page(row: StoredReport, identity: Identity) -> str:
    """The report as a page that loads nothing, without the pictures, which are gone."""
    shown = redact(Report.from_dict(row.document), identity.policy)
    style = (files("deepfake_app") / "page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Report {html.escape(row.id)}</title><style>{style}"
        "body{font-family:system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        f"</style></head><body>{render_report(shown)}</body></html>"
    )
