"""A browser without a screen: pages asked for over HTTPS, with cookies, without a port."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

import httpx
from deepfake_app.address import Names
from deepfake_service.pages.application import make_pages
from deepfake_service.service import Service
from deepfake_service.store.keys import Identity
from deepfake_service.store.users import Role
from deepfake_service.store.visits import Visitor

from deepfake.types import Report, Verdict
from tests.reports import make_evidence, make_report

ADDRESS = "https://127.0.0.1"
PASSWORD = "correct horse battery"
_FORM = re.compile(r'(?:name="form" value="|\?form=)([0-9a-f]{64})"')


class Browser:
    """Somebody who looks at the pages of a service."""

    def __init__(self, service: Service, app: Any = None) -> None:
        self.service = service
        self.app = app or make_pages(service, Names("127.0.0.1"))
        self.cookies = httpx.Cookies()

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url=ADDRESS, cookies=self.cookies, timeout=60
            ) as client:
                answer = await client.request(method, path, **request)
                self.cookies = client.cookies
                return answer

        return asyncio.run(ask())

    def get(self, path: str, **request: Any) -> httpx.Response:
        return self.ask("GET", path, **request)

    def post(self, path: str, **data: str) -> httpx.Response:
        return self.ask("POST", path, data=data)

    def form(self, path: str) -> str:
        """What the first form of a page must carry."""
        found = _FORM.search(self.get(path).text)
        assert found, path
        return found[1]

    def sign_in(self, name: str, password: str = PASSWORD, **more: str) -> httpx.Response:
        form = self.form("/login")
        return self.post("/login", form=form, name=name, password=password, **more)

    def rule(self, report: str, ruling: str, note: str = "") -> httpx.Response:
        path = f"/cases/reports/{report}"
        return self.post(f"{path}/rulings", form=self.form(path), ruling=ruling, note=note)


def add_user(service: Service, name: str, *, tenant: str = "shop", role: Role = Role.MODERATOR):
    service.users.add(name, tenant=tenant, role=role, password=PASSWORD)


def enter(service: Service, name: str, *, tenant: str = "shop", role: Role = Role.MODERATOR):
    """A browser in which a new user has signed in."""
    add_user(service, name, tenant=tenant, role=role)
    browser = Browser(service)
    assert browser.sign_in(name).status_code == 303
    return browser


def visitor_of(browser: Browser) -> Visitor:
    visitor = browser.service.visits.identify(browser.cookies.get("__Host-deepfake"))
    assert visitor is not None
    return visitor


def add_report(
    service: Service,
    identity: Identity,
    name: str = "a.png",
    verdict: Verdict = Verdict.SYNTHETIC,
    **changes: Any,
) -> str:
    """The id of a report that was given to ``identity``."""
    return service.reports.add(identity, a_report(name, verdict, **changes)).id


def a_report(name: str, verdict: Verdict = Verdict.SYNTHETIC, **changes: Any) -> Report:
    report = make_report(make_evidence("image"), make_evidence("face", score=0.2))
    media = replace(report.media, **changes)
    return replace(report, path=name, verdict=verdict, media=media)
