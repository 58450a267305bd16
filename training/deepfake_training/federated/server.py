"""The server of a federation: two routes over TLS, on which a site is who its certificate says."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from deepfake.errors import SettingsError
from deepfake.text import printable

from .certificates import name_of
from .federation import Federation
from .terms import DONE, RefusedUpdate

PEER = "deepfake.peer"
KEEP_ALIVE_SECONDS = 30
AFTER_SECONDS = 20.0
"""How long the server answers after the last round, so that sites can fetch the head."""


class KnownPeers(H11Protocol):
    """Puts the name in a peer's certificate, which TLS has verified, where the routes see it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        session = transport.get_extra_info("ssl_object")
        peer = name_of(session.getpeercert()) if session else None
        routes = self.app

        async def known(scope: Any, receive: Any, send: Any) -> None:
            await routes({**scope, PEER: peer}, receive, send)

        self.app = known


def make_routes(federation: Federation, told: Callable[[str], None]) -> Starlette:
    """``GET /v1/terms`` and ``/v1/task``, ``PUT /v1/updates/ROUND``."""
    ended: set[str] = set()

    def peer(request: Request) -> str:
        name = request.scope.get(PEER)
        if name not in federation.sites:
            raise RefusedUpdate(f"site {printable(str(name), most=64)!r}: takes no part here")
        return str(name)

    async def terms(request: Request) -> Response:
        peer(request)
        return Response(msgspec.json.encode(federation.terms), media_type="application/json")

    async def task(request: Request) -> Response:
        site = peer(request)
        body = federation.task(site)
        if federation.phase == DONE:
            ended.add(site)
        headers = {"x-round": str(federation.round), "x-phase": federation.phase}
        if body is None:
            return Response(status_code=204, headers=headers)
        return Response(body, media_type="application/octet-stream", headers=headers)

    async def update(request: Request) -> Response:
        site, number = peer(request), int(request.path_params["round"])
        before = federation.round
        federation.receive(site, number, await _read(request, federation.terms.most_bytes))
        if federation.round > before:
            told(f"round {before} of {federation.terms.rounds} ended")
        return Response(status_code=204)

    async def refuse(request: Request, error: Exception) -> Response:
        name = printable(str(request.scope.get(PEER)), most=64)
        told(f"refused {name}: {printable(str(error), most=200)}")
        return PlainTextResponse(str(error), status_code=409)

    routes = Starlette(
        routes=[
            Route("/v1/terms", terms),
            Route("/v1/task", task),
            Route("/v1/updates/{round:int}", update, methods=["PUT"]),
        ],
        exception_handlers={RefusedUpdate: refuse},
    )
    routes.state.ended = ended
    return routes


async def _read(request: Request, most: int) -> bytes:
    """The body, of which never more than ``most`` bytes are kept."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise RefusedUpdate(f"body: is longer than {most} bytes")
        parts.append(part)
    return b"".join(parts)


def serve(
    federation: Federation,
    *,
    host: str,
    port: int,
    context: ssl.SSLContext,
    told: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
    ready: Callable[[int], None] = lambda port: None,
) -> None:
    """Serve until the last round has ended and every site has its head, or ``AFTER_SECONDS`` after
    it. Raises ``SettingsError`` for an address that cannot be used, and ``KeyboardInterrupt``.
    """
    routes = make_routes(federation, told)
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise SettingsError(
            f"address {host}:{port}: cannot be used ({error.strerror})", hint="choose another port"
        ) from error
    config = uvicorn.Config(
        routes,
        http=KnownPeers,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        limit_concurrency=4 * len(federation.sites) + 8,
        h11_max_incomplete_event_size=16384,
        ssl_context_factory=lambda _config, _default: context,
    )
    server = uvicorn.Server(config)

    async def run() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        ready(listener.getsockname()[1])
        left = AFTER_SECONDS
        while not serving.done():
            await asyncio.sleep(0.1)
            before = federation.round
            federation.close_late_round()
            if federation.round > before:
                told(f"round {before} of {federation.terms.rounds} ended without all sites")
            if federation.phase == DONE:
                left -= 0.1
                if left <= 0 or routes.state.ended.issuperset(federation.sites):
                    server.should_exit = True
        await serving

    with listener:
        asyncio.run(run())
    if federation.phase != DONE:
        raise KeyboardInterrupt
