"""Media in the body of a request, written to disk while they arrive."""

from __future__ import annotations

from typing import Any

from deepfake_app.forms import receive_form
from deepfake_app.storage import Incoming, Uploads
from python_multipart.exceptions import FormParserError
from starlette.requests import Request

from deepfake.errors import MediaError, ServiceError, UnsupportedMedia
from deepfake.reasons import Code

RAW_TYPES = ("image/", "audio/", "video/")
_BINARY = {"type": "string", "contentMediaType": "application/octet-stream"}


def describe_body(*, several: bool) -> dict[str, Any]:
    """What OpenAPI says of the body that :func:`receive_media` takes."""
    files = {"type": "array", "items": _BINARY, "minItems": 1} if several else _BINARY
    form = {"type": "object", "required": ["file"], "properties": {"file": files}}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    if not several:
        content["application/octet-stream"] = {"schema": {}}
    return {"requestBody": {"required": True, "content": content}}


async def receive_media(
    request: Request, uploads: Uploads, *, name: str, most_files: int = 1, raw: bool = True
) -> list[Incoming]:
    """The files of a form or, if ``raw`` is allowed, the body itself, kept in ``uploads``.

    What the sender says of their types decides nothing. Raises ``MediaError`` for what is too
    large, empty or too many, ``ServiceError`` for what is no form and no file, and what
    ``request.stream`` raises; then nothing is kept.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise _wrong_type("is compressed", "send it as it is, without Content-Encoding")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "multipart/form-data":
            return await _receive_form(request, uploads, most_files=most_files)
        if raw and (kind == "application/octet-stream" or kind.startswith(RAW_TYPES)):
            return [await _receive_body(request, uploads, name=name)]
    except FormParserError as error:
        raise ServiceError(
            "request: its body is no whole form", hint="send multipart/form-data (RFC 7578)"
        ) from error
    except OSError as error:
        raise MediaError(
            "upload: could not be stored", code=Code.NO_ROOM, hint="try again in a few minutes"
        ) from error
    wanted = "a form with the file (multipart/form-data)"
    wanted += ", or the file itself as application/octet-stream" if raw else ""
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


def _require_content(file: Incoming) -> None:
    if not file.bytes:
        raise UnsupportedMedia(
            f"file {file.name}: is empty",
            code=Code.EMPTY,
            hint="get the file again; it has 0 bytes",
        )


def _wrong_type(why: str, hint: str) -> ServiceError:
    return ServiceError(f"request: its body {why}", code=Code.WRONG_TYPE, hint=hint, status=415)
