"""Files that a moderator sends from the page of batches."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from deepfake.settings import DetectOptions

from ..store.keys import Scope
from ..store.tables import new_id
from ..web.receiving import receive_media
from .access import admit, check_form, service_of

PRIORITY = 6
"""Above that of programs: a person waits."""


async def add_batch(request: Request) -> Response:
    """Put the files of a form in line, all or none of them, and show their batch.

    What the form must carry is in its address, because it is checked before a file is taken.
    """
    service, guest = service_of(request), await admit(request, Scope.DETECT)
    check_form(request.query_params.get("form"), guest.form)
    files = await receive_media(
        request,
        service.uploads,
        service.fetcher,
        name="",
        most_files=service.settings.batch_files,
        raw=False,
    )
    batch, in_line = new_id("bat"), False
    try:
        await run_in_threadpool(
            lambda: service.put_in_line(
                guest.identity, files, DetectOptions(), priority=PRIORITY, batch=batch
            )
        )
        in_line = service.media.in_place
    finally:
        if not in_line:
            service.uploads.drop([str(file.path) for file in files])
    return RedirectResponse(f"/cases/batches/{batch}", 303)
