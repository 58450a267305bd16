"""Endpoints of reports and rulings."""

from __future__ import annotations

import html
from importlib.resources import files
from typing import Annotated, Literal

from deepfake_app.views import render_report
from fastapi import APIRouter, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from deepfake.errors import ServiceError
from deepfake.reasons import Code
from deepfake.show.sketches import heat_picture, sheet_picture
from deepfake.types import Report

from ..answers import redact
from ..store.keys import Identity
from ..store.tables import StoredReport
from .access import MayRead, MayRule, ServiceHere
from .pdf import encode_png, write_pdf
from .repeating import IdempotencyKey, once
from .shapes import REPORT_ID, FeedbackAnswer, FeedbackRequest, ReportAnswer
from .wording import answer, word_feedback, word_report

router = APIRouter(prefix="/v1", tags=["reports"])
BINARY = {"type": "string", "format": "binary"}


@router.get(
    "/reports/{report}",
    response_model=ReportAnswer,
    responses={
        200: {
            "content": {
                "text/html": {"schema": {"type": "string"}},
                "application/pdf": {"schema": BINARY},
                "image/png": {"schema": BINARY},
            }
        }
    },
)
async def read_report(
    service: ServiceHere,
    identity: MayRead,
    report: Annotated[str, Path(pattern=REPORT_ID)],
    format: Annotated[
        Literal["json", "html", "pdf", "heatmap", "sheet"],
        Query(
            description="for a program; for a person as a page or a PDF; its heat map, or the "
            "contact sheet of a video or a sound, as PNG on plain ground, for the media are gone"
        ),
    ] = "json",
) -> Response:
    """One report, as much of it as the key may see."""
    row = await run_in_threadpool(lambda: service.read_report(identity, report))
    if format == "json":
        revised = await run_in_threadpool(service.reports.revision_of, row.id)
        return answer(word_report(row, identity, revised=revised))
    return await run_in_threadpool(_show, row, identity, format)


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
            lambda: service.rule(
                identity, feedback.report, ruling=feedback.ruling, note=feedback.note
            )
        )
        return answer(word_feedback(row), 201)

    parts = ("feedback", feedback.model_dump())
    return await once(service, identity, repeat, parts, keep, files=[])


def _show(row: StoredReport, identity: Identity, format: str) -> Response:
    """The report for a person."""
    shown = redact(Report.from_dict(row.document), identity.policy)
    if format == "html":
        return HTMLResponse(render_page(row, shown))
    if format == "pdf":
        content = write_pdf(shown, id=row.id, created=row.created)
        headers = {"Content-Disposition": f'inline; filename="{row.id}.pdf"'}
        return Response(content, headers=headers, media_type="application/pdf")
    pixels = heat_picture(shown) if format == "heatmap" else sheet_picture(shown)
    if pixels is None:
        raise ServiceError(
            f"report: has no {format}, or none that this key may see",
            code=Code.NOTHING_HERE,
            hint="ask for heat maps with the option heatmap; sheets are of videos and sounds",
            status=404,
        )
    return Response(encode_png(pixels), media_type="image/png")


def render_page(row: StoredReport, shown: Report) -> str:
    """The report as a page that loads nothing, without the pictures, which are gone."""
    style = (files("deepfake_app") / "page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Report {html.escape(row.id)}</title><style>{style}"
        "body{font-family:system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        f"</style></head><body>{render_report(shown)}</body></html>"
    )
