"""How long the server waits for somebody who sends or reads slowly, and how much it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from .guards import SAFE_METHODS, refuse
from .limits import PageLimits

UPLOADS = "/gradio_api/upload"
MULTIPART_BYTES = 64 * 1024
"""What the wrapping of an upload may take beside its files."""


class BodyLimits:
    """Ends a request whose body stalls, takes too long or is too large.

    The application reads an ``HTTPException`` (408 or 413) in place of the rest of the body; when
    nothing of it answers before, this does. A connection on which a body was not read to its end is
    closed, so that nobody goes on sending it. ``uploads`` are the paths that take files, with the
    most bytes of each; every other body has at most ``limits.json_bytes``.
    """

    def __init__(
        self, app: ASGIApp, *, limits: PageLimits, uploads: Mapping[str, int] | None = None
    ) -> None:
        self.app, self._limits = app, limits
        self._uploads = uploads or {UPLOADS: limits.upload_bytes + MULTIPART_BYTES}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self._uploads.get(scope["path"], self._limits.json_bytes)
        body, started = _Body(receive, self._limits, most=most), False

        async def send_on(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if not body.complete and scope["method"] not in SAFE_METHODS:
                    message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        try:
            await self.app(scope, body.receive, send_on)
        except HTTPException as error:
            if started or error is not body.refused:
                raise
            await refuse(error.status_code, error.detail)(scope, receive, send)


class _Body:
    """The body of one request on its way to the application."""

    def __init__(self, receive: Receive, limits: PageLimits, *, most: int) -> None:
        self._receive, self._limits = receive, limits
        self._end = asyncio.get_running_loop().time() + limits.body_seconds
        self._most = most
        self._bytes, self.complete = 0, False
        self.refused: HTTPException | None = None

    async def receive(self) -> Message:
        if self.complete:  # what comes now is the end of the connection
            return await self._receive()
        if self.refused:
            raise self.refused
        left = self._end - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(self._limits.stall_seconds, left)):
                message = await self._receive()
        except TimeoutError:
            raise self._refuse(408, "The request was sent too slowly.") from None
        self.complete = message["type"] != "http.request" or not message.get("more_body", False)
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._most:
            self.complete = False
            raise self._refuse(413, f"This is more than the {self._most:,} bytes that are taken.")
        return message

    def _refuse(self, status: int, why: str) -> HTTPException:
        self.refused = HTTPException(status, why)
        return self.refused


class PatientProtocol(H11Protocol):
    """Closes connections on which the head of a request takes too long, or on which nobody reads
    the answer, and those beyond the most that may be open.

    uvicorn's own limit (``timeout_keep_alive``) ends with the first byte after an answer, and there
    is none before the first request. ``limits`` is set in a subclass, because uvicorn makes these.
    """

    limits = PageLimits()

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._head: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._note_request()

    def on_response_complete(self) -> None:
        self._await_head()
        self._await_reader()
        super().on_response_complete()
        self._note_request()  # the next one may have been here already

    def pause_writing(self) -> None:
        self._await_reader()
        super().pause_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._reader):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def _note_request(self) -> None:
        if self._head is not None and self.cycle and not self.cycle.response_complete:
            self._head.cancel()

    def _await_head(self) -> None:
        """Wait for the head of a request, once the answer before it has been read."""
        if self._head is not None:
            self._head.cancel()
        unread = self.transport.get_write_buffer_size()
        end = self._await_head if unread else self.transport.abort
        self._head = self.loop.call_later(self.limits.header_seconds, end)

    def _await_reader(self, before: int | None = None) -> None:
        """Wait while the answer is being read; ``before`` is what was unread a while ago."""
        if self._reader is not None:
            self._reader.cancel()
        unread = self.transport.get_write_buffer_size()
        if unread and before is not None and unread >= before:
            self.transport.abort()
        elif unread:
            self._reader = self.loop.call_later(
                self.limits.stall_seconds, self._await_reader, unread
            )
