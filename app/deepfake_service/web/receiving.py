"""Media in the body of a request, written to disk while they arrive."""

from __future__ import annotations

from typing import Any

from deepfake_app.forms import receive_form
from deepfake_app.storage import Incoming, Uploads
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from deepfake.errors import MediaError, ServiceError, UnsupportedMedia
from deepfake.reasons import Code

from ..outside.fetching import Fetcher
from .shapes import MediaAddress

MOST_URL_BYTES = 8192
RAW_TYPES = ("image/", "audio/", "video/")
_BINARY = {"type": "string", "contentMediaType": "application/octet-stream"}


def describe_body(*, several: bool) -> dict[str, Any]:
    """What OpenAPI says of the body that :func:`receive_media` takes."""
    files = {"type": "array", "items": _BINARY, "minItems": 1} if several else _BINARY
    form = {"type": "object", "required": ["file"], "properties": {"file": files}}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    if not several:
        content["application/octet-stream"] = {"schema": {}}
        content["application/json"] = {
            "schema": {"$ref": "#/components/schemas/MediaAddress"},
            "example": {"url": "https://media.example/photo.jpg"},
        }
    return {"requestBody": {"required": True, "content": content}}


async def receive_media(
    request: Request,
    uploads: Uploads,
    fetcher: Fetcher,
    *,
    name: str,
    most_files: int = 1,
    raw: bool = True,
) -> list[Incoming]:
    """The files of a form or, if ``raw`` is allowed, the body itself or what lies at the address
    that it names, kept in ``uploads``.

    What the sender says of their types decides nothing. Raises ``MediaError`` for what is too
    large, empty or too many, ``ServiceError`` for what is no form and no file, and what
    ``request.stream`` and :meth:`Fetcher.fetch` raise; then nothing is kept.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise _wrong_type("is compressed", "send it as it is, without Content-Encoding")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "multipart/form-data":
            return await _receive_form(request, uploads, most_files=most_files)
        if raw and (kind == "application/octet-stream" or kind.startswith(RAW_TYPES)):
            return [await _receive_body(request, uploads, name=name)]
        if raw and kind == "application/json":
            url = await _receive_url(request)
            return [await run_in_threadpool(lambda: fetcher.fetch(url, uploads, name=name))]
    except FormParserError as error:
        raise ServiceError(
            "request: its body is no whole form", hint="send multipart/form-data (RFC 7578)"
        ) from error
    except OSError as error:
        raise MediaError(
            "upload: could not be stored", code=Code.NO_ROOM, hint="try again in a few minutes"
        ) from error
    wanted = "a form with the file (multipart/form-data)"
    if raw:
        wanted += ", the file itself as application/octet-stream, or its URL as JSON"
    raise _wrong_type("is of a type that is not taken", f"send {wanted}")


async def _receive_form(request: Request, uploads: Uploads, *, most_files: int) -> list[Incoming]:
    form = await receive_form(request, uploads, most_files=most_files)
    paths = [str(file.path) for file in form.files]
    try:
        if form.others:
            raise ServiceError(
                "request: its form has fields that are no files",
                hint="give options in the query, as ?effort=quick",
            )
        if not form.files:
            raise MediaError(
                "upload: the form has no file", code=Code.NO_FILE, hint="send one in a field"
            )
        for file in form.files:
            _require_content(file)
    except BaseException:
        uploads.drop(paths)
        raise
    return form.files


async def _receive_body(request: Request, uploads: Uploads, *, name: str) -> Incoming:
    with uploads.receiving(name) as incoming:
        async for chunk in request.stream():
            incoming.write(chunk)
        _require_content(incoming)
    return incoming


async def _receive_url(request: Request) -> str:
    """The address that a short body of JSON names."""
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > MOST_URL_BYTES:
            break
    try:
        return MediaAddress.model_validate_json(content[: MOST_URL_BYTES + 1]).url
    except ValidationError as error:
        raise ServiceError(
            "request: its body names no address of a file",
            hint='send {"url": "https://…"}, or the file itself',
            status=422,
        ) from error


def _require_content(file: Incoming) -> None:
    if not file.bytes:
        raise UnsupportedMedia(
            f"file {file.name}: is empty",
            code=Code.EMPTY,
            hint="get the file again; it has 0 bytes",
        )


def _wrong_type(why: str, hint: str) -> ServiceError:
    return ServiceError(f"request: its body {why}", code=Code.WRONG_TYPE, hint=hint, status=415)
