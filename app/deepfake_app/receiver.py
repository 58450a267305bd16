"""Receives uploads as ``multipart/form-data`` (RFC 7578), straight into their folders."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from deepfake.errors import DeepfakeError, MediaError
from deepfake.reasons import Code

from .guards import refuse
from .storage import Incoming, Uploads

MOST_FILES = 20
STATUS = {Code.TOO_LARGE: 413, Code.NO_ROOM: 507}


class Receiver:
    """The endpoint: files in, their paths out, as gradio's client expects.

    Nothing of a request that fails stays on disk.
    """

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    async def receive(self, request: Request) -> Response:
        """Answer one request; 413, 507 and 400 say why nothing was kept."""
        self._uploads.sweep()
        try:
            return JSONResponse(await self._receive(request))
        except DeepfakeError as error:
            return refuse(STATUS.get(error.code, 400), str(error))
        except FormParserError:
            return refuse(400, "This is not a form with files.")
        except OSError:
            return refuse(507, "The file could not be stored.")
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it

    async def _receive(self, request: Request) -> list[str]:
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise FormParserError("not multipart/form-data")
        form = _Form(self._uploads)
        with form.parsing(boundary) as parser:
            async for chunk in request.stream():
                parser.write(chunk)
            parser.finalize()
            if not form.ended:
                raise FormParserError("ends too early")
        return form.paths


class _Form:
    """The parts of one form; those with a file name become uploads."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._header, self._disposition = b"", b""
        self._value = b""
        self._part: contextlib.AbstractContextManager[Incoming] | None = None
        self._file: Incoming | None = None
        self.paths: list[str] = []
        self.ended = False

    @contextlib.contextmanager
    def parsing(self, boundary: bytes) -> Iterator[MultipartParser]:
        """A parser that writes here; what was received is deleted when the block raises."""
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._add_field,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._open,
                "on_part_data": self._write,
                "on_part_end": self._close,
                "on_end": self._end,
            },
        )
        try:
            yield parser
        except BaseException as error:
            if self._part is not None:
                with contextlib.suppress(type(error)):
                    self._part.__exit__(type(error), error, error.__traceback__)
            self._uploads.drop(self.paths)
            raise

    def _begin(self) -> None:
        self._disposition = b""

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _open(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"filename")
        if name is None:
            return
        if len(self.paths) >= MOST_FILES:
            raise MediaError(
                f"upload: more than {MOST_FILES} files at once", code=Code.TOO_MANY_FILES
            )
        self._part = self._uploads.receiving(name.decode("utf-8", "replace"))
        self._file = self._part.__enter__()

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])

    def _close(self) -> None:
        if self._file is None or self._part is None:
            return
        part, file = self._part, self._file
        self._part = self._file = None
        part.__exit__(None, None, None)
        self.paths.append(str(file.path))

    def _end(self) -> None:
        self.ended = True
