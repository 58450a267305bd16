"""What a request to examine names, checked before gradio sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .guards import refuse
from .storage import Uploads

PREFIXES = ("/gradio_api/queue/join", "/gradio_api/call/", "/gradio_api/run/")


class UploadsOfRequests:
    """Refuses requests for files that are no uploads, and deletes those of refused requests.

    gradio would copy a file of this machine, or fetch one from another, into its cache. It also
    leaves the uploads of a request that it refuses, for a full queue say, where they are.
    """

    def __init__(self, app: ASGIApp, *, uploads: Uploads) -> None:
        self.app, self._uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asks = scope["type"] == "http" and scope["method"] == "POST"
        if not asks or not scope["path"].startswith(PREFIXES):
            await self.app(scope, receive, send)
            return
        try:
            body = await Request(scope, receive).body()  # which ``BodyLimits`` bounds
        except ClientDisconnect:
            return
        try:
            values = json.loads(body)
        except (ValueError, RecursionError):
            await refuse(400, "This is not JSON.")(scope, receive, send)
            return
        if not isinstance(values, dict):
            await refuse(400, "This is no object of JSON.")(scope, receive, send)
            return
        paths = list(find_paths(values))
        if not all(self._uploads.hold(path) for path in paths):
            self._uploads.drop(paths)
            await refuse(400, "A file was named that is no upload, or is gone.")(
                scope, receive, send
            )
            return
        self._uploads.belong_to(str(values.get("session_hash")), paths)
        await self._pass_on(scope, receive, send, body=body, paths=paths)

    async def _pass_on(
        self, scope: Scope, receive: Receive, send: Send, *, body: bytes, paths: list[str]
    ) -> None:
        given = False

        async def receive_again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                self._uploads.drop(paths)
            await send(message)

        await self.app(scope, receive_again, send_on)


def find_paths(values: Any) -> Iterator[str]:
    """Every ``path`` of a file anywhere in JSON ``values``."""
    waiting = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if path := value.get("path"):
                yield str(path)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
