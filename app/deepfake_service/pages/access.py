"""Who looks at a page, and whether they may."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from urllib.parse import quote

from deepfake_app.guards import refuse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from deepfake.errors import ServiceError
from deepfake.reasons import Code

from ..service import Service
from ..store.keys import Identity, Scope

COOKIE = "__Host-deepfake"
"""Of a visit: never sent unencrypted to another machine, never read by a script, and not sent with
what another site posts (RFC 6265bis)."""
COOKIE_RULES = {"path": "/", "secure": True, "httponly": True, "samesite": "lax"}
_PATH = re.compile(r"/(?:cases(?:[/?][0-9A-Za-z/_.?&=%:+-]*)?)?")


class SignInNeeded(Exception):
    """Nobody has signed in who could see this page."""


@dataclass(frozen=True, kw_only=True)
class Guest:
    """Who looks at a page: an account by ``name``, None for whoever is on this machine.

    ``token`` is that of their visit; ``form`` is what each of their forms must carry, which no
    other site can know.
    """

    identity: Identity
    name: str | None
    token: str
    form: str

    def may(self, scope: str) -> bool:
        return scope in self.identity.scopes


def service_of(request: HTTPConnection) -> Service:
    """The service that the application of a request was made for."""
    service: Service = request.app.state.service
    return service


def asks_for_login(service: Service) -> bool:
    """Whether people must sign in: since there was an account, or a provider that knows some."""
    return service.settings.openid is not None or service.users.any()


def find_guest(service: Service, token: str | None) -> Guest | None:
    """Who has this cookie, or none; None when that is nobody."""
    if not asks_for_login(service):
        identity = service.keys.identify(None)
        if identity is None:
            return None
        return Guest(identity=identity, name=None, token="", form=form_of(service, "this machine"))
    visitor = service.visits.identify(token)
    if visitor is None or token is None:
        return None
    return Guest(
        identity=visitor.identity, name=visitor.name, token=token, form=form_of(service, token)
    )


async def admit(request: Request, scope: Scope = Scope.READ) -> Guest:
    """Who looks at a page that needs a scope.

    Raises ``SignInNeeded``; ``ServiceError`` when nobody can sign in yet (401), and for somebody
    who lacks the scope (403).
    """
    service = service_of(request)
    guest = await run_in_threadpool(find_guest, service, request.cookies.get(COOKIE))
    if guest is None:
        if await run_in_threadpool(asks_for_login, service):
            raise SignInNeeded
        raise ServiceError(
            "page: asks for an account, and there is none yet",
            code=Code.NO_KEY,
            hint="make one with: deepfake users add",
            status=401,
        )
    request.scope["state"]["shown"] = guest.identity.shown
    if not guest.may(scope):
        raise ServiceError(
            f"account: lacks the scope {scope}",
            code=Code.NOT_ALLOWED,
            hint="ask whoever runs the service for another role",
            status=403,
        )
    return guest


def form_of(service: Service, token: str) -> str:
    """What forms carry that are sent with this token."""
    return hmac.new(service.keys.derive("forms"), token.encode(), hashlib.sha256).hexdigest()


def check_form(sent: object, wanted: str) -> None:
    """Raise ``ServiceError`` (403) for a form that was not made for whoever sends it."""
    if not isinstance(sent, str) or not secrets.compare_digest(sent.encode(), wanted.encode()):
        raise ServiceError(
            "form: was made for another visit, or is too old",
            code=Code.NOT_ALLOWED,
            hint="go back, load the page anew and send it again",
            status=403,
        )


def text_of(form: FormData, name: str) -> str:
    """A field of a form; empty where there is none, or it is a file."""
    value = form.get(name)
    return value if isinstance(value, str) else ""


def read_next(text: str | None) -> str:
    """Where to go after signing in: a page of this service alone, whatever was asked."""
    return text if text and len(text) <= 500 and _PATH.fullmatch(text) else "/cases"


def ask_to_sign_in(path: str) -> Response:
    """The way to the page where one signs in, and from there to ``path``."""
    return RedirectResponse(f"/login?next={quote(read_next(path), safe='')}", 303)


class Door:
    """Lets through to the Gradio page, once people must sign in, those alone who have and may have
    media examined.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = await self._refuse(HTTPConnection(scope))
        await (answer or self._app)(scope, receive, send)

    async def _refuse(self, connection: HTTPConnection) -> Response | None:
        if not await run_in_threadpool(asks_for_login, self._service):
            return None
        token = connection.cookies.get(COOKIE)
        guest = await run_in_threadpool(find_guest, self._service, token)
        if guest is not None and guest.may(Scope.DETECT):
            return None
        if connection.scope["method"] != "GET" or connection.scope["path"] != "/":
            return refuse(401 if guest is None else 403, "Sign in at /login.")
        return ask_to_sign_in("/") if guest is None else RedirectResponse("/cases", 303)
