"""Who asks, and whether they may."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from deepfake.errors import ServiceError
from deepfake.reasons import Code

from ..service import Service
from ..store.keys import Identity, Scope

_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="An API key. As long as the service has none, requests of this machine need none.",
)


async def service_of(request: Request) -> Service:
    """The service that the application of a request was made for. Like the other dependencies it
    is no plain function, because the framework would call that in a thread.
    """
    service: Service = request.app.state.service
    return service


ServiceHere = Annotated[Service, Depends(service_of)]


async def refuse_unknown(request: Request) -> None:
    """The dependency of every endpoint that refuses a query that its description does not name,
    so that a slip of the pen is no option that is silently left out.
    """
    path = request.app.openapi()["paths"][request.scope["route"].path]
    parameters = path[request.method.lower()].get("parameters", ())
    known = {it["name"] for it in parameters if it["in"] == "query"}
    for name in request.query_params:
        if name not in known:
            raise ServiceError(
                f"query {name!r}: is no parameter of this address",
                hint=f"choose some of {', '.join(sorted(known))}" if known else "leave it away",
                status=422,
            )


class Allowed:
    """The dependency of an endpoint that needs a scope, or just a key where there is none.

    Raises ``ServiceError``: ``no_key`` (401), ``not_allowed`` (403), ``rate_limited`` (429).
    """

    def __init__(self, scope: Scope | None = None) -> None:
        self._scope = scope

    async def __call__(
        self,
        request: Request,
        service: ServiceHere,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
    ) -> Identity:
        sent = credentials.credentials if credentials else None
        if sent is None and "authorization" in request.headers:
            sent = ""  # which is no key
        identity = await run_in_threadpool(service.identify, sent)
        if identity is None:
            raise ServiceError(
                "request: carries no valid key",
                code=Code.NO_KEY,
                hint="send one as Authorization: Bearer KEY",
                status=401,
            )
        request.scope["state"]["shown"] = identity.shown
        if identity.allowance.rate is not None:
            await self._count(request, service, identity)
        if self._scope is not None and self._scope not in identity.scopes:
            raise ServiceError(
                f"key: lacks the scope {self._scope}",
                code=Code.NOT_ALLOWED,
                hint=f"ask for a key with the scope {self._scope}",
                status=403,
            )
        return identity

    @staticmethod
    async def _count(request: Request, service: Service, identity: Identity) -> None:
        """Count a request of a key with a rate; raises ``ServiceError`` when it is one too many."""
        allowed, rate = await run_in_threadpool(service.rates.hit, identity)
        if rate is None:
            return
        request.scope["state"]["rate_headers"] = rate.headers
        if not allowed:
            raise ServiceError(
                f"key: may send {rate.most} requests in {rate.window_seconds} s",
                code=Code.RATE_LIMITED,
                hint=f"wait {max(1, math.ceil(rate.reset_seconds))} s",
                status=429,
                retry_seconds=rate.reset_seconds,
            )


AnyKey = Annotated[Identity, Depends(Allowed())]
MayDetect = Annotated[Identity, Depends(Allowed(Scope.DETECT))]
MayRead = Annotated[Identity, Depends(Allowed(Scope.READ))]
MayRule = Annotated[Identity, Depends(Allowed(Scope.FEEDBACK))]
MayTell = Annotated[Identity, Depends(Allowed(Scope.WEBHOOKS))]
MayMeasure = Annotated[Identity, Depends(Allowed(Scope.ADMIN))]
