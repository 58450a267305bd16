"""Media by URL: off, unless hosts are named, and never from a private network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from deepfake_app.limits import PageLimits
from deepfake_service.outside import addresses
from deepfake_service.outside.addresses import Guard, is_public
from deepfake_service.outside.fetching import Fetcher

from deepfake.detector import Detector
from deepfake.errors import ServiceError, SettingsError
from deepfake.reasons import Code
from tests.service.receiver import Got, Say, receiving
from tests.service.serving import PICTURE, Client, serviced

HOME = ("127.0.0.1",)


def say(got: Got) -> Say:
    """What lies at each path."""
    pages = {
        "/a.png?size=1": Say(body=PICTURE),
        "/moved": Say(302, (("Location", "/a.png?size=1"),)),
        "/round": Say(301, (("Location", "/round"),)),
        "/inside": Say(302, (("Location", "http://localhost:1/"),)),
        "/meta": Say(307, (("Location", "http://169.254.169.254/latest"),)),
        "/file": Say(302, (("Location", "file:///etc/passwd"),)),
        "/nowhere": Say(302, (("Location", "http://[x"),)),
        "/[x": Say(body=PICTURE),  # as the server of the tests reads //[x
        "/empty": Say(),
        "/packed": Say(200, (("Content-Encoding", "gzip"),), PICTURE),
        "/endless": Say(chunks=iter([b"x" * 65536] * 10_000)),
        "/slow": Say(chunks=drip()),
        "/text": Say(body=b"no picture"),
    }
    return pages.get(got.path, Say(404))


def drip() -> Iterator[bytes]:
    for _ in range(200):
        time.sleep(0.05)
        yield b"x"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with receiving(say) as (_, url):
        yield url


@pytest.fixture
def client(known_detector: Detector, tmp_path: Path) -> Iterator[Client]:
    how: dict[str, Any] = {"fetch_hosts": HOME, "private_hosts": HOME, "fetch_seconds": 1.0}
    limits = PageLimits(upload_bytes=2_000_000)
    with serviced(known_detector, tmp_path, limits=limits, **how) as client:
        yield client


def test_a_file_is_fetched_examined_and_gone(client: Client, address: str) -> None:
    for path in ("/a.png?size=1", "/moved"):
        answer = client.post("/v1/detect?effort=quick", json={"url": address + path})
        assert answer.status_code == 200, answer.text
        assert answer.json()["report"]["path"] == "a.png"
    odd = client.post("/v1/detect?effort=quick", json={"url": f"{address}//[x"})
    assert (odd.status_code, odd.json()["report"]["path"]) == (200, "[x")
    named = client.post("/v1/jobs?name=mine.png", json={"url": f"{address}/moved"})
    assert named.status_code == 202
    job = client.wait(named.json()["id"])
    assert (job["state"], job["name"], job["bytes"]) == ("done", "mine.png", len(PICTURE))
    assert client.media() == []


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/round", 422, Code.NOT_FETCHED),
        ("/inside", 422, Code.ADDRESS_REFUSED),
        ("/meta", 422, Code.ADDRESS_REFUSED),
        ("/file", 422, Code.ADDRESS_REFUSED),
        ("/nowhere", 422, Code.NOT_FETCHED),
        ("/empty", 422, Code.NOT_FETCHED),
        ("/packed", 422, Code.NOT_FETCHED),
        ("/endless", 413, Code.TOO_LARGE),
        ("/slow", 422, Code.NOT_FETCHED),
        ("/nothing", 422, Code.NOT_FETCHED),
        ("/text", 422, Code.UNSUPPORTED),
    ],
)
def test_what_cannot_be_fetched_is_a_problem_and_leaves_nothing(
    client: Client, address: str, path: str, status: int, code: Code
) -> None:
    answer = client.post("/v1/detect", json={"url": address + path})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert client.media() == []


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example/a.png",
        "https://127.0.0.1.elsewhere.example/",
        "https://127.0.0.1@elsewhere.example/",
        "https://elsewhere.example#@127.0.0.1/",
        "https://elsewhere.example\\@127.0.0.1/",
        "gopher://127.0.0.1/",
        "file:///etc/passwd",
        "//127.0.0.1/",
        "",
    ],
)
def test_only_from_hosts_that_are_named(client: Client, url: str) -> None:
    answer = client.post("/v1/detect", json={"url": url})
    assert (answer.status_code, answer.json()["code"]) == (422, Code.ADDRESS_REFUSED)


def test_nothing_is_fetched_unless_that_is_switched_on(
    known_detector: Detector, tmp_path: Path
) -> None:
    with receiving() as (receiver, url), serviced(known_detector, tmp_path) as client:
        answer = client.post("/v1/detect", json={"url": url})
        assert (answer.status_code, answer.json()["code"]) == (403, Code.NOT_ALLOWED)
        assert receiver.got == []
        assert client.post("/v1/batches", json={"url": url}).status_code == 415


def test_an_allowed_host_that_leads_home_is_refused(
    known_detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        addresses.socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("10.0.0.7", 80))]
    )
    with serviced(known_detector, tmp_path, fetch_hosts=(".media.example",)) as client:
        answer = client.post("/v1/detect", json={"url": "http://a.media.example/x.png"})
        assert (answer.status_code, answer.json()["code"]) == (422, Code.ADDRESS_REFUSED)
        other = client.post("/v1/detect", json={"url": "http://media.example/x.png"})
        assert "none from which" in other.json()["detail"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"url": 5}', b'{"url": "a", "more": 1}', b"x" * 10_000, b"\xff"]
)
def test_a_body_that_names_no_address_is_a_problem(client: Client, body: bytes) -> None:
    answer = client.post("/v1/detect", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, Code.BAD_REQUEST)


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("93.184.215.14", True),
        ("2606:4700:4700::1111", True),
        ("64:ff9b::808:808", True),
        ("::ffff:8.8.8.8", True),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b:1::1", False),
        ("2002:7f00:1::", False),
        ("2001:0:7f00:1::", False),
        ("::", False),
        ("::1", False),
        ("fd00:ec2::254", False),
        ("fec0::1", False),
        ("ff0e::1", False),
        ("0.1.2.3", False),
        ("127.255.255.254", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("192.0.0.192", False),
        ("198.18.0.1", False),
        ("203.0.113.1", False),
        ("255.255.255.255", False),
        ("240.0.0.1", False),
    ],
)
def test_which_addresses_everybody_can_reach(text: str, public: bool) -> None:
    assert is_public(ip_address(text)) is public


def test_one_private_address_of_a_host_is_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(2, 1, 6, "", ("93.184.215.14", 80)), (10, 1, 6, "", ("fe80::1%eth0", 80, 0, 2))]
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(ServiceError, match="private network"):
        Guard().resolve("two.example", 80)
    assert Guard(["TWO.example."]).resolve("two.example", 80)[0] == "93.184.215.14"


@pytest.mark.parametrize("host", ["", "*", "*.example", "a b", "http://a", "EXAMPLE.org", "a/"])
def test_a_list_of_hosts_holds_hosts(host: str) -> None:
    with pytest.raises(SettingsError, match=r"write media\.example"):
        Fetcher(guard=Guard(), hosts=(host,), seconds=1)
