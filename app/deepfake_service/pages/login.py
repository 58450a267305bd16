"""Signing in and out."""

from __future__ import annotations

import secrets

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from deepfake.errors import ServiceError

from ..service import Service
from .access import (
    COOKIE,
    COOKIE_RULES,
    admit,
    ask_to_sign_in,
    check_form,
    find_guest,
    form_of,
    read_next,
    service_of,
    text_of,
)
from .openid import Provider
from .rendering import render


async def show_login(request: Request) -> Response:
    """The page where one signs in; somebody who has goes on."""
    service = service_of(request)
    path = read_next(request.query_params.get("next"))
    if await run_in_threadpool(find_guest, service, request.cookies.get(COOKIE)) is not None:
        return RedirectResponse(path, 303)
    return _render_login(request, path)


async def sign_in(request: Request) -> Response:
    """Begin a visit with a name and a password."""
    service = service_of(request)
    async with request.form(max_files=0, max_fields=10) as form:
        path, name = read_next(text_of(form, "next")), text_of(form, "name")
        if not request.session.get("form"):
            return _render_login(
                request,
                path,
                status=403,
                error="Your browser sends no cookie here. It needs HTTPS, except on this machine.",
            )
        check_form(form.get("form"), _form_of_stranger(request))
        try:
            account = await run_in_threadpool(
                service.users.sign_in, name, text_of(form, "password")
            )
        except ServiceError as error:
            if error.status not in (401, 429):
                raise
            return _render_login(
                request, path, status=error.status, error=_sentence(error), name=name[:254]
            )
    return await begin_visit(request, account, path)


async def sign_out(request: Request) -> Response:
    """End a visit."""
    service, guest = service_of(request), await admit(request)
    async with request.form(max_files=0, max_fields=10) as form:
        check_form(form.get("form"), guest.form)
    await run_in_threadpool(service.visits.end, guest.token)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, **COOKIE_RULES)  # type: ignore[arg-type]
    return answer


async def leave_for_provider(request: Request) -> Response:
    """Go to the provider of OpenID Connect."""
    request.session["next"] = read_next(request.query_params.get("next"))
    return await _provider(request).send_away(request)


async def return_from_provider(request: Request) -> Response:
    """Begin a visit with what the provider says."""
    service, path = service_of(request), read_next(request.session.get("next"))
    try:
        subject, email = await _provider(request).read_answer(request)
        account = await run_in_threadpool(
            lambda: service.users.sign_in_openid(subject=subject, email=email)
        )
    except ServiceError as error:
        return _render_login(request, path, status=error.status or 401, error=_sentence(error))
    return await begin_visit(request, account, path)


async def begin_visit(request: Request, account: int, path: str) -> Response:
    """Go on to ``path`` with a new token; the one before, and the stranger's form, are worth
    nothing any more (session fixation).
    """
    service = service_of(request)
    if before := request.cookies.get(COOKIE):
        await run_in_threadpool(service.visits.end, before)
    request.session.clear()
    token = await run_in_threadpool(service.visits.begin, account)
    answer = RedirectResponse(path, 303)
    answer.set_cookie(COOKIE, token, **COOKIE_RULES)  # type: ignore[arg-type]
    return answer


def _provider(request: Request) -> Provider:
    provider: Provider = request.app.state.provider
    return provider


def _render_login(
    request: Request, path: str, *, status: int = 200, error: str = "", name: str = ""
) -> Response:
    service = service_of(request)
    request.session.setdefault("form", secrets.token_urlsafe(32))
    return render(
        "login.html",
        None,
        status=status,
        path=path,
        form=_form_of_stranger(request),
        error=error,
        name=name,
        openid=_host_of(service),
    )


def _form_of_stranger(request: Request) -> str:
    return form_of(service_of(request), f"stranger {request.session.get('form', '')}")


def _host_of(service: Service) -> str:
    openid = service.settings.openid
    return "" if openid is None else openid.issuer.split("/")[2]


def _sentence(error: ServiceError) -> str:
    text = str(error).partition(": ")[2]
    return f"{text[:1].upper()}{text[1:]}."


def signed_out(request: Request, error: Exception) -> Response:
    """The handler of ``SignInNeeded``."""
    path = request.url.path if request.method == "GET" else "/cases"
    query = f"?{request.url.query}" if request.url.query and request.method == "GET" else ""
    return ask_to_sign_in(path + query)
