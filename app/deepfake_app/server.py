"""The page on a port of this machine, with its own folder for uploads."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from socket import socket
from types import FrameType

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from deepfake.detector import Detector
from deepfake.errors import BackendError

from .address import Names, check_address, open_listener, url_of, warn_of
from .examination import Told, nobody_told
from .guards import OnlyNeeded, SafeHeaders, SameSite
from .limits import PageLimits
from .page import build
from .patience import UPLOADS, BodyLimits, PatientProtocol
from .receiver import Receiver
from .requests import UploadsOfRequests
from .samples import serve_samples
from .stops import Stops
from .storage import Uploads
from .temporary import private_folder
from .tidy import keep_tidy

START_SECONDS, STOP_SECONDS = 30, 5
MOST_HEAD_BYTES = 32 * 1024


def serve(
    detector: Detector,
    *,
    host: str,
    port: int,
    public: bool,
    allowed_hosts: Iterable[str],
    limits: PageLimits,
) -> None:
    """See :func:`app.serve`."""
    page = running(
        detector, host=host, port=port, public=public, allowed_hosts=allowed_hosts, limits=limits
    )
    check_address(host, port, public=public)
    sys.stderr.write(warn_of(host))
    with page as address:
        wait_for_the_end(f"The page is open at {address} (Ctrl-C ends it)\n")


def wait_for_the_end(greeting: str) -> None:
    """Say that the server is open, and wait for Ctrl-C or SIGTERM."""
    stop = threading.Event()
    with _stopping_on_sigterm(stop), contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(greeting)
        sys.stdout.flush()
        stop.wait()


@contextlib.contextmanager
def running(
    detector: Detector,
    *,
    host: str,
    port: int,
    public: bool = False,
    allowed_hosts: Iterable[str] = (),
    limits: PageLimits | None = None,
) -> Iterator[str]:
    """The address of the page while it is served from a background thread.

    Uploads lie in a folder that only this user can read and that is gone afterwards. Raises
    ``SettingsError`` when the address cannot be used.
    """
    limits = limits or PageLimits(
        upload_bytes=min(PageLimits().upload_bytes, detector.settings.limits.file_bytes)
    )
    names = Names(host, allowed=allowed_hosts, public=public)
    with (
        open_listener(host, port, public=public) as listener,
        opened(detector, names=names, limits=limits) as app,
        served(app, listener, limits=limits, ending=lambda: end_page(app)),
    ):
        yield url_of(listener)


@contextlib.contextmanager
def opened(
    detector: Detector,
    *,
    names: Names,
    limits: PageLimits,
    menu: str = "",
    told: Told = nobody_told,
) -> Iterator[FastAPI]:
    """The page as an application with a folder for its uploads, gone at the end of the block.
    ``menu`` is HTML that stands above it; ``told`` is called with what examinations come to.
    """
    with private_folder() as folder, _gradio_folder(folder), keep_tidy():
        uploads = Uploads(folder, limits)
        with _swept(uploads, limits):
            yield make_app(
                detector, uploads=uploads, names=names, limits=limits, menu=menu, told=told
            )


def end_page(app: FastAPI) -> None:
    """End what visitors of the page have in work, before its server is stopped."""
    app.state.stops.stop_all()
    app.state.page.close(verbose=False)


def make_app(
    detector: Detector,
    *,
    uploads: Uploads,
    names: Names,
    limits: PageLimits,
    menu: str = "",
    told: Told = nobody_told,
) -> FastAPI:
    """The page as an ASGI application, in which another service can be mounted beside it.

    gradio's folder (``GRADIO_TEMP_DIR``) must be that of ``uploads``.
    """
    app = FastAPI(
        docs_url=None, redoc_url=None, openapi_url=None, middleware=guards(uploads, names, limits)
    )
    app.add_route(UPLOADS, Receiver(uploads).receive, methods=["POST"])
    app.add_route("/examples/{name}", serve_samples, methods=["GET"])
    stops = app.state.stops = Stops()
    page = app.state.page = build(
        detector, uploads=uploads, stops=stops, limits=limits, menu=menu, told=told
    )
    closed = {"docs_url": None, "redoc_url": None, "openapi_url": None}
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        app_kwargs=closed,
        show_error=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
        theme=_theme(),
    )
    page.has_launched = page.is_running = True  # else gradio checks no path that it is given
    return app


def guards(uploads: Uploads, names: Names, limits: PageLimits) -> list[Middleware]:
    """What every request passes, from the outside in."""
    return [
        Middleware(SafeHeaders),
        Middleware(SameSite, names=names),
        Middleware(OnlyNeeded),
        Middleware(BodyLimits, limits=limits),
        Middleware(UploadsOfRequests, uploads=uploads),
    ]


@contextlib.contextmanager
def served(
    app: ASGIApp,
    listener: socket,
    *,
    limits: PageLimits,
    ending: Callable[[], None],
    protocol: type[PatientProtocol] = PatientProtocol,
) -> Iterator[None]:
    """Serve ``app`` from a thread until the end of the block, where ``ending`` is called first."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=type("Protocol", (protocol,), {"limits": limits}),
            ws="none",
            access_log=False,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=MOST_HEAD_BYTES,
            limit_concurrency=limits.requests,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
        )
    )
    thread = threading.Thread(target=server.run, args=([listener],), name="page", daemon=True)
    thread.start()
    try:
        _await_start(server, thread)
        yield
    finally:
        ending()
        server.should_exit = True
        thread.join(timeout=STOP_SECONDS)


@contextlib.contextmanager
def _swept(uploads: Uploads, limits: PageLimits) -> Iterator[None]:
    """Delete abandoned uploads from time to time until the end of the block."""
    end = threading.Event()

    def sweep() -> None:
        while not end.wait(min(60.0, limits.abandoned_seconds / 2)):
            uploads.sweep()

    thread = threading.Thread(target=sweep, name="sweeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    until = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > until:
            raise BackendError("page: its server did not start", hint="see the messages above")
        time.sleep(0.005)


def _theme() -> gr.themes.Base:
    """Fonts of the reader's own system, and buttons that are legible in both modes."""
    return gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_cancel_background_fill="#b3261e",
        button_cancel_background_fill_hover="#8c1d18",
        button_cancel_background_fill_dark="#b3261e",
        button_cancel_background_fill_hover_dark="#8c1d18",
        button_cancel_text_color="#ffffff",
        button_cancel_text_color_hover="#ffffff",
        button_cancel_text_color_dark="#ffffff",
        button_cancel_text_color_hover_dark="#ffffff",
    )


@contextlib.contextmanager
def _gradio_folder(folder: Path) -> Iterator[None]:
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before


@contextlib.contextmanager
def _stopping_on_sigterm(stop: threading.Event) -> Iterator[None]:
    """So that uploads are deleted when a service manager ends the process as well."""

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
