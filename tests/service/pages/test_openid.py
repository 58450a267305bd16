"""Signing in at a provider of OpenID Connect, and providers that lie."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from deepfake_service.service import Service
from deepfake_service.settings import OpenId
from deepfake_service.store.users import Role
from joserfc.jwk import RSAKey

from deepfake.detector import Detector
from deepfake.errors import SettingsError
from tests.service.pages.provider import CLIENT, SECRET, Provider, provided
from tests.service.pages.visiting import ADDRESS, Browser, visitor_of
from tests.service.serving import serviced


@pytest.fixture
def provider() -> Iterator[Provider]:
    with provided() as provider:
        yield provider


@pytest.fixture
def service(known_detector: Detector, tmp_path: Path, provider: Provider) -> Iterator[Service]:
    openid = OpenId(issuer=provider.issuer, client=CLIENT, secret=SECRET, address=ADDRESS)
    with serviced(known_detector, tmp_path, openid=openid) as client:
        yield client.service


def leave(browser: Browser, path: str = "/cases/precision") -> str:
    """The address at which the provider sends the browser back."""
    answer = browser.get(f"/login/openid?next={path}")
    assert answer.status_code == 302, answer.text
    back = httpx.get(answer.headers["location"], trust_env=False).headers["location"]
    assert back.startswith(ADDRESS + "/login/openid/return?")
    return back.removeprefix(ADDRESS)


def test_the_account_of_a_verified_address_is_opened_and_bound_to_its_subject(
    service: Service, provider: Provider, browser: Browser
) -> None:
    assert browser.get("/cases").status_code == 303
    service.users.add("anna@example.org", tenant="shop", role=Role.READER, password=None)
    assert "Sign in with 127.0.0.1" in browser.get("/login").text
    answer = browser.get(leave(browser))
    assert (answer.status_code, answer.headers["location"]) == (303, "/cases/precision")
    assert visitor_of(browser).name == "anna@example.org"
    provider.claims["email"] = "renamed@example.org"
    again = Browser(service, browser.app)
    assert again.get(leave(again)).status_code == 303
    assert visitor_of(again).name == "anna@example.org"
    provider.claims = {"sub": "subject-2", "email": "anna@example.org", "email_verified": True}
    other = Browser(service, browser.app)
    assert other.get(leave(other)).status_code == 401
    service.users.disable("anna@example.org")
    provider.claims["sub"] = "subject-1"
    assert other.get(leave(other)).status_code == 401
    assert browser.get("/cases").status_code == 303


@pytest.mark.parametrize(
    "claims",
    [
        {"email_verified": False},
        {"email_verified": "true"},
        {"email": "somebody@example.org"},
        {"email": None},
        {"email": "bert"},
        {"sub": "x" * 300},
    ],
)
def test_nobody_else_is_let_in(
    service: Service, provider: Provider, browser: Browser, claims: dict[str, Any]
) -> None:
    service.users.add("anna@example.org", tenant="shop", role=Role.READER, password=None)
    service.users.add("bert", tenant="shop", role=Role.READER, password="correct horse battery")
    provider.claims |= claims
    answer = browser.get(leave(browser))
    assert answer.status_code == 401
    assert "no account here" in answer.text
    assert "__Host-deepfake" not in browser.cookies


@pytest.mark.parametrize(
    "lies",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another"},
        {"iss": "https://evil.example"},
        {"exp": int(time.time()) - 3600},
        {"sub": None},
    ],
)
def test_a_token_for_another_time_place_or_browser_opens_nothing(
    service: Service, provider: Provider, browser: Browser, lies: dict[str, Any]
) -> None:
    service.users.add("anna@example.org", tenant="shop", role=Role.READER, password=None)
    provider.lies = lies
    answer = browser.get(leave(browser))
    assert answer.status_code == 401
    assert "begin anew" in answer.text
    assert browser.get("/cases").status_code == 303


@pytest.mark.parametrize("way", ["none", "secret", "another key"])
def test_a_token_that_the_provider_did_not_sign_opens_nothing(
    service: Service, provider: Provider, browser: Browser, way: str
) -> None:
    service.users.add("anna@example.org", tenant="shop", role=Role.READER, password=None)
    if way == "none":
        provider.algorithm = "none"
    elif way == "secret":
        provider.sign_with_secret()
    else:
        provider.key = RSAKey.generate_key(2048, {"kid": "one"})
    assert browser.get(leave(browser)).status_code == 401
    assert browser.get("/cases").status_code == 303


def test_an_answer_opens_the_browser_alone_that_asked_and_once(
    service: Service, browser: Browser
) -> None:
    service.users.add("anna@example.org", tenant="shop", role=Role.READER, password=None)
    back = leave(browser)
    victim = Browser(service, browser.app)
    assert victim.get(back).status_code == 401  # login CSRF
    state = parse_qs(urlsplit(back).query)["state"][0]
    for query in ("", "?code=x", f"?code=x&state={state}", "?error=access_denied&state=x"):
        assert victim.get(f"/login/openid/return{query}").status_code == 401
    assert browser.get(back).status_code == 303
    assert browser.get(back).status_code == 401


def test_a_provider_that_is_away_or_another_is_a_page_that_says_so(
    service: Service, provider: Provider, browser: Browser
) -> None:
    provider.metadata = {"issuer": "https://evil.example"}
    answer = browser.get("/login/openid")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "provider cannot be used" in answer.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "http://login.example"},
        {"issuer": "ftp://127.0.0.1"},
        {"issuer": "https://"},
        {"address": "http://detect.example"},
        {"address": "https://u:p@detect.example"},
        {"client": ""},
        {"secret": ""},
    ],
)
def test_settings_that_others_could_listen_to_are_refused(wrong: dict[str, str]) -> None:
    right = {"issuer": "https://a.example", "address": "https://b.example"}
    chosen = OpenId(**{**right, "client": "c", "secret": "hidden"})
    assert "hidden" not in repr(chosen)
    with pytest.raises(SettingsError):
        OpenId(**{**vars(chosen), **wrong})
