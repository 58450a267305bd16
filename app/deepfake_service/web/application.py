"""The interface as an ASGI application, and its description."""

from __future__ import annotations

from typing import Any

from deepfake_app.address import Names
from deepfake_app.patience import MULTIPART_BYTES, BodyLimits
from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from deepfake.errors import DeepfakeError
from deepfake.reasons import Code
from deepfake.version import VERSION

from ..problems import (
    MEDIA_TYPE,
    Fault,
    Problem,
    handle_error,
    handle_faults,
    handle_http,
)
from ..service import Service
from . import detection, jobs, monitor, reports, status, webhooks
from .access import refuse_unknown
from .requests import Requests
from .shapes import MediaAddress

PREFIXES = ("/v1", "/healthz", "/readyz", "/metrics", "/monitor")
"""Whose addresses are this application's; the others are the page's."""
DESCRIPTION = """\
How likely is it that a generative model made or altered a picture, a recording or a video, on what
evidence, and is that evidence enough to say so? Errors are problem details (RFC 9457)."""
ERRORS = {
    400: Code.BAD_REQUEST,
    401: Code.NO_KEY,
    403: Code.NOT_ALLOWED,
    404: Code.NOTHING_HERE,
    408: Code.NOT_SENT,
    409: Code.CONFLICT,
    413: Code.TOO_LARGE,
    415: Code.WRONG_TYPE,
    422: Code.UNSUPPORTED,
    429: Code.RATE_LIMITED,
    500: Code.INTERNAL,
    503: Code.BUSY,
    507: Code.NO_ROOM,
}
"""The statuses of errors, with a code that stands for each in the description."""


def make_app(service: Service, names: Names) -> FastAPI:
    """The application over a service; it answers under ``names`` alone."""
    limits = service.settings.limits
    one = limits.upload_bytes + MULTIPART_BYTES
    uploads = {
        "/v1/detect": one,
        "/v1/jobs": one,
        "/v1/batches": limits.disk_bytes + service.settings.batch_files * MULTIPART_BYTES,
    }
    app = FastAPI(
        title="Deepfake",
        version=VERSION,
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_url="/v1/openapi.json",
        docs_url=None,  # they load from elsewhere
        redoc_url=None,
        responses={status: _describe(status, code) for status, code in ERRORS.items()},
        dependencies=[Depends(refuse_unknown)],
        exception_handlers={
            DeepfakeError: handle_error,
            HTTPException: handle_http,
            RequestValidationError: handle_faults,
        },
        middleware=[
            Middleware(Requests, names=names, metrics=service.metrics, tracing=service.tracing),
            Middleware(BodyLimits, limits=limits, uploads=uploads),
        ],
        redirect_slashes=False,
    )
    app.state.service = service
    for part in (detection, jobs, monitor, reports, status, webhooks):
        app.include_router(part.router)
    app.openapi = lambda: _with_problems(app)  # type: ignore[method-assign]
    return app


def _describe(status: int, code: Code) -> dict[str, Any]:
    """An error as OpenAPI describes it, with an example."""
    example = Problem(
        type=f"urn:deepfake:problem:{code}",
        title=code.meaning,
        status=status,
        detail="request: what is wrong with this one",
        code=code,
        remedy=code.remedy,
        instance="urn:deepfake:request:3f2b8c1e",
    )
    return {
        "description": code.meaning,
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": example.model_dump(exclude_defaults=True),
            }
        },
    }


def _with_problems(app: FastAPI) -> dict[str, Any]:
    """The description of the interface, which names the form of its errors."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    schema = FastAPI.openapi(app)
    for shape in (Problem, Fault, MediaAddress):
        said = shape.model_json_schema(ref_template="#/components/schemas/{model}")
        said.pop("$defs", None)
        schema["components"]["schemas"][shape.__name__] = said
    return schema
