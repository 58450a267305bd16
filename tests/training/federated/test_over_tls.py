"""A server and sites as processes of their own or threads, over TLS on loopback."""

from __future__ import annotations

import contextlib
import json
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from deepfake_training.federated.certificates import (
    SERVER,
    make_certificates,
    name_of,
    open_context,
)
from deepfake_training.federated.client import Client, take_part
from deepfake_training.federated.federation import Federation
from deepfake_training.federated.server import serve
from deepfake_training.federated.terms import DONE, RefusedUpdate, Terms, encode, pack_head

from deepfake.errors import ServiceError, SettingsError
from tests.training.federated.federating import make_federation, make_site, make_terms

SITES = ("north", "south")
HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "own"
    make_certificates(folder, sites=[*SITES, "stranger"], hosts=[HOST])
    return folder


@contextlib.contextmanager
def served(federation: Federation, certificates: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a running server, and what it tells."""
    told: list[str] = []
    ports: list[int] = []
    context = open_context(certificates, SERVER)

    def run() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            serve(
                federation, host=HOST, port=0, context=context, told=told.append, ready=ports.append
            )

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not ports and time.monotonic() < until:
        time.sleep(0.01)
    try:
        yield f"https://{HOST}:{ports[0]}", told
    finally:
        federation.round = federation.terms.rounds + 1  # so that it ends
        federation.sites = ()
        thread.join(30)
        assert not thread.is_alive()


@contextlib.contextmanager
def client_of(address: str, context: ssl.SSLContext, **given: Any) -> Iterator[Client]:
    client = Client(address, context, **given)
    try:
        yield client
    finally:
        client.close()


def work(address: str, certificates: Path, name: str, folder: Path, found: dict[str, Any]) -> None:
    """One site to the end."""
    with client_of(address, open_context(certificates, name)) as client:
        terms = client.terms()
        site = make_site(SITES.index(name), terms)
        found[name] = take_part(
            client, site, folder=folder / name, told=lambda _: None, poll_seconds=0.02
        )


def test_two_sites_get_one_head(tmp_path: Path, certificates: Path) -> None:
    federation = make_federation(tmp_path / "server", sites=SITES, least=2)
    found: dict[str, Any] = {}
    with served(federation, certificates) as (address, _):
        threads = [
            threading.Thread(target=work, args=(address, certificates, name, tmp_path, found))
            for name in SITES
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert federation.phase == DONE
    assert federation.common is not None
    for name in SITES:
        ours, theirs = pack_head(found[name].head), pack_head(federation.common.head)
        assert ours == pytest.approx(theirs, abs=1e-5)
    assert np.linalg.norm(federation.common.head.weights) > 0.1


def test_whoever_has_no_certificate_or_one_of_somebody_else_is_not_heard(
    tmp_path: Path, certificates: Path
) -> None:
    other = tmp_path / "other"
    make_certificates(other, sites=["north"], hosts=[HOST])
    federation = make_federation(tmp_path / "server", sites=SITES, least=2)
    with served(federation, certificates) as (address, told):
        bare = ssl.create_default_context(cafile=str(certificates / "authority.pem"))
        forged = ssl.create_default_context(cafile=str(certificates / "authority.pem"))
        forged.load_cert_chain(other / "north.pem")
        for context in (bare, forged):
            with (
                httpx.Client(verify=context, trust_env=False) as client,
                pytest.raises(httpx.TransportError),
            ):
                client.get(f"{address}/v1/terms").raise_for_status()
        with (
            client_of(address, open_context(certificates, "stranger")) as site,
            pytest.raises(ServiceError, match="409: site 'stranger': takes no part here"),
        ):
            site.terms()
        assert told == ["refused stranger: site 'stranger': takes no part here"]
        # nor is a server that our authority has not signed
        with (
            client_of(address, open_context(other, "north"), patience_seconds=0) as site,
            pytest.raises(ServiceError, match=r"cannot be reached .*certificate"),
        ):
            site.terms()
    assert federation.refused == []


def test_a_name_is_that_of_the_certificate_and_bodies_are_bounded(
    tmp_path: Path, certificates: Path
) -> None:
    federation = make_federation(tmp_path / "server", sites=SITES, least=2)
    with served(federation, certificates) as (address, told):
        context = open_context(certificates, "north")
        with httpx.Client(verify=context, trust_env=False, base_url=address) as client:
            body = encode(update=make_site(0, federation.terms).statistics())
            assert client.put("/v1/updates/0", content=body).status_code == 204
            assert client.get("/v1/task").status_code == 204, "north has nothing to do any more"
            again = client.put("/v1/updates/0", content=body, headers={"x-site": "south"})
            assert (again.status_code, again.text) == (
                409,
                "update of round 0: this site has sent one",
            )
            large = client.put("/v1/updates/0", content=bytes(federation.terms.most_bytes + 1))
            assert large.status_code == 409
            assert "is longer than" in large.text
            assert client.get("/v1/other").status_code == 404
            assert client.put("/v1/updates/x", content=b"").status_code == 404
        with httpx.Client(
            verify=open_context(certificates, "south"), trust_env=False, base_url=address
        ) as client:
            assert client.get("/v1/task").status_code == 200, "south's update was not forged"
    assert len(told) == 2


def test_a_site_that_was_stopped_sends_the_same_update_again(
    tmp_path: Path, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = make_federation(tmp_path / "server", sites=SITES, least=2)
    with (
        served(federation, certificates) as (address, _),
        client_of(address, open_context(certificates, "north")) as client,
    ):
        site = make_site(0, client.terms())
        bodies: list[bytes] = []

        def fail(_number: int, body: bytes) -> bool:
            bodies.append(body)
            raise KeyboardInterrupt

        monkeypatch.setattr(client, "send", fail)
        folder = tmp_path / "north"
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                take_part(client, site, folder=folder, told=lambda _: None)
            monkeypatch.setattr(site, "statistics", lambda: pytest.fail("computed a second time"))
        assert bodies[0] == bodies[1]
        other = make_site(0, make_terms(rounds=9))
        with pytest.raises(SettingsError, match="with other terms"):
            take_part(client, other, folder=folder, told=lambda _: None)


def test_terms_that_cannot_be_followed_are_refused() -> None:
    good = msgspec.to_builtins(make_terms())
    for change in (
        {"rounds": 10**9},
        {"rule": "sum"},
        {"pace": -1.0},
        {"extra": 1},
        {"start": "x"},
    ):
        body = msgspec.json.encode({**good, **change})
        with pytest.raises((RefusedUpdate, msgspec.ValidationError), match=r".+"):
            msgspec.json.decode(body, type=Terms).check()


@pytest.mark.parametrize("names", [[], ["a", "a"], ["server"], ["../up"], ["Ä"]])
def test_names_of_sites(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(SettingsError, match="site"):
        make_certificates(tmp_path / "own", sites=names, hosts=[HOST])
    assert not (tmp_path / "own").exists()


def test_private_keys_are_readable_by_their_user_alone(certificates: Path) -> None:
    assert (certificates / "north.pem").stat().st_mode & 0o077 == 0
    assert b"PRIVATE" not in (certificates / "authority.pem").read_bytes()
    with pytest.raises(SettingsError, match=r"west\.pem or authority\.pem cannot be used"):
        open_context(certificates, "west")
    with pytest.raises(SettingsError, match="cannot be made"):
        make_certificates(certificates, sites=["x"], hosts=[HOST])
    assert name_of(None) is None
    assert name_of({"subject": ((("commonName", "a"),), (("commonName", "b"),))}) is None


SERVER_PROGRAM = """
import sys
from pathlib import Path
from deepfake_training.federated.certificates import open_context
from deepfake_training.federated.server import serve
from tests.training.federated.federating import make_federation, make_terms
folder, certificates = map(Path, sys.argv[1:])
federation = make_federation(folder, make_terms(rounds=48), sites=("north", "south"), least=2)
serve(federation, host="127.0.0.1", port=int((folder / "port").read_text()),
      context=open_context(certificates, "server"),
      ready=lambda port: (folder / "port").write_text(str(port)))
"""


@pytest.mark.slow
def test_a_server_process_is_stopped_in_the_middle_and_goes_on(
    tmp_path: Path, certificates: Path
) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "port").write_text("0")

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SERVER_PROGRAM, str(folder), str(certificates)]
        return subprocess.Popen(command, cwd=Path(__file__).parents[3])

    def wait_for(text: str) -> None:
        until = time.monotonic() + 240
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                if eval(text, {"lines": (folder / "rounds.jsonl").read_text().splitlines()}):
                    return
            time.sleep(0.02)
        pytest.fail(f"never: {text}")

    process = start()
    try:
        until = time.monotonic() + 240
        while (folder / "port").read_text() in ("", "0") and time.monotonic() < until:
            time.sleep(0.02)
        address = f"https://{HOST}:{(folder / 'port').read_text()}"
        found: dict[str, Any] = {}
        threads = [
            threading.Thread(target=work, args=(address, certificates, name, tmp_path, found))
            for name in SITES
        ]
        for thread in threads:
            thread.start()
        wait_for("len(lines) > 3")
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        before = len((folder / "rounds.jsonl").read_text().splitlines())
        assert before < 48
        process = start()
        for thread in threads:
            thread.join(240)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(30)
    rounds = [
        json.loads(line)["round"] for line in (folder / "rounds.jsonl").read_text().splitlines()
    ]
    missing = set(range(49)) - set(rounds)
    assert len(missing) <= 1, "but for that which was ending when the server was killed"
    assert pack_head(found["north"].head) == pytest.approx(pack_head(found["south"].head))
