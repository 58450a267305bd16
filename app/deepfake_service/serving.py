"""The interface and the page on one port of this machine."""

from __future__ import annotations

import contextlib
import http
import sys
from collections.abc import Iterable, Iterator, Sequence

import h11
from deepfake_app import server as page_server
from deepfake_app.address import Names, is_loopback, open_listener, url_of, warn_of
from deepfake_app.patience import PatientProtocol
from starlette.types import ASGIApp, Receive, Scope, Send

from deepfake.detector import Detector

from . import check_binding, has_users
from . import service as services
from .monitoring.logs import logging_json
from .pages import application as pages
from .pages.access import Door
from .problems import MEDIA_TYPE
from .settings import ServiceSettings
from .web import application as interface
from .web.requests import bad_head

MENU = '<nav class="df-menu"><a href="/cases">Cases</a></nav>'
"""What the page has above itself."""


def serve(
    detector: Detector,
    *,
    host: str,
    port: int,
    public: bool,
    allowed_hosts: Iterable[str],
    settings: ServiceSettings,
) -> None:
    """See :func:`deepfake_service.serve`."""
    run = running(
        detector,
        host=host,
        port=port,
        public=public,
        allowed_hosts=allowed_hosts,
        settings=settings,
    )
    with run as address:
        sign_in = has_users(settings)
        sys.stderr.write(warn_of(host) if public and not sign_in else "")
        page = is_loopback(host) or public or sign_in
        greeting = f"The page is open at {address}, the interface" if page else "The interface is"
        page_server.wait_for_the_end(f"{greeting} at {address}v1 (Ctrl-C ends it)\n")


@contextlib.contextmanager
def running(
    detector: Detector,
    *,
    host: str,
    port: int,
    public: bool = False,
    allowed_hosts: Iterable[str] = (),
    settings: ServiceSettings | None = None,
) -> Iterator[str]:
    """The address of the service while it is served from a background thread.

    The page is there on this machine alone unless people sign in to it, or it is ``public``. Raises
    ``SettingsError`` as :func:`check_binding`, and when the address or the folder cannot be used.
    """
    settings = settings or ServiceSettings()
    check_binding(host, port, settings=settings)
    names = Names(host, allowed=allowed_hosts, public=not is_loopback(host))
    with contextlib.ExitStack() as stack:
        if settings.log_json:
            stack.enter_context(logging_json(names=settings.log_names))
        listener = stack.enter_context(open_listener(host, port, public=not is_loopback(host)))
        service = stack.enter_context(services.opened(detector, settings))
        parts: list[tuple[tuple[str, ...], ASGIApp]] = [
            (interface.PREFIXES, interface.make_app(service, names))
        ]
        page = None
        if public or is_loopback(host) or service.users.any_active():
            parts.append((pages.PREFIXES, pages.make_pages(service, names)))
            page = stack.enter_context(
                page_server.opened(
                    service.detector,
                    names=names,
                    limits=settings.limits,
                    menu=MENU,
                    told=service.audit.note_page,
                )
            )
            parts.append((("",), Door(page, service)))
        app = Beside(parts)

        def end() -> None:
            service.examiner.stop()
            if page is not None:
                page_server.end_page(page)

        stack.enter_context(
            page_server.served(
                app, listener, limits=settings.limits, ending=end, protocol=ProblemProtocol
            )
        )
        yield url_of(listener)


class Beside:
    """Applications under the addresses that begin with the names of each; the first that fits
    answers, and else the first of all, that there is nothing.
    """

    def __init__(self, parts: Sequence[tuple[Sequence[str], ASGIApp]]) -> None:
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        for prefixes, app in self._parts:
            if any(path == prefix or path.startswith(f"{prefix}/") for prefix in prefixes):
                await app(scope, receive, send)
                return
        await self._parts[0][1](scope, receive, send)


class ProblemProtocol(PatientProtocol):
    """Answers to what is not HTTP, or has too long a head, with a problem as well."""

    def send_400_response(self, msg: str) -> None:
        body = bad_head()
        head = h11.Response(
            status_code=400,
            headers=[
                (b"content-type", MEDIA_TYPE.encode()),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ],
            reason=http.HTTPStatus.BAD_REQUEST.phrase.encode(),
        )
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
