"""The pages as an ASGI application."""

from __future__ import annotations

from deepfake_app.address import Names
from deepfake_app.patience import MULTIPART_BYTES, BodyLimits
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deepfake.errors import DeepfakeError, ServiceError
from deepfake.reasons import Code

from ..problems import CODE_OF_STATUS, problem_of
from ..service import Service
from ..web.requests import Requests
from . import cases, login, uploading
from .access import SignInNeeded
from .openid import RETURN_PATH, Provider
from .rendering import HEADERS, read_script, read_style, render

PREFIXES = ("/cases", "/login", "/logout")
"""Whose addresses are this application's."""
STRANGER_COOKIE = "__Host-deepfake-form"
STRANGER_SECONDS = 3600


def make_pages(service: Service, names: Names) -> Starlette:
    """The application over a service; it answers under ``names`` alone."""
    limits, openid = service.settings.limits, service.settings.openid
    most = limits.disk_bytes + service.settings.batch_files * MULTIPART_BYTES
    routes = [
        Route("/login", login.show_login, methods=["GET"]),
        Route("/login", login.sign_in, methods=["POST"]),
        Route("/logout", login.sign_out, methods=["POST"]),
        Route("/cases", cases.show_history),
        Route("/cases/export.csv", cases.export_csv),
        Route("/cases/export.pdf", cases.export_pdf),
        Route("/cases/precision", cases.show_precision),
        Route("/cases/metrics", cases.show_metrics),
        Route("/cases/compare", cases.compare),
        Route("/cases/batches", cases.show_batches, methods=["GET"]),
        Route("/cases/batches", uploading.add_batch, methods=["POST"]),
        Route("/cases/batches/{batch}", cases.show_batch),
        Route("/cases/reports/{report}", cases.show_report),
        Route("/cases/reports/{report}/rulings", cases.rule, methods=["POST"]),
        Route("/cases/thumbnails/{report}", cases.show_thumbnail),
        Route("/cases/pages.css", _style),
        Route("/cases/pages.js", _script),
    ]
    if openid is not None:
        routes += [
            Route("/login/openid", login.leave_for_provider),
            Route(RETURN_PATH, login.return_from_provider),
        ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            SignInNeeded: login.signed_out,
            DeepfakeError: _handle_error,
            HTTPException: _handle_http,
        },
        middleware=[
            Middleware(
                Requests,
                names=names,
                metrics=service.metrics,
                tracing=service.tracing,
                headers=HEADERS,
            ),
            Middleware(BodyLimits, limits=limits, uploads={"/cases/batches": most}),
            Middleware(
                SessionMiddleware,
                secret_key=service.keys.derive("strangers").hex(),
                session_cookie=STRANGER_COOKIE,
                max_age=STRANGER_SECONDS,
                same_site="lax",
                https_only=True,
            ),
        ],
    )
    app.router.redirect_slashes = False
    app.state.service = service
    app.state.provider = None if openid is None else Provider(openid)
    return app


async def _style(request: Request) -> Response:
    return Response(read_style(), media_type="text/css")


async def _script(request: Request) -> Response:
    return Response(read_script(), media_type="text/javascript")


def _handle_error(request: Request, error: Exception) -> Response:
    """What is wrong, as a page."""
    if not isinstance(error, DeepfakeError):
        raise error
    problem = problem_of(error, request_id=request.scope["state"]["request_id"])
    headers = {}
    if isinstance(error, ServiceError) and error.retry_seconds is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_seconds)))
    return render("message.html", None, status=problem.status, headers=headers, problem=problem)


def _handle_http(request: Request, error: Exception) -> Response:
    """What the framework refuses, as a page."""
    if not isinstance(error, HTTPException):
        raise error
    code = CODE_OF_STATUS.get(error.status_code, Code.BAD_REQUEST)
    return _handle_error(
        request, ServiceError(f"request: {error.detail}", code=code, status=error.status_code)
    )
