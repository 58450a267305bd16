"""The cases: history, one report, two side by side, batches, precision, exports."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from deepfake_app.views import render_report
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from deepfake.errors import ServiceError
from deepfake.reasons import Code
from deepfake.types import Report

from ..answers import redact
from ..store.cases import Filter, Ruled
from ..store.keys import Identity, Scope
from ..store.tables import ENDED, Ruling, StoredReport
from .access import Guest, admit, check_form, service_of, text_of
from .exports import MOST_CSV, MOST_PDF, write_csv, write_pdf
from .filters import FIELDS, read_filter, read_number, write_query
from .precision import tabulate
from .rendering import render, word_minute

ROWS = 50
BATCHES = 50
MOST_NOTE = 2000
_REPORT = re.compile("rep_[0-9a-f]{32}")
_BATCH = re.compile("bat_[0-9a-f]{32}")


async def show_history(request: Request) -> Response:
    """The cases that fit a filter, the newest first."""
    service, guest = service_of(request), await admit(request)
    query = request.query_params
    wanted = read_filter(query)
    before, after = read_number(query, "before"), read_number(query, "after")

    def find() -> tuple[Any, ...]:
        tenant = guest.identity.tenant
        rows = service.cases.page(tenant, wanted, before=before, after=after, most=ROWS + 1)
        more = len(rows) > ROWS
        rows = rows[1:] if more and after is not None else rows[:ROWS]
        reports = [row.report for row in rows]
        return rows, more, service.thumbnails.present(tenant, reports)

    rows, more, pictured = await run_in_threadpool(find)
    newer = bool(rows) and (more if after is not None else before is not None)
    older = bool(rows) and (more or after is not None)
    return render(
        "history.html",
        guest,
        rows=rows,
        pictured=pictured,
        given={name: query.get(name, "") for name in FIELDS},
        query=write_query(query),
        newer=write_query(query, after=rows[0].number) if newer else "",
        older=write_query(query, before=rows[-1].number) if older else "",
    )


async def show_report(request: Request) -> Response:
    """One report with its rulings, and the form for another one."""
    service, guest = service_of(request), await admit(request)
    row, rulings = await run_in_threadpool(_find, request, guest, request.path_params["report"])
    pictured = await run_in_threadpool(service.thumbnails.present, guest.identity.tenant, [row.id])
    return render(
        "report.html",
        guest,
        row=row,
        report=_read(row, guest.identity),
        body=_body(row, guest.identity),
        rulings=rulings,
        pictured=bool(pictured),
        most=MOST_NOTE,
        ruled_now=request.query_params.get("ruled") == "yes",
    )


async def rule(request: Request) -> Response:
    """Keep a ruling, and show the report again."""
    service, guest = service_of(request), await admit(request, Scope.FEEDBACK)
    report = _read_id(_REPORT, request.path_params["report"])
    async with request.form(max_files=0, max_fields=10) as form:
        check_form(form.get("form"), guest.form)
        ruling, note = text_of(form, "ruling"), _clean(text_of(form, "note"))
    if ruling not in tuple(Ruling) or len(note) > MOST_NOTE:
        raise ServiceError(
            "ruling: is none, or its note is too long",
            hint=f"choose one of {', '.join(Ruling)}, with at most {MOST_NOTE} characters",
            status=422,
        )
    await run_in_threadpool(
        lambda: service.rule(guest.identity, report, ruling=Ruling(ruling), note=note)
    )
    return RedirectResponse(f"/cases/reports/{report}?ruled=yes", 303)


async def compare(request: Request) -> Response:
    """Two reports side by side."""
    guest = await admit(request)
    ids = request.query_params.getlist("report")
    if len(ids) != 2 or ids[0] == ids[1]:
        raise ServiceError(
            "comparison: needs two reports", hint="tick two in the history", status=422
        )
    sides: list[dict[str, Any]] = []
    for id in ids:
        row, rulings = await run_in_threadpool(_find, request, guest, id)
        report = _read(row, guest.identity)
        sides.append(
            {
                "row": row,
                "report": report,
                "ruling": rulings[-1] if rulings else None,
                "body": _body(row, guest.identity, place=len(sides) + 1),
                "scores": {it.source: it for it in report.evidence},
            }
        )
    sources = dict.fromkeys(it.source for side in sides for it in side["report"].evidence)
    return render("compare.html", guest, sides=sides, sources=list(sources))


async def show_batches(request: Request) -> Response:
    """The newest batches, and the form for another one."""
    service, guest = service_of(request), await admit(request)
    rows = await run_in_threadpool(
        lambda: service.cases.batches(guest.identity.tenant, most=BATCHES)
    )
    return render("batches.html", guest, rows=rows, most=service.settings.batch_files)


async def show_batch(request: Request) -> Response:
    """The files of a batch with what became of them."""
    service, guest = service_of(request), await admit(request)
    batch = _read_id(_BATCH, request.path_params["batch"])

    def find() -> tuple[Any, ...]:
        tenant = guest.identity.tenant
        rows = service.cases.batch(tenant, batch)
        reports = [case.report for _, case in rows if case is not None]
        return rows, service.thumbnails.present(tenant, reports)

    rows, pictured = await run_in_threadpool(find)
    if not rows:
        raise _nothing("batch")
    ended = sum(job.state in ENDED for job, _ in rows)
    return render("batch.html", guest, batch=batch, rows=rows, pictured=pictured, ended=ended)


async def show_thumbnail(request: Request) -> Response:
    """The small picture of a report."""
    service, guest = service_of(request), await admit(request)
    report = _read_id(_REPORT, request.path_params["report"])
    content = await run_in_threadpool(service.thumbnails.find, guest.identity.tenant, report)
    if content is None:
        raise _nothing("thumbnail")
    return Response(content, media_type="image/jpeg")


async def show_precision(request: Request) -> Response:
    """How often rulings confirm each verdict, among the cases that fit a filter."""
    service, guest = service_of(request), await admit(request)
    query = request.query_params
    wanted = read_filter(query)
    counts = await run_in_threadpool(service.cases.count, guest.identity.tenant, wanted)
    return render(
        "precision.html",
        guest,
        rows=tabulate(counts),
        given={name: query.get(name, "") for name in FIELDS},
    )


async def show_metrics(request: Request) -> Response:
    """Measurements of all tenants together, as ``/metrics`` gives them to a key."""
    service = service_of(request)
    await admit(request, Scope.ADMIN)
    return Response(await run_in_threadpool(service.metrics.render), media_type="text/plain")


async def export_csv(request: Request) -> Response:
    """The cases that fit a filter as CSV."""
    service, guest = service_of(request), await admit(request)
    rows = service.cases.walk(
        guest.identity.tenant, read_filter(request.query_params), most=MOST_CSV
    )
    return StreamingResponse(
        write_csv(rows), media_type="text/csv; charset=utf-8", headers=_as_file("csv")
    )


async def export_pdf(request: Request) -> Response:
    """The newest cases that fit a filter as PDF."""
    service, guest = service_of(request), await admit(request)
    wanted = read_filter(request.query_params)

    def write() -> bytes:
        rows = service.cases.walk(guest.identity.tenant, wanted, most=MOST_PDF)
        note = (
            f"{_describe(wanted)} At most the newest {MOST_PDF:,}. Made {word_minute(_now())}. "
            "A verdict is a hint for a person who looks further, not proof."
        )
        return write_pdf(rows, title="Cases", note=note)

    content = await run_in_threadpool(write)
    return Response(content, media_type="application/pdf", headers=_as_file("pdf"))


def _find(request: Request, guest: Guest, id: str) -> tuple[StoredReport, list[Ruled]]:
    service, tenant = service_of(request), guest.identity.tenant
    row = service.read_report(guest.identity, _read_id(_REPORT, id))
    return row, service.cases.rulings(tenant, [row.id]).get(row.id, [])


def _read(row: StoredReport, identity: Identity) -> Report:
    return redact(Report.from_dict(row.document), identity.policy)


def _body(row: StoredReport, identity: Identity, *, place: int = 0) -> Markup:
    """The report as the page shows it, which escapes what is from the file."""
    return Markup(render_report(_read(row, identity), place=place))  # noqa: S704


def _read_id(pattern: re.Pattern[str], id: str) -> str:
    if not pattern.fullmatch(id):
        raise _nothing("page")
    return id


def _nothing(what: str) -> ServiceError:
    return ServiceError(f"{what}: there is none of this id", code=Code.NOTHING_HERE, status=404)


def _clean(note: str) -> str:
    """A note without what is no text; its lines stay."""
    return "\n".join(
        "".join(it for it in line if it.isprintable()).rstrip() for line in note.splitlines()
    ).strip()


def _as_file(kind: str) -> dict[str, str]:
    day = datetime.now(UTC).date().isoformat()
    return {"Content-Disposition": f'attachment; filename="cases-{day}.{kind}"'}


def _now() -> int:
    return round(datetime.now(UTC).timestamp() * 1000)


def _describe(wanted: Filter) -> str:
    parts = [
        *(f"{name} {value}" for name in ("verdict", "kind") if (value := getattr(wanted, name))),
        *([f"ruling {wanted.ruling}"] if wanted.ruling else []),
        *([f"since {word_minute(wanted.since)}"] if wanted.since is not None else []),
        *([f"before {word_minute(wanted.until)}"] if wanted.until is not None else []),
        *([f"name with {wanted.name!r}"] if wanted.name else []),
        *([f"search for {wanted.words!r}"] if wanted.words else []),
    ]
    return f"Of all cases: {', '.join(parts)}." if parts else "All cases."
