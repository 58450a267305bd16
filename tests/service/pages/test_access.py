"""The Gradio page behind the door: open as long as nobody signs in, then to those who may."""

from __future__ import annotations

from deepfake_service.pages.access import Door
from deepfake_service.service import Service
from deepfake_service.store.users import Role
from starlette.responses import PlainTextResponse

from tests.service.pages.visiting import Browser, enter


def at_the_door(service: Service, guest: Browser | None = None) -> Browser:
    """A browser that asks for the page, with the cookies of somebody."""
    browser = Browser(service, Door(PlainTextResponse("the page"), service))
    if guest is not None:
        browser.cookies = guest.cookies
    return browser


def test_the_page_is_open_until_there_is_an_account(service: Service) -> None:
    assert at_the_door(service).get("/").text == "the page"
    service.keys.create(tenant="shop")
    assert at_the_door(service).get("/").text == "the page"  # it is nobody else's then
    anna = enter(service, "anna", role=Role.EXAMINER)
    stranger = at_the_door(service)
    answer = stranger.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2F")
    for method, path in (
        ("POST", "/"),
        ("POST", "/gradio_api/upload"),
        ("GET", "/gradio_api/queue/data"),
        ("GET", "/config"),
        ("GET", "/examples/photo"),
    ):
        answer = stranger.ask(method, path)
        assert answer.status_code == 401, path
        assert answer.headers["connection"] == "close"
        assert at_the_door(service, anna).ask(method, path).text == "the page"
    service.users.disable("anna")
    assert at_the_door(service, anna).get("/").status_code == 303


def test_a_reader_examines_nothing(service: Service) -> None:
    reader = at_the_door(service, enter(service, "reader", role=Role.READER))
    assert reader.get("/").headers["location"] == "/cases"
    assert reader.ask("POST", "/gradio_api/upload").status_code == 403
