"""Errors as problem details (RFC 9457): our code, what it means, and what to do."""

from __future__ import annotations

import http
import json
import logging
import math
from typing import Any

from deepfake_app.failures import word_error
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from deepfake.errors import (
    BackendError,
    Cancelled,
    DeepfakeError,
    InternalError,
    MediaError,
    ModelError,
    ServiceError,
    SettingsError,
    TimeLimit,
)
from deepfake.reasons import Code, find_code
from deepfake.text import printable

LOG = logging.getLogger("deepfake_service")
MEDIA_TYPE = "application/problem+json"
MOST_DETAIL_CHARACTERS = 600
STATUS_OF_CODES: dict[str, int] = {Code.TOO_LARGE: 413, Code.NO_ROOM: 507, Code.NOT_SENT: 400}
STATUS_OF_TYPES: tuple[tuple[type[DeepfakeError], int], ...] = (
    (MediaError, 422),
    (TimeLimit, 422),
    (Cancelled, 409),
    (SettingsError, 422),
    (ModelError, 503),
    (BackendError, 503),
    (DeepfakeError, 500),
)
CODE_OF_STATUS = {
    401: Code.NO_KEY,
    403: Code.NOT_ALLOWED,
    404: Code.NOTHING_HERE,
    408: Code.NOT_SENT,
    413: Code.TOO_LARGE,
    415: Code.WRONG_TYPE,
}


class Fault(BaseModel):
    """One value of a request that does not fit."""

    where: str = Field(description="such as query.prior", examples=["query.prior"])
    why: str = Field(examples=["Input should be less than or equal to 0.9999"])


class Problem(BaseModel):
    """What went wrong (RFC 9457), for a program and for a person."""

    type: str = Field(examples=[f"urn:deepfake:problem:{Code.TOO_LARGE}"])
    title: str = Field(description="what the code means")
    status: int = Field(examples=[413], ge=400, le=599)
    detail: str = Field(description="what happened to this request")
    code: str = Field(description="a row of `deepfake explain`", examples=[str(Code.TOO_LARGE)])
    remedy: str = Field(description="what to do")
    instance: str = Field(description="the id of the request, which the log has too")
    errors: list[Fault] = Field(default=[], description="values that do not fit")


def problem_of(error: DeepfakeError, *, request_id: str) -> Problem:
    """The problem that an error is. Of what is wrong with the service, the log has the rest."""
    code: Code | str = error.code
    known = find_code(str(code)) or Code.ERROR
    remedy = error.hint or known.remedy
    detail = word_error(error).removesuffix(f"; {error.hint}") if error.hint else str(error)
    if isinstance(error, InternalError):
        detail = f"the service made a mistake; in its log it has the id {error.fault_id}"
        remedy = "tell whoever runs the service that id"
    elif isinstance(error, ModelError | BackendError):
        LOG.error("service: %s", printable(str(error), most=MOST_DETAIL_CHARACTERS))
        detail, remedy = "the service lacks a model or a runtime", "tell whoever runs the service"
    return Problem(
        type=f"urn:deepfake:problem:{code}",
        title=known.meaning,
        status=status_of(error),
        detail=printable(detail, most=MOST_DETAIL_CHARACTERS),
        code=str(code),
        remedy=printable(remedy, most=MOST_DETAIL_CHARACTERS),
        instance=f"urn:deepfake:request:{request_id}",
    )


def status_of(error: DeepfakeError) -> int:
    """The status of HTTP that an error stands for."""
    if isinstance(error, ServiceError):
        return error.status or 502
    by_code = STATUS_OF_CODES.get(str(error.code))
    return by_code or next(status for kind, status in STATUS_OF_TYPES if isinstance(error, kind))


def answer_problem(
    error: DeepfakeError, *, request_id: str, faults: list[Fault] | None = None
) -> Response:
    """The answer to a request that ended in an error."""
    problem = problem_of(error, request_id=request_id)
    if faults:
        problem = problem.model_copy(update={"errors": faults})
    headers = {}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, ServiceError) and error.retry_seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_seconds)))
    return Response(
        json.dumps(problem.model_dump(exclude_defaults=True), ensure_ascii=False),
        status_code=problem.status,
        headers=headers,
        media_type=MEDIA_TYPE,
    )


def _answer_to(
    request: Request, error: DeepfakeError, *, faults: list[Fault] | None = None
) -> Response:
    """The answer to a request, which :class:`Requests` has given an id; it counts the code."""
    state = request.scope["state"]
    state["code"] = str(error.code)
    return answer_problem(error, request_id=str(state["request_id"]), faults=faults)


async def handle_error(request: Request, error: Exception) -> Response:
    """The handler of every ``DeepfakeError``."""
    assert isinstance(error, DeepfakeError)
    return _answer_to(request, error)


async def handle_http(request: Request, error: Exception) -> Response:
    """The handler of what the framework refuses: no such address, no such method, a slow body."""
    assert isinstance(error, HTTPException)
    code = CODE_OF_STATUS.get(error.status_code, Code.BAD_REQUEST)
    phrase = http.HTTPStatus(error.status_code).phrase
    refused = ServiceError(
        f"request: {str(error.detail or phrase).rstrip('.')}", code=code, status=error.status_code
    )
    answer = _answer_to(request, refused)
    answer.headers.update(error.headers or {})
    return answer


async def handle_faults(request: Request, error: Exception) -> Response:
    """The handler of parameters and bodies that do not fit their description."""
    assert isinstance(error, RequestValidationError)
    faults = [_fault(item) for item in error.errors()[:20]]
    first = faults[0] if faults else Fault(where="request", why="does not fit")
    refused = ServiceError(
        f"request: {first.where}: {first.why}", code=Code.BAD_REQUEST, status=422
    )
    return _answer_to(request, refused, faults=faults)


def _fault(item: Any) -> Fault:
    where = ".".join(printable(str(part), most=60) for part in item.get("loc", ()))
    return Fault(where=where, why=printable(str(item.get("msg", "")), most=200))
