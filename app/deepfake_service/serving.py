"""The interface and the page on one port of this machine."""

from __future__ import annotations

import contextlib
import http
import sys
from collections.abc import Iterable, Iterator

import h11
from deepfake_app import server as page_server
from deepfake_app.address import Names, is_loopback, open_listener, url_of, warn_of
from deepfake_app.patience import PatientProtocol
from starlette.types import ASGIApp, Receive, Scope, Send

from deepfake.detector import Detector

from . import check_binding
from . import service as services
from .monitoring.logs import logging_json
from .problems import MEDIA_TYPE
from .settings import ServiceSettings
from .web.application import PREFIXES, make_app
from .web.requests import bad_head


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
        page = is_loopback(host) or public
        sys.stderr.write(warn_of(host) if public else "")
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

    The page, which asks nobody for a key, is there on this machine alone unless it is ``public``.
    Raises ``SettingsError`` as :func:`check_binding`, and when the address or the folder cannot be
    used.
    """
    settings = settings or ServiceSettings()
    check_binding(host, port, settings=settings)
    names = Names(host, allowed=allowed_hosts, public=not is_loopback(host))
    with contextlib.ExitStack() as stack:
        if settings.log_json:
            stack.enter_context(logging_json(names=settings.log_names))
        listener = stack.enter_context(open_listener(host, port, public=not is_loopback(host)))
        service = stack.enter_context(services.opened(detector, settings))
        app: ASGIApp = make_app(service, names)
        page = None
        if public or is_loopback(host):
            page = stack.enter_context(
                page_server.opened(service.detector, names=names, limits=settings.limits)
            )
            app = Beside(app, page)

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
    """The interface under its addresses, and the page under all others."""

    def __init__(self, interface: ASGIApp, page: ASGIApp) -> None:
        self._interface, self._page = interface, page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        ours = any(path == prefix or path.startswith(f"{prefix}/") for prefix in PREFIXES)
        await (self._interface if ours else self._page)(scope, receive, send)


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
