from __future__ import annotations

import importlib.util
import socket

import pytest
from deepfake_app.address import Names, check_address, host_of, open_listener, url_of, warn_of

from deepfake.commands.cli import main
from deepfake.errors import SettingsError

OTHERS = ["0.0.0.0", "::", "192.0.2.7", "example.com", "localhost.example.com", "", "2130706433"]


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a test refuses may reach the network, not even to be refused there."""

    def refuse(*arguments: object, **settings: object) -> None:
        raise AssertionError("a socket was made, or a name looked up")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("port", [80000, 65536, -1])
def test_a_port_that_does_not_exist_is_refused(port: int) -> None:
    with pytest.raises(SettingsError, match=f"port {port}: does not exist"):
        open_listener("127.0.0.1", port, public=False)


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("host", OTHERS)
def test_an_address_for_others_needs_the_word_public(host: str) -> None:
    with pytest.raises(SettingsError, match=r"other machines.*--public"):
        open_listener(host, 7860, public=False)
    check_address(host, 7860, public=True)


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "80000"], "port 80000: does not exist"),
        (["--host", "0.0.0.0"], "deepfake keys create"),
        (["--upload-megabytes", "0"], "bytes 0: not positive"),
        (["--file-seconds", "-1"], "not positive"),
        (["--file-seconds", "nan"], "not positive"),
        (["--keep-days", "nan"], "keep_days nan: out of range"),
        (["--keep-days", "inf"], "keep_days inf: out of range"),
        (["--job-workers", "-1"], "workers -1: out of range"),
        (["--sync-megabytes", "-1"], "out of range"),
    ],
)
def test_serve_refuses_it_as_wrong_usage(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("no_sockets")
def test_without_the_packages_of_the_service_the_page_needs_no_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "sqlalchemy" else find_spec(name)
    )
    assert main(["serve", "--host", "0.0.0.0"]) == 2
    assert "add --public" in capsys.readouterr().err
    assert main(["keys", "list"]) == 2
    assert 'pip install "deepfake[server]"' in capsys.readouterr().err


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("host", OTHERS)
def test_a_public_page_warns_of_what_it_means(host: str) -> None:
    warning = warn_of(host)
    assert warning.startswith("WARNING: the page can be reached from other machines")
    assert "nobody for a password" in warning


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.9.1"])
def test_addresses_of_this_machine_need_no_word(host: str) -> None:
    check_address(host, 0, public=False)
    assert warn_of(host) == ""


def test_a_name_that_leads_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(SettingsError, match="other machines"):
        open_listener("localhost", 0, public=False)


def test_an_address_that_is_taken_is_one_clear_error() -> None:
    with open_listener("127.0.0.1", 0, public=False) as first:
        first.listen()
        port = first.getsockname()[1]
        assert url_of(first) == f"http://127.0.0.1:{port}/"
        with pytest.raises(SettingsError, match=r"cannot be used.*choose another"):
            open_listener("127.0.0.1", port, public=False)


def test_the_page_answers_to_its_own_names_only() -> None:
    names = Names("127.0.0.1", allowed=["Review.Example.com"])
    for authority in ("localhost:7860", "127.0.0.1", "[::1]:7860", "review.example.com:443"):
        assert names.hold(authority)
    for authority in ("evil.example", "127.0.0.1.evil.example:7860", "192.0.2.7:7860", "", ":80"):
        assert not names.hold(authority)


def test_a_public_page_answers_to_numbers_which_cannot_be_rebound() -> None:
    names = Names("0.0.0.0", public=True)
    assert names.hold("192.0.2.7:7860")
    assert names.hold("[2001:db8::1]:7860")
    assert not names.hold("evil.example:7860")


@pytest.mark.parametrize(
    ("authority", "host"),
    [("A.b:80", "a.b"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("a.b.", "a.b"), ("a:b", "a:b")],
)
def test_a_host_is_read_without_its_port(authority: str, host: str) -> None:
    assert host_of(authority) == host
