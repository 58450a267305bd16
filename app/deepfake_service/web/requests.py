"""What every request passes first and last: its id, its headers, its measurement, its end."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deepfake_app.guards import find_refusal
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from deepfake.errors import ServiceError
from deepfake.faults import internal_error
from deepfake.reasons import Code

from ..problems import answer_problem

if TYPE_CHECKING:
    from deepfake_app.address import Names

    from ..metrics import Metrics
    from ..monitoring.tracing import Tracing

LOG = logging.getLogger("deepfake_service")
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_REQUEST_ID = re.compile("[0-9A-Za-z][0-9A-Za-z._-]{0,63}")


class Requests:
    """Gives each request an id, refuses those of other sites, and answers to exceptions.

    The id is the one that the client sends as ``X-Request-ID`` if it is a plain word, else a new
    one; the answer and the log have it. The log names routes, never what a client wrote.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        names: Names,
        metrics: Metrics,
        tracing: Tracing,
        headers: Mapping[str, str] = HEADERS,
    ) -> None:
        self.app, self._names, self._metrics, self._headers = app, names, metrics, headers
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        state = scope.setdefault("state", {})
        request_id = state["request_id"] = _choose_id(scope)
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers.update(self._headers)
                headers.update(state.get("rate_headers", {}))
            await send(message)

        with (
            bound_contextvars(request_id=request_id),
            self._tracing.request(_method_of(scope), Headers(scope=scope)) as said,
        ):
            try:
                await self._answer(scope, receive, send_on)
            except ClientDisconnect:
                status = status or 499  # nobody reads it
            except Exception as fault:  # noqa: BLE001 (a bug is one request's, and is logged)
                error = internal_error(f"request {request_id}", fault)
                state["code"] = str(error.code)
                if not status:
                    await answer_problem(error, request_id=request_id)(scope, receive, send_on)
            finally:
                said.update(self._note(scope, status, time.perf_counter() - started))

    def _note(self, scope: Scope, status: int, seconds: float) -> dict[str, Any]:
        """Measure and log a request that has ended; what its span tells."""
        state, method = scope["state"], _method_of(scope)
        path, code = getattr(scope.get("route"), "path", "none"), state.get("code")
        shown = state.get("shown", "nobody")
        self._metrics.note_request(scope["method"], path, status, seconds, code=code)
        LOG.info(
            "request %s: %s %s by %s: %d in %.3f s",
            state["request_id"],
            method,
            path,
            shown,
            status,
            seconds,
            extra={
                "method": method,
                "route": path,
                "key": shown,
                "status": status,
                "seconds": round(seconds, 4),
                "code": code,
            },
        )
        return {"http.route": path, "http.response.status_code": status, "error.type": code}

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if why := find_refusal(scope, self._names):
            error = ServiceError(
                f"request: {why.rstrip('.')}", code=Code.NOT_ALLOWED, hint="", status=403
            )
            scope["state"]["code"] = str(error.code)
            answer = answer_problem(error, request_id=scope["state"]["request_id"])
            answer.headers["Connection"] = "close"  # an unread body holds nothing
            await answer(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _method_of(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method.isalpha() else "?"


def _choose_id(scope: Scope) -> str:
    sent = Headers(scope=scope).get("x-request-id", "")
    return sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex


def bad_head() -> bytes:
    """The body of the answer to what is not HTTP, or has too long a head."""
    error = ServiceError("request: its head is not HTTP/1.1, or is too long")
    return bytes(answer_problem(error, request_id="none").body)
