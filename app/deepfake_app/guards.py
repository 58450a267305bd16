"""ASGI middleware that answers only to those who may ask, and says what a browser may do."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .address import Names

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' "
    "'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""gradio builds its components from inline scripts and ``Function``; nothing may be fetched from,
or sent to, another machine."""
NEEDED = frozenset(
    {"call", "cancel", "heartbeat", "info", "queue", "reset", "run", "startup-events", "theme.css"}
    | {"upload"}
)
"""What the page and gradio's client ask of ``/gradio_api``. The rest serves files, fetches pages of
other machines and records runs, which nobody needs here."""


class SafeHeaders:
    """Adds the headers that keep the page from loading or sending anything elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, send_with_headers)


class SameSite:
    """Refuses a foreign ``Host`` (DNS rebinding) and changes that another site asks for.

    A request that changes something and comes from a browser must come from the page itself: its
    ``Origin`` has the authority of its ``Host``, and ``Sec-Fetch-Site`` names no other site
    (Fetch Standard 3.2; Fetch Metadata 2.3). Programs send neither and are let through.
    """

    def __init__(self, app: ASGIApp, *, names: Names) -> None:
        self.app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http" and (why := find_refusal(scope, self._names)):
            await refuse(403, why)(scope, receive, send)
        elif scope["type"] == "http":
            await self.app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})


def find_refusal(scope: Scope, names: Names) -> str:
    """Why :class:`SameSite` refuses a request; nothing when it does not."""
    headers = Headers(scope=scope)
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not names.hold(hosts[0]):
        return "This host name is not one of the page; start it with --allow-host NAME."
    if scope["method"] in SAFE_METHODS:
        return ""
    origin = headers.get("origin")
    if origin is not None and not _same_authority(origin, hosts[0]):
        return "Another site may not use this page."
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return "Another site may not use this page."
    return ""


class OnlyNeeded:
    """Closes what nobody needs of gradio's interface (see ``NEEDED``)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        first, _, rest = scope.get("path", "").strip("/").partition("/")
        if first == "gradio_api" and rest.partition("/")[0] not in NEEDED:
            await refuse(404, "Not found")(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def refuse(status: int, why: str) -> PlainTextResponse:
    """An answer after which the connection is closed, so that an unread body holds nothing."""
    return PlainTextResponse(why + "\n", status_code=status, headers={"Connection": "close"})


def _same_authority(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
