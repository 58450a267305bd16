"""The page on a port of this machine, with its own folder for uploads."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from types import FrameType

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deepfake.detector import Detector
from deepfake.errors import SettingsError

from .page import build
from .tidy import keep_tidy

MOST_UPLOAD_BYTES = 512 * 1024**2
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' "
    "'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""gradio builds its components from inline scripts and ``Function``; nothing may be fetched from,
or sent to, another machine."""


def serve(detector: Detector, *, host: str, port: int) -> None:
    """See :func:`app.serve`."""
    stop = threading.Event()
    with running(detector, host=host, port=port) as address, _stopping_on_sigterm(stop):
        sys.stdout.write(f"The page is open at {address} (Ctrl-C ends it)\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            stop.wait()


@contextlib.contextmanager
def running(detector: Detector, *, host: str, port: int) -> Iterator[str]:
    """The address of the page while it is served from a background thread.

    Uploads lie in a folder that only this user can read and that is gone afterwards. Raises
    ``SettingsError`` when the address cannot be used.
    """
    port = _free_port(host, port)
    with (
        tempfile.TemporaryDirectory(prefix="deepfake-") as folder,
        _upload_folder(folder),
        keep_tidy(),
    ):
        page = build(detector)
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                show_error=False,
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                mcp_server=False,
                ssr_mode=False,
                pwa=False,
                max_file_size=min(detector.settings.limits.file_bytes, MOST_UPLOAD_BYTES),
                theme=_theme(),
                app_kwargs={
                    "middleware": [Middleware(SafeHeaders)],
                    "docs_url": None,
                    "redoc_url": None,
                    "openapi_url": None,
                },
            )
            yield address
        finally:
            page.close(verbose=False)


def _free_port(host: str, port: int) -> int:
    """``port``, or a free one for 0. gradio's own check only looks at the loopback address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            return int(listener.getsockname()[1])
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"address {host}:{port}: cannot be used ({error})",
            hint="choose another --host or --port",
        ) from error


def _theme() -> gr.themes.Base:
    """Fonts of the reader's own system, and a button that is legible in both modes."""
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
    )


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


@contextlib.contextmanager
def _upload_folder(folder: str) -> Iterator[None]:
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = folder
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
