"""Signing in: what opens the pages, and what does not."""

from __future__ import annotations

import re

import pytest
from deepfake_service.pages.access import COOKIE, read_next
from deepfake_service.pages.application import STRANGER_COOKIE
from deepfake_service.service import Service
from deepfake_service.store import users as users_module
from deepfake_service.store import visits as visits_module
from deepfake_service.store.users import Role

from deepfake.reasons import Code
from tests.service.pages.visiting import PASSWORD, Browser, add_user, enter
from tests.service.serving import Client


def test_without_any_account_this_machine_needs_none_and_the_first_one_ends_that(
    service: Service, browser: Browser
) -> None:
    assert browser.get("/cases").status_code == 200
    assert Client(service).get("/v1/models").status_code == 200
    add_user(service, "anna")
    answer = browser.get("/cases?verdict=synthetic")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2Fcases%3Fverdict%3Dsynthetic"
    assert Client(service).get("/v1/models").status_code == 401
    service.users.disable("anna")
    assert browser.get("/cases").status_code == 303


def test_with_keys_alone_nobody_sees_the_pages(service: Service, browser: Browser) -> None:
    service.keys.create(tenant="shop")
    answer = browser.get("/cases")
    assert answer.status_code == 401
    assert "deepfake users add" in answer.text


def test_somebody_signs_in_and_out(service: Service, browser: Browser) -> None:
    add_user(service, "Anna@Example.org")
    answer = browser.sign_in("anna@example.org", next="/cases/precision")
    assert (answer.status_code, answer.headers["location"]) == (303, "/cases/precision")
    cookie = next(it for it in answer.headers.get_list("set-cookie") if it.startswith(COOKIE + "="))
    for rule in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
        assert rule in cookie
    assert "Domain" not in cookie
    page = browser.get("/cases")
    assert "anna@example.org" in page.text
    assert page.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert browser.get("/login").headers["location"] == "/cases"
    token = browser.cookies[COOKIE]
    assert browser.post("/logout", form="0" * 64).status_code == 403
    assert browser.get("/cases").status_code == 200
    assert browser.post("/logout", form=browser.form("/cases")).status_code == 303
    assert service.visits.identify(token) is None
    browser.cookies.set(COOKIE, token, domain="127.0.0.1")
    assert browser.get("/cases").status_code == 303


def test_a_visit_gets_a_new_token_and_ends_the_one_before(service: Service) -> None:
    browser = enter(service, "anna")
    before = browser.cookies[COOKIE]
    form = browser.form("/cases")
    stranger = Browser(service)
    stranger.cookies.set(COOKIE, before, domain="127.0.0.1")  # as if it had been put there
    stranger.get("/login")
    del stranger.cookies[COOKIE]
    login = stranger.form("/login")
    stranger.cookies.set(COOKIE, before, domain="127.0.0.1")
    answer = stranger.post("/login", form=login, name="anna", password=PASSWORD)
    assert answer.status_code == 303
    assert stranger.cookies.jar
    assert service.visits.identify(before) is None
    assert form not in stranger.get("/cases").text


def test_a_form_is_needed_that_was_made_for_this_browser(
    service: Service, browser: Browser
) -> None:
    add_user(service, "anna")
    first = browser.post("/login", name="anna", password=PASSWORD, form="0" * 64)
    assert first.status_code == 403
    assert "no cookie" in first.text
    other = Browser(service)
    foreign = other.form("/login")
    browser.form("/login")
    for form in (foreign, "", "é"):
        answer = browser.post("/login", name="anna", password=PASSWORD, form=form)
        assert answer.status_code == 403
        assert COOKIE not in browser.cookies
    browser.cookies.set(STRANGER_COOKIE, "forged", domain="127.0.0.1")
    assert browser.post("/login", name="anna", password=PASSWORD, form=foreign).status_code == 403


def test_other_sites_can_do_nothing(service: Service) -> None:
    browser = enter(service, "anna")
    for headers in (
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
    ):
        answer = browser.ask(
            "POST", "/logout", data={"form": browser.form("/cases")}, headers=headers
        )
        assert answer.status_code == 403
    assert browser.get("/cases").status_code == 200


def test_names_are_told_alike_whether_they_are_known(service: Service) -> None:
    add_user(service, "anna")
    add_user(service, "gone")
    service.users.disable("gone")
    service.users.add("elsewhere", tenant="shop", role=Role.READER, password=None)
    texts = set()
    for name in ("anna", "nobody", "gone", "elsewhere"):
        browser, statuses = Browser(service), []
        for _ in range(users_module.FREE_ATTEMPTS + 2):
            answer = browser.sign_in(name, "wrong " + PASSWORD)
            statuses.append(answer.status_code)
            texts.add(re.sub(r'value="[^"]*"|wait \d+ s', "", answer.text))
        assert statuses == [401] * (users_module.FREE_ATTEMPTS + 1) + [429], name
    assert len(texts) == 2  # wrong, and too many


def test_wrong_passwords_make_growing_pauses_that_the_right_one_does_not_shorten(
    service: Service, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_user(service, "anna")
    now = users_module.now_ms()
    monkeypatch.setattr(users_module, "now_ms", lambda: now)
    for _ in range(users_module.FREE_ATTEMPTS + 1):
        assert browser.sign_in("anna", "wrong").status_code == 401
    answer = browser.sign_in("anna")
    assert answer.status_code == 429
    assert "Wait 1 s" in answer.text or "wait 1 s" in answer.text
    now += 1000
    assert browser.sign_in("anna", "wrong").status_code == 401
    now += 1000
    assert browser.sign_in("anna").status_code == 429
    now -= 86_400_000  # a clock that is set back makes nobody wait for a day
    assert browser.sign_in("anna").status_code == 429
    now += 86_400_000 + 1000
    assert browser.sign_in("anna").status_code == 303
    assert browser.get("/cases").status_code == 200


def test_pauses_double_up_to_a_quarter_of_an_hour() -> None:
    pauses = [users_module.pause_ms(count) for count in (1, 4, 5, 6, 7, 14, 15, 10_000)]
    assert pauses == [0, 0, 1000, 2000, 4000, 512_000, 900_000, 900_000]


def test_visits_expire(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = enter(service, "anna")
    began = now = visits_module.now_ms()
    monkeypatch.setattr(visits_module, "now_ms", lambda: now)
    for _ in range(20):
        now += visits_module.IDLE_MS - 60_001
        last = browser.get("/cases").status_code
        if last != 200:
            break
    assert last == 303
    assert 0 <= now - began - visits_module.LONGEST_MS < visits_module.IDLE_MS
    other = enter(service, "bert")
    now += visits_module.IDLE_MS + 1
    assert other.get("/cases").status_code == 303
    service.visits.forget()


def test_an_account_that_changes_ends_its_visits(service: Service) -> None:
    for change in (
        service.users.disable,
        lambda name: service.users.set_password(name, "another " + PASSWORD),
    ):
        name = f"user{id(change)}"
        browser = enter(service, name)
        assert browser.get("/cases").status_code == 200
        change(name)
        assert browser.get("/cases").status_code == 303
        assert Browser(service).sign_in(name).status_code == 401


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("/cases/reports/rep_0?a=b", "/cases/reports/rep_0?a=b"),
        ("/", "/"),
        ("//evil.example", "/cases"),
        ("https://evil.example/cases", "/cases"),
        ("/\\evil.example", "/cases"),
        ("/cases\r\nSet-Cookie: a=b", "/cases"),
        ("/cases/\nx", "/cases"),
        ("/cases@evil.example", "/cases"),
        ("javascript:alert(1)", "/cases"),
        ("/cases/" + "x" * 1000, "/cases"),
        (None, "/cases"),
    ],
)
def test_after_signing_in_one_stays_here(asked: str | None, path: str) -> None:
    assert read_next(asked) == path


@pytest.mark.parametrize(
    "name", ["' OR 1=1 --", "<script>alert(1)</script>", "a\x00b", "\u202eanna", "x" * 5000, ""]
)
def test_hostile_names_are_nobody(service: Service, browser: Browser, name: str) -> None:
    add_user(service, "anna")
    answer = browser.sign_in(name, "y" * 5000)
    assert answer.status_code == 401
    assert "<script>alert" not in answer.text
    assert "\u202e" not in answer.text


def test_roles_are_scopes(service: Service) -> None:
    assert [len(role.scopes) for role in Role] == [1, 2, 3, 4]
    reader = enter(service, "reader", role=Role.READER)
    assert reader.get("/cases/metrics").status_code == 403
    assert "deepfake_" in enter(service, "admin", role=Role.ADMIN).get("/cases/metrics").text
    assert "Examine" not in reader.get("/cases/batches").text
    answer = reader.ask(
        "POST", f"/cases/batches?form={reader.form('/cases')}", files={"file": b"x"}
    )
    assert answer.status_code == 403
    assert "another role" in answer.text
    assert Code.NOT_ALLOWED in answer.text
