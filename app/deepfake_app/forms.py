"""Forms with files (``multipart/form-data``, RFC 7578), written to disk while they arrive."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from deepfake.errors import MediaError
from deepfake.reasons import Code

from .storage import Incoming, Uploads


async def receive_form(request: Request, uploads: Uploads, *, most_files: int) -> Form:
    """The form of a request, its files kept in ``uploads``.

    Raises ``FormParserError`` for what is no form, ``MediaError`` for too many files, and as
    :meth:`Uploads.receiving`; then nothing of it is kept.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise FormParserError("not multipart/form-data")
    form = Form(uploads, most_files=most_files)
    with form.parsing(boundary) as parser:
        async for chunk in request.stream():
            parser.write(chunk)
        parser.finalize()
        if not form.ended:
            raise FormParserError("ends too early")
    return form


class Form:
    """The parts of one form; those with a file name become ``files``, ``others`` are counted."""

    def __init__(self, uploads: Uploads, *, most_files: int) -> None:
        self._uploads, self._most_files = uploads, most_files
        self._header, self._disposition = b"", b""
        self._value = b""
        self._part: contextlib.AbstractContextManager[Incoming] | None = None
        self._file: Incoming | None = None
        self.files: list[Incoming] = []
        self.others = 0
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
            self._uploads.drop([str(file.path) for file in self.files])
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
            self.others += 1
            return
        if len(self.files) >= self._most_files:
            raise MediaError(
                f"upload: more than {self._most_files} files at once", code=Code.TOO_MANY_FILES
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
        self.files.append(file)

    def _end(self) -> None:
        self.ended = True
