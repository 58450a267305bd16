"""Who may ask: keys, scopes, tenants, and the command that makes keys."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deepfake_service import check_binding
from deepfake_service.settings import ServiceSettings
from deepfake_service.store import keys as keys_module
from deepfake_service.store.keys import Allowance, Policy, Scope

from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.errors import SettingsError
from deepfake.reasons import Code
from tests.service.serving import EVERYTHING, Client, keys_in, serviced

REPORT, JOB, BATCH, HOOK, MESSAGE = (
    f"{kind}_{'0' * 32}" for kind in ("rep", "job", "bat", "whk", "msg")
)
WEBHOOK = {"url": "https://shop.example/told", "events": ["job.done"]}
RULING = {"report": REPORT, "ruling": "confirm"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "service"


@pytest.fixture
def client(detector: Detector, folder: Path) -> Iterator[Client]:
    with serviced(detector, folder) as client:
        yield client


def test_without_any_key_this_machine_needs_none_and_the_first_key_ends_that(
    client: Client,
) -> None:
    assert client.get("/v1/models").status_code == 200
    wrong = client.get("/v1/models", headers={"Authorization": "Bearer nonsense"})
    assert wrong.status_code == 401
    key = client.service.keys.create(tenant="shop")
    answer = client.get("/v1/models")
    assert (answer.status_code, answer.json()["code"]) == (401, Code.NO_KEY)
    assert answer.headers["www-authenticate"] == "Bearer"
    client.key = key
    assert client.get("/v1/models").status_code == 200
    client.service.keys.revoke(key.split("_")[1])
    client.key = None
    assert client.get("/v1/models").status_code == 401


def test_only_a_keyed_hash_of_a_key_is_kept(folder: Path) -> None:
    with keys_in(folder) as keys:
        key = keys.create(tenant="shop", label="a label")
        _, prefix, secret = key.split("_", 2)
        assert len(secret) == 43  # 256 bits
        assert keys.identify(key) is not None
        (shown,) = keys.known()
        assert shown.prefix == prefix
        assert secret not in str(shown)
    for path in folder.iterdir():
        assert secret.encode() not in path.read_bytes(), path
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    (folder / "hash.key").write_bytes(b"x" * 32)
    with keys_in(folder) as keys:
        assert keys.identify(key) is None
    (folder / "hash.key").write_bytes(b"short")
    with pytest.raises(SettingsError, match="restore it"), keys_in(folder):
        pass


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "dfk_0000000000_" + "A" * 43,
        "dfk_' OR 1=1 --_" + "A" * 43,
        "dfk_0000000000_" + "A" * 44,
        "dfk_0000000000_" + "é" * 43,
        "\x00",
        "x" * 30_000,
    ],
)
def test_what_is_no_key_opens_nothing(client: Client, text: str) -> None:
    key = client.service.keys.create(tenant="shop")
    assert client.service.keys.identify(text) is None
    near = key[:-1] + ("A" if key[-1] != "A" else "B")
    assert client.service.keys.identify(near) is None
    for scheme in ("Basic", "bearer " + key, ""):
        headers = {"Authorization": f"{scheme} {key}"}
        assert client.get("/v1/models", headers=headers).status_code == 401


def test_keys_expire_and_are_revoked_at_once(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = client.service.keys
    key = keys.create(tenant="shop", days=1)
    other = keys.create(tenant="shop")
    client.key = key
    assert client.get("/v1/models").status_code == 200
    now = keys_module.now_ms()
    monkeypatch.setattr(keys_module, "now_ms", lambda: now + keys_module.DAY_MS)
    assert client.get("/v1/models").status_code == 401
    monkeypatch.setattr(keys_module, "now_ms", lambda: now)
    assert client.get("/v1/models").status_code == 200
    keys.revoke(key.split("_")[1])
    assert client.get("/v1/models").status_code == 401
    client.key = other
    assert client.get("/v1/models").status_code == 200


def test_a_rotated_key_is_valid_beside_its_successor_for_a_while(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = client.service.keys
    allowance = Allowance(files_a_day=3)
    old = keys.create(tenant="shop", scopes=EVERYTHING, allowance=allowance)
    new = keys.rotate(old.split("_")[1], overlap_hours=1)
    first, second = keys.identify(old), keys.identify(new)
    assert first is not None
    assert second is not None
    assert (first.tenant, first.scopes) == (second.tenant, second.scopes)
    assert first.lineage == second.lineage
    for key, status in ((old, 200), (new, 200), (old, 200), (new, 429)):
        client.key = key
        assert client.send("/v1/detect").status_code == status
    now = keys_module.now_ms()
    monkeypatch.setattr(keys_module, "now_ms", lambda: now + 3_600_001)
    assert keys.identify(old) is None
    assert keys.identify(new) is not None
    with pytest.raises(SettingsError, match="no longer valid"):
        keys.rotate(old.split("_")[1], overlap_hours=1)


ENDPOINTS: list[tuple[str, str, Scope | None, dict[str, Any]]] = [
    ("POST", "/v1/detect", Scope.DETECT, {"content": b"x"}),
    ("POST", "/v1/jobs", Scope.DETECT, {"content": b"x"}),
    ("POST", "/v1/batches", Scope.DETECT, {"content": b"x"}),
    ("GET", "/v1/jobs", Scope.READ, {}),
    ("GET", f"/v1/jobs/{JOB}", Scope.READ, {}),
    ("GET", f"/v1/jobs/{JOB}/events", Scope.READ, {}),
    ("DELETE", f"/v1/jobs/{JOB}", Scope.DETECT, {}),
    ("POST", f"/v1/jobs/{JOB}/retry", Scope.DETECT, {}),
    ("GET", f"/v1/reports/{REPORT}", Scope.READ, {}),
    ("POST", "/v1/feedback", Scope.FEEDBACK, {"json": RULING}),
    ("POST", "/v1/webhooks", Scope.WEBHOOKS, {"json": WEBHOOK}),
    ("GET", "/v1/webhooks", Scope.WEBHOOKS, {}),
    ("GET", f"/v1/webhooks/{HOOK}", Scope.WEBHOOKS, {}),
    ("DELETE", f"/v1/webhooks/{HOOK}", Scope.WEBHOOKS, {}),
    ("POST", f"/v1/webhooks/{HOOK}/secret", Scope.WEBHOOKS, {"json": {}}),
    ("GET", f"/v1/webhooks/{HOOK}/deliveries", Scope.WEBHOOKS, {}),
    ("POST", f"/v1/webhooks/{HOOK}/deliveries/{MESSAGE}/retry", Scope.WEBHOOKS, {}),
    ("GET", "/metrics", Scope.ADMIN, {}),
    ("GET", "/monitor", Scope.ADMIN, {}),
    ("DELETE", "/monitor/shop/image", Scope.ADMIN, {}),
    ("GET", "/v1/models", None, {}),
]
OPEN = {"/healthz", "/readyz"}


def fill(path: str) -> str:
    """An address with ids in place of their names."""
    ids = {"job": JOB, "report": REPORT, "webhook": HOOK, "message": MESSAGE}
    for name, id in (ids | {"tenant": "shop", "kind": "image"}).items():
        path = path.replace(f"{{{name}}}", id)
    return path


def test_every_endpoint_is_in_the_walks_below(client: Client) -> None:
    described = {
        (method.upper(), fill(path))
        for path, methods in client.get("/v1/openapi.json").json()["paths"].items()
        for method in methods
    }
    walked = {(method, path) for method, path, _, _ in ENDPOINTS}
    assert described - walked == {("GET", path) for path in OPEN}


@pytest.mark.parametrize(("method", "path", "scope", "request_"), ENDPOINTS)
def test_every_endpoint_needs_its_scope(
    *, client: Client, method: str, path: str, scope: Scope | None, request_: dict[str, Any]
) -> None:
    keys = client.service.keys
    lacking = keys.create(tenant="shop", scopes=EVERYTHING - {scope} if scope else {Scope.READ})
    having = keys.create(tenant="shop", scopes={scope} if scope else {Scope.FEEDBACK})
    assert client.ask(method, path, **request_).status_code == 401
    client.key = lacking
    answer = client.ask(method, path, **request_)
    assert answer.status_code == (403 if scope else 200)
    if scope:
        assert answer.json()["code"] == Code.NOT_ALLOWED
    client.key = having
    assert client.ask(method, path, **request_).status_code not in (401, 403)


def test_no_endpoint_shows_or_changes_what_is_another_tenant_s(client: Client) -> None:
    keys = client.service.keys
    mine = keys.create(tenant="mine", scopes=EVERYTHING)
    foreign = keys.create(tenant="foreign", scopes=EVERYTHING)
    client.key = mine
    report = client.send("/v1/detect", headers={"Idempotency-Key": "same"}).json()["id"]
    batch = client.post("/v1/batches", files={"file": ("a.png", b"nothing")}).json()
    job = client.wait(batch["jobs"][0]["id"])["id"]
    hook = client.post("/v1/webhooks", json=WEBHOOK).json()["id"]
    client.key = foreign
    assert client.get("/v1/webhooks").json() == {"webhooks": []}
    rotation = client.post(f"/v1/webhooks/{hook}/secret", json={})
    assert (rotation.status_code, rotation.json()["code"]) == (404, Code.NOTHING_HERE)
    for method, path in (
        ("GET", f"/v1/webhooks/{hook}"),
        ("DELETE", f"/v1/webhooks/{hook}"),
        ("GET", f"/v1/webhooks/{hook}/deliveries"),
        ("POST", f"/v1/webhooks/{hook}/deliveries/{MESSAGE}/retry"),
        ("GET", f"/v1/jobs/{job}"),
        ("GET", f"/v1/jobs/{job}/events"),
        ("DELETE", f"/v1/jobs/{job}"),
        ("POST", f"/v1/jobs/{job}/retry"),
        ("GET", f"/v1/reports/{report}"),
        ("GET", f"/v1/reports/{report}?format=html"),
    ):
        answer = client.ask(method, path)
        assert (answer.status_code, answer.json()["code"]) == (404, Code.NOTHING_HERE), path
    ruling = {"report": report, "ruling": "overturn"}
    assert client.post("/v1/feedback", json=ruling).status_code == 404
    assert client.get("/v1/jobs").json()["jobs"] == []
    assert client.get(f"/v1/jobs?batch={batch['id']}").json()["jobs"] == []
    own = client.send("/v1/detect", headers={"Idempotency-Key": "same"})
    assert own.json()["id"] != report
    client.key = mine
    assert client.get(f"/v1/reports/{report}").status_code == 200
    assert client.post("/v1/feedback", json=ruling).status_code == 201
    assert [it["id"] for it in client.get("/v1/jobs").json()["jobs"]] == [job]


@pytest.mark.parametrize(
    "id",
    [
        "1",
        "' OR '1'='1",
        "job_" + "0" * 31 + "'",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f",
        "job_" + "0" * 32 + "%00",
        "job_" + "0" * 32 + "%0a",
        "%F0%9F%90%88",
        "x" * 5000,
    ],
)
def test_ids_are_ids(client: Client, id: str) -> None:
    places = (f"jobs/{id}", f"reports/{id}", f"jobs/{id}/events", f"webhooks/{id}")
    for path in (f"/v1/{place}" for place in places):
        answer = client.get(path)
        assert answer.status_code in (404, 422), path
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **settings: object) -> None:
        raise AssertionError("a socket was made, or a name looked up")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "detect.example"])
def test_other_machines_may_ask_only_where_there_is_a_valid_key(
    folder: Path, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ServiceSettings(folder=folder)
    for loopback in ("127.0.0.1", "::1", "localhost"):
        check_binding(loopback, 7860, settings=settings)
    with pytest.raises(
        SettingsError, match=r"no key and no account; make one with: deepfake keys create"
    ):
        check_binding(host, 7860, settings=settings)
    for public in ([], ["--public"]):
        assert main(["serve", "--host", host, *public, "--data", str(folder)]) == 2
        assert "deepfake keys create" in capsys.readouterr().err
    with keys_in(folder) as keys:
        key = keys.create(tenant="shop")
    check_binding(host, 7860, settings=settings)
    with keys_in(folder) as keys:
        keys.revoke(key.split("_")[1])
    with pytest.raises(SettingsError, match="has no key"):
        check_binding(host, 7860, settings=settings)


def test_keys_are_made_listed_rotated_and_revoked_by_the_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(folder)]

    def run(*words: str) -> str:
        assert main(["keys", *words, *data]) == 0
        return capsys.readouterr().out

    made = run("create", "--tenant", "shop", "--label", "queue", "--rate", "60/minute")
    key = made.split()[0]
    listed = run("list")
    prefix = key.split("_")[1]
    assert prefix in listed
    assert key.split("_", 2)[2] not in listed
    assert "60/minute" in listed
    new = run("rotate", prefix, "--overlap-hours", "0").split()[0]
    assert "expired" in run("list")
    run("revoke", new.split("_")[1])
    assert "revoked" in run("list")
    with keys_in(folder) as keys:
        assert keys.identify(key) is None
        assert keys.identify(new) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["create", "--tenant", "../up"], "is no name"),
        (["create", "--tenant", "shop", "--scopes", "all"], "scope 'all': unknown"),
        (["create", "--tenant", "shop", "--scopes", ","], "scopes: none is given"),
        (["create", "--tenant", "shop", "--rate", "fast"], "write it as 60/minute"),
        (["create", "--tenant", "shop", "--days", "0"], "out of range"),
        (["create", "--tenant", "shop", "--days", "nan"], "out of range"),
        (["create", "--tenant", "shop", "--files-a-day", "-1"], "out of range"),
        (["create", "--tenant", "shop", "--label", "a\nb"], "no short text"),
        (["rotate", "unknown"], "deepfake keys list"),
        (["revoke", "' OR 1=1"], "deepfake keys list"),
    ],
)
def test_a_wrong_use_of_the_command_says_what_is_right(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", *words, "--data", str(folder)]) == 2
    assert message in capsys.readouterr().err


def test_the_words_of_the_command_are_those_of_the_store() -> None:
    from deepfake.commands.keys import POLICIES, SCOPES

    assert set(SCOPES) == set(Scope)
    assert set(POLICIES) == set(Policy)
