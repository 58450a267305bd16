"""Webhooks: signed, sent again until they arrive, and never into a private network."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deepfake_service.outside import addresses
from deepfake_service.outside.deliverer import Deliverer
from deepfake_service.store.tables import Delivery, Event
from sqlalchemy import select, update
from standardwebhooks import Webhook as Reference

from deepfake.client import verify_webhook
from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.errors import ServiceError, SettingsError
from deepfake.reasons import Code
from deepfake.webhooks import sign
from tests.service.receiver import Got, Say, receiving
from tests.service.serving import EVERYTHING, Client, keys_in, serviced

SECRET = "whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
EVENTS = [str(event) for event in Event]
QUICK = {"private_hosts": ("127.0.0.1",), "webhook_pauses": (0.01, 0.01)}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepfake_service.outside.deliverer.POLL_SECONDS", 0.02)


@pytest.fixture
def client(known_detector: Detector, tmp_path: Path) -> Iterator[Client]:
    with serviced(known_detector, tmp_path / "service", **QUICK) as client:
        yield client


def register(client: Client, url: str, events: list[str] = EVENTS) -> dict[str, Any]:
    answer = client.post("/v1/webhooks", json={"url": f"{url}/told?a=1", "events": events})
    assert answer.status_code == 201, answer.text
    hook: dict[str, Any] = answer.json()
    return hook


def deliveries(client: Client, hook: dict[str, Any], **asked: Any) -> list[dict[str, Any]]:
    answer = client.get(f"/v1/webhooks/{hook['id']}/deliveries", params=asked)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["deliveries"]
    return found


def settled(client: Client, hook: dict[str, Any]) -> list[dict[str, Any]]:
    """The deliveries once none waits."""
    until = time.monotonic() + 20
    while any(one["state"] == "queued" for one in deliveries(client, hook)):
        assert time.monotonic() < until
        time.sleep(0.02)
    return deliveries(client, hook)


def test_events_arrive_signed_as_the_specification_has_it(client: Client) -> None:
    with receiving() as (receiver, url):
        hook = register(client, url)
        assert "secret" not in client.get(f"/v1/webhooks/{hook['id']}").text
        job = client.wait(client.send("/v1/jobs?name=a.png").json()["id"])
        bad = client.wait(client.send("/v1/jobs", b"no picture").json()["id"])
        ruling = {"report": job["report"], "ruling": "overturn", "note": "secret words"}
        feedback = client.post("/v1/feedback", json=ruling).json()["id"]
        got = receiver.wait(3)
        states = settled(client, hook)
    assert [one["state"] for one in states] == ["delivered"] * 3
    events = {}
    for one in got:
        assert (one.method, one.path) == ("POST", "/told?a=1")
        event = verify_webhook(one.body, one.headers, hook["secret"])
        Reference(hook["secret"]).verify(one.body, one.headers)  # another's code agrees
        events[event.type] = event.data
        assert event.id in {it["id"] for it in states}
    assert events["job.done"]["job"] == job["id"]
    assert events["job.done"]["report"] == job["report"]
    assert events["job.done"]["verdict"]
    assert (events["job.failed"]["job"], events["job.failed"]["state"]) == (bad["id"], "failed")
    assert events["job.failed"]["error"]["code"] == Code.UNSUPPORTED
    assert events["report.ruled"]["feedback"] == feedback
    assert b"secret words" not in b"".join(one.body for one in got)


def test_only_those_who_want_an_event_are_told_and_nobody_of_another_tenant(
    client: Client,
) -> None:
    keys = client.service.keys
    with receiving() as (receiver, url):
        client.key = keys.create(tenant="other", scopes=EVERYTHING)
        register(client, url)
        client.key = keys.create(tenant="shop", scopes=EVERYTHING)
        quiet = register(client, url, ["job.failed"])
        told = register(client, url, ["job.done", "job.done"])
        assert told["events"] == ["job.done"]
        client.wait(client.send("/v1/jobs").json()["id"])
        (got,) = receiver.wait(1)
        verify_webhook(got.body, got.headers, told["secret"])
        settled(client, told)
        assert deliveries(client, quiet) == []
        assert len(receiver.got) == 1


def test_what_is_forged_changed_late_or_of_another_is_refused() -> None:
    now, body = int(time.time()), b'{"type": "a", "timestamp": "b", "data": {}}'

    def headers(moment: int = now, secret: str = SECRET) -> dict[str, str]:
        signature = sign(secret, id="msg_1", timestamp=moment, body=body)
        return {
            "Webhook-Id": "msg_1",
            "Webhook-Timestamp": str(moment),
            "Webhook-Signature": f"v1a,xyz {signature} v1,é",
        }

    assert verify_webhook(body, headers(), SECRET).id == "msg_1"
    other = "whsec_" + "x" * 44
    for wrong, content in (
        (headers(now - 301), body),
        (headers(now + 330), body),
        (headers(secret=other), body),
        (headers() | {"Webhook-Id": "msg_2"}, body),
        (headers() | {"Webhook-Timestamp": str(now + 1)}, body),
        (headers() | {"Webhook-Timestamp": "nan"}, body),
        (headers(), body + b" "),
        ({}, body),
    ):
        with pytest.raises(ServiceError) as refused:
            verify_webhook(content, wrong, SECRET)
        assert refused.value.code == Code.FORGED
    assert verify_webhook(body, headers(now - 301), SECRET, tolerance_seconds=900)
    for odd in ("", "whsec_", "whsec_???", "whsec_YWJj"):
        with pytest.raises(SettingsError, match="none of a webhook"):
            verify_webhook(body, headers(), odd)


def test_a_message_is_tried_again_under_its_id_and_then_dead_and_visible(client: Client) -> None:
    statuses = [500, 302, 503, 200]

    def answer(got: Got) -> Say:
        return Say(statuses.pop(0), (("Location", "http://127.0.0.1:1/"),))

    with receiving(answer) as (receiver, url):
        hook = register(client, url)
        client.wait(client.send("/v1/jobs").json()["id"])
        (dead,) = settled(client, hook)
        assert (dead["state"], dead["tries"], dead["status"]) == ("dead", 3, 503)
        assert dead["error"] == "it answers 503"
        again = client.post(f"/v1/webhooks/{hook['id']}/deliveries/{dead['id']}/retry")
        assert (again.status_code, again.json()["state"]) == (202, "queued")
        (done,) = settled(client, hook)
        assert (done["state"], done["error"], done["status"]) == ("delivered", None, 200)
        got = receiver.wait(4)
    assert {one.headers["webhook-id"] for one in got} == {dead["id"]}
    refused = client.post(f"/v1/webhooks/{hook['id']}/deliveries/{dead['id']}/retry")
    assert (refused.status_code, refused.json()["code"]) == (409, Code.CONFLICT)


def test_an_address_that_is_gone_is_told_nothing_more_until_its_secret_is_made_anew(
    client: Client,
) -> None:
    with receiving(lambda got: Say(410)) as (receiver, url):
        hook = register(client, url)
        client.wait(client.send("/v1/jobs").json()["id"])
        (dead,) = settled(client, hook)
        assert (dead["state"], dead["tries"]) == ("dead", 1)
        assert client.get("/v1/webhooks").json()["webhooks"][0]["gone"]
        client.wait(client.send("/v1/jobs").json()["id"])
        assert len(deliveries(client, hook)) == len(receiver.got) == 1
        client.post(f"/v1/webhooks/{hook['id']}/secret", json={})
        assert client.get(f"/v1/webhooks/{hook['id']}").json()["gone"] is None


def test_both_secrets_sign_while_they_overlap(client: Client) -> None:
    with receiving() as (receiver, url):
        hook = register(client, url)
        path = f"/v1/webhooks/{hook['id']}/secret"
        new = client.post(path, json={"overlap_hours": 1}).json()["secret"]
        client.wait(client.send("/v1/jobs").json()["id"])
        (first,) = receiver.wait(1)
        for secret in (hook["secret"], new):
            assert verify_webhook(first.body, first.headers, secret)
        newest = client.post(path, json={"overlap_hours": 0}).json()["secret"]
        client.wait(client.send("/v1/jobs").json()["id"])
        *_, last = receiver.wait(2)
    assert verify_webhook(last.body, last.headers, newest)
    for secret in (hook["secret"], new):
        with pytest.raises(ServiceError, match="not signed with this secret"):
            verify_webhook(last.body, last.headers, secret)


def test_secrets_are_sealed_and_another_hash_key_opens_none(client: Client, tmp_path: Path) -> None:
    with receiving() as (receiver, url):
        hook = register(client, url)
        for path in (tmp_path / "service").glob("service.sqlite*"):
            content = path.read_bytes()
            assert hook["secret"].removeprefix("whsec_").encode() not in content
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        client.service.webhooks._sealer = AESGCM(b"x" * 32)
        client.wait(client.send("/v1/jobs").json()["id"])
        (dead,) = settled(client, hook)
        assert "another hash.key" in dead["error"]
        assert receiver.got == []


def test_a_message_whose_seal_is_broken_is_dead_and_holds_up_no_other(
    known_detector: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving() as (receiver, url):
        with serviced(known_detector, tmp_path, **QUICK, deliverers=0) as client:
            hook = register(client, url)
            for _ in range(2):
                client.wait(client.send("/v1/jobs").json()["id"])
            good, bad = deliveries(client, hook)
            with client.service.database.writing() as session:
                broken = update(Delivery).where(Delivery.id == bad["id"])
                session.execute(broken.values(body="sealed:1:AAAA"))
        with serviced(known_detector, tmp_path, **QUICK) as client:
            (got,) = receiver.wait(1)
            assert got.headers["webhook-id"] == good["id"]
            with client.service.database.reading() as session:
                ours = Delivery.id == bad["id"]
                query = select(Delivery.state, Delivery.ended, Delivery.error).where(ours)
                state, ended, error = session.execute(query).one()
    assert state == "dead"
    assert ended
    assert "cannot be opened" in error
    assert f"message {bad['id']}: cannot be opened" in caplog.text


def test_a_message_whose_key_is_refused_is_put_off(
    known_detector: Detector, tmp_path: Path
) -> None:
    with serviced(known_detector, tmp_path, **QUICK, deliverers=0) as client:
        with receiving() as (_, url):
            hook = register(client, url)
        client.wait(client.send("/v1/jobs").json()["id"])
    right = (tmp_path / "master.key").read_bytes()
    (tmp_path / "master.key").write_bytes(bytes(32))
    with serviced(known_detector, tmp_path, **QUICK, deliverers=0) as client:
        assert client.service.webhooks.take(busy=(), lease_seconds=3) is None
    (tmp_path / "master.key").write_bytes(right)
    with serviced(known_detector, tmp_path, **QUICK, deliverers=0) as client:
        (waiting,) = deliveries(client, hook)
        assert (waiting["state"], waiting["tries"]) == ("queued", 0)
        assert "another master key" in waiting["error"]
        assert client.service.webhooks.take(busy=(), lease_seconds=3) is None


def test_messages_survive_the_process_and_a_slow_receiver_holds_up_no_other(
    known_detector: Detector, tmp_path: Path
) -> None:
    with serviced(known_detector, tmp_path, **QUICK, deliverers=0) as client:
        with receiving() as (_, url):
            hook = register(client, url)
        client.wait(client.send("/v1/jobs").json()["id"])
        assert [one["tries"] for one in deliveries(client, hook)] == [0]
    release = []

    def slow(got: Got) -> Say:
        until = time.monotonic() + 10
        while not release and time.monotonic() < until:
            time.sleep(0.01)
        return Say(204)

    with (
        receiving(slow) as (slow_one, slow_url),
        receiving() as (quick_one, quick_url),
        serviced(known_detector, tmp_path, **QUICK, deliverers=2) as client,
    ):
        (dead,) = settled(client, hook)  # nobody listens there any more
        assert dead["state"] == "dead"
        register(client, slow_url)
        register(client, quick_url)
        for _ in range(3):
            client.wait(client.send("/v1/jobs").json()["id"])
        quick_one.wait(3)
        assert len(slow_one.got) == 1
        release.append(True)
        slow_one.wait(3)


def test_a_message_whose_sender_died_is_sent_again_when_its_lease_ends(
    known_detector: Detector, tmp_path: Path
) -> None:
    with serviced(known_detector, tmp_path, **QUICK, deliverers=0) as client, receiving() as at:
        receiver, url = at
        register(client, url)
        client.wait(client.send("/v1/jobs").json()["id"])
        webhooks = client.service.webhooks
        taken = webhooks.take(busy=(), lease_seconds=3)
        assert taken is not None
        assert webhooks.take(busy=(), lease_seconds=3) is None
        with Deliverer(webhooks, client.service.guard, threads=1):
            receiver.wait(1)
        webhooks.settle(taken.delivery, status=500, error="late")  # of an attempt that is no more
        with client.service.database.reading() as session:
            row = session.scalars(select(Delivery)).one()
        assert (row.state, row.attempt) == ("delivered", 2)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://168.63.129.16/",
        "https://100.100.100.200/",
        "https://10.1.2.3/",
        "https://0.0.0.0/",
        "https://[fe80::1]/",
        "https://224.0.0.1/",
        "http://shop.example/",
        "ftp://shop.example/",
        "https://user:word@shop.example/",
        "https://shop.example/#part",
        "https://shop.example:0/",
        "https://shop.example:99999/",
        "https://shop.example\\@127.0.0.1/",
        "https://shop.example/\r\nX-Injected: 1",
        "https://shop.example/ü",
        "https://ＳＨＯＰ.example/",
        "https:///path",
        "https://" + "a" * 2000,
    ],
)
def test_addresses_that_are_refused_at_once(client: Client, url: str) -> None:
    client.service.guard._private = frozenset()
    answer = client.post("/v1/webhooks", json={"url": url, "events": ["job.done"]})
    assert answer.status_code == 422
    assert answer.json()["code"] in (Code.ADDRESS_REFUSED, Code.BAD_REQUEST)
    assert client.get("/v1/webhooks").json() == {"webhooks": []}


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1"])
def test_a_name_that_leads_home_is_refused_when_it_is_resolved(client: Client, host: str) -> None:
    client.service.guard._private = frozenset()
    with receiving() as (receiver, url):
        port = url.rpartition(":")[2]
        body = {"url": f"https://{host}:{port}/", "events": ["job.done"]}
        hook = client.post("/v1/webhooks", json=body).json()
        client.wait(client.send("/v1/jobs").json()["id"])
        (dead,) = settled(client, hook)
    assert "private network" in dead["error"]
    assert receiver.got == []


def test_a_host_is_resolved_once_and_that_address_is_used(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def resolve(host: str, port: int, *how: Any, **more: Any) -> list[Any]:
        asked.append(host)
        rebound = "127.0.0.1" if host == "shop.example" else host
        return [(2, 1, 6, "", (rebound, port))]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", resolve)
    with receiving() as (receiver, url):
        client.service.guard._private = frozenset({"shop.example"})
        hook = register(client, url.replace("127.0.0.1", "shop.example"))
        client.wait(client.send("/v1/jobs").json()["id"])
        receiver.wait(1)
        settled(client, hook)
    assert receiver.got[0].headers["host"].startswith("shop.example:")
    assert asked.count("shop.example") == 1


def test_endless_and_silent_receivers_are_left(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepfake_service.outside.deliverer.SECONDS", 0.4)

    def drip() -> Iterator[bytes]:
        for _ in range(100):
            time.sleep(0.05)
            yield b"x"

    with receiving(lambda got: Say(200, chunks=drip())) as (receiver, url):
        hook = register(client, url)
        client.wait(client.send("/v1/jobs").json()["id"])
        (dead,) = settled(client, hook)
        assert (dead["state"], dead["tries"]) == ("dead", 3)
        receiver.answer = lambda got: Say(200, chunks=iter([b"x" * 1_000_000] * 1000))
        client.wait(client.send("/v1/jobs").json()["id"])
        assert settled(client, hook)[0]["state"] == "delivered"


def test_a_tenant_has_so_many_webhooks_and_pages_of_deliveries_go_on(client: Client) -> None:
    with receiving() as (receiver, url):
        hook = register(client, url)
        for _ in range(3):
            client.wait(client.send("/v1/jobs").json()["id"])
        receiver.wait(3)
        settled(client, hook)
        path = f"/v1/webhooks/{hook['id']}/deliveries"
        page = client.get(f"{path}?limit=2").json()
        rest = client.get(f"{path}?limit=2&cursor={page['next']}").json()
        assert [len(page["deliveries"]), len(rest["deliveries"])] == [2, 1]
        assert rest["next"] is None
        for _ in range(19):
            last = register(client, url)
        body = {"url": "https://shop.example/", "events": ["job.done"]}
        refused = client.post("/v1/webhooks", json=body)
        assert (refused.status_code, refused.json()["code"]) == (409, Code.CONFLICT)
        assert client.ask("DELETE", f"/v1/webhooks/{last['id']}").status_code == 200
        assert client.get(f"/v1/webhooks/{last['id']}").status_code == 404
        assert client.post("/v1/webhooks", json=body).status_code == 201


def test_the_command_does_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with keys_in(tmp_path) as keys:
        keys.create(tenant="shop")

    def run(*words: str, status: int = 0) -> str:
        assert main(["webhooks", *words, "--tenant", "shop", "--data", str(tmp_path)]) == status
        printed = capsys.readouterr()
        return printed.out or printed.err

    id, secret = run("add", "https://shop.example/told", "--events", "job.done").split()
    assert secret.startswith("whsec_")
    assert "active" in run("list")
    assert run("rotate", id).split()[1] != secret
    assert "last error" in run("deliveries", id)
    assert "private network" in run("add", "https://127.0.0.1/", status=1)
    assert "choose some of job.done" in run("add", "https://a.example/", "--events", "x", status=2)
    assert "none of this id" in run("retry", id, "msg_' OR 1=1", status=1)
    assert run("remove", id).split()[-1] == id
    assert main(["webhooks", "list", "--tenant", "nobody", "--data", str(tmp_path)]) == 2


def test_the_words_of_the_command_are_those_of_the_store() -> None:
    from deepfake.commands.webhooks import EVENTS as WORDS

    assert list(WORDS) == EVENTS


def test_what_is_told_is_json_whatever_a_file_is_called(client: Client) -> None:
    with receiving() as (receiver, url):
        register(client, url)
        name = 'a"\n\x1b[31m\u202e.png'
        client.wait(client.send("/v1/jobs", params={"name": name}).json()["id"])
        (got,) = receiver.wait(1)
    told = json.loads(got.body)["data"]["name"]
    assert "\n" not in told
    assert "\x1b" not in told
