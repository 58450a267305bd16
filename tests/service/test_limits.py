"""How much a key may ask for, and how much of a report it sees."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deepfake_service.answers import redact
from deepfake_service.store import budgets
from deepfake_service.store.keys import Allowance, Policy

from deepfake.detector import Detector
from deepfake.errors import ServiceError
from deepfake.reasons import Code
from deepfake.types import Evidence, Heatmap, Report, Status, Timeline, Weight
from tests.faulty import Endless
from tests.media_files import image_bytes, scene, tone, wav_bytes
from tests.reports import POINTS, make_report
from tests.service.serving import EVERYTHING, PICTURE, Client, serviced


@pytest.fixture
def client(detector: Detector, tmp_path: Path) -> Iterator[Client]:
    with serviced(detector, tmp_path) as client:
        yield client


def limited(client: Client, **allowance: float | str) -> None:
    client.key = client.service.keys.create(
        tenant="shop",
        scopes=EVERYTHING,
        allowance=Allowance(**allowance),  # type: ignore[arg-type]
    )


def test_a_rate_is_held_and_told(client: Client) -> None:
    limited(client, rate="3/minute")
    left = []
    for _ in range(3):
        answer = client.get("/v1/models")
        assert answer.status_code == 200
        assert answer.headers["ratelimit-policy"] == '"default";q=3;w=60'
        left.append(answer.headers["ratelimit"].split(";")[1])
    assert left == ["r=2", "r=1", "r=0"]
    refused = client.send("/v1/detect")
    assert (refused.status_code, refused.json()["code"]) == (429, Code.RATE_LIMITED)
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert refused.headers["ratelimit"].startswith('"default";r=0;t=')
    limited(client, rate="3/minute")
    assert client.get("/v1/models").status_code == 200


def test_a_clock_that_is_set_back_makes_nobody_wait_longer(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(client, rate="1/minute")
    now = time.time()
    assert client.get("/v1/models").status_code == 200
    assert client.get("/v1/models").status_code == 429
    monkeypatch.setattr(time, "time", lambda: now - 86_400)
    assert client.get("/v1/models").status_code == 200
    assert client.get("/v1/models").status_code == 429
    monkeypatch.setattr(time, "time", lambda: now + 86_400)
    assert client.get("/v1/models").status_code == 200


def test_a_clock_that_is_set_back_loses_no_job(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepfake_service.store import database

    now = database.now_ms()
    for step in (-86_400_000, 86_400_000, 0):
        monkeypatch.setattr(database, "now_ms", lambda step=step: now + step)
        assert client.wait(client.send("/v1/jobs").json()["id"])["state"] == "done"


def test_files_of_a_day_are_counted_before_they_are_examined(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(client, files_a_day=3)
    assert client.send("/v1/detect").status_code == 200
    many = client.post("/v1/batches", files=[("file", ("a.png", PICTURE))] * 3)
    assert (many.status_code, many.json()["code"]) == (429, Code.BUDGET_SPENT)
    assert client.send("/v1/detect", b"nothing").status_code == 422
    repeat = {"Idempotency-Key": "a"}
    assert client.send("/v1/jobs", headers=repeat).status_code == 202
    assert client.send("/v1/jobs", headers=repeat).status_code == 202
    spent = client.send("/v1/detect")
    assert spent.status_code == 429
    assert 0 < int(spent.headers["retry-after"]) <= 86_400
    assert client.get("/v1/jobs").status_code == 200
    now = budgets.now_ms()
    monkeypatch.setattr(budgets, "now_ms", lambda: now + budgets.DAY_MS)
    assert client.send("/v1/detect").status_code == 200


@pytest.mark.parametrize("path", ["/v1/detect", "/v1/jobs"])
def test_what_the_service_could_not_examine_is_not_counted(
    client: Client, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    limited(client, files_a_day=1)
    service = client.service
    refused = ServiceError("database: does not answer", code=Code.DATABASE, status=503)

    def refuse(*told: object, **more: object) -> None:
        raise refused

    for place, method in {
        "/v1/detect": [(service.examiner, "known_of"), (service.reports, "add")],
        "/v1/jobs": [(service.media, "keep"), (service.audit, "note_line"), (service.jobs, "add")],
    }[path]:
        with monkeypatch.context() as patch:
            patch.setattr(place, method, refuse)
            headers = {"Idempotency-Key": "same"}
            for _ in range(2):
                assert client.send(path, headers=headers).status_code == 503, method
    assert client.send(path).status_code in (200, 202)
    assert client.send(path).status_code == 429


def test_a_file_that_found_no_room_in_line_is_not_counted(
    detector: Detector, endless: Endless, tmp_path: Path
) -> None:
    with serviced(detector, tmp_path, examinations=1, waiting=0) as client:
        limited(client, files_a_day=2)
        stuck = image_bytes(scene(13, 40))
        slow = threading.Thread(target=lambda: client.send("/v1/detect", stuck))
        slow.start()
        assert endless.begun.wait(20)
        for _ in range(3):
            busy = client.send("/v1/detect")
            assert (busy.status_code, busy.json()["code"]) == (503, Code.BUSY)
        client.service.examiner.stop()
        slow.join(20)
        assert client.send("/v1/detect").status_code == 200
        assert client.send("/v1/detect").status_code == 429


def test_what_cannot_be_given_back_now_is_owed(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(client, files_a_day=2)
    identity = client.service.identify(client.key)
    assert identity is not None
    counted = client.service.budgets
    counted.take(identity, files=2)

    def refuse(*told: object) -> None:
        raise ServiceError("database: does not answer", code=Code.DATABASE, status=503)

    with monkeypatch.context() as patch:
        patch.setattr(budgets, "_today", refuse)
        counted.give_back(identity, files=1)
        with pytest.raises(ServiceError, match="does not answer"):
            counted.take(identity, files=1)
    counted.take(identity, files=1)
    with pytest.raises(ServiceError, match="2 of 2 files"):
        counted.take(identity, files=1)


def test_seconds_of_media_are_counted_once_they_are_examined(client: Client) -> None:
    limited(client, seconds_a_day=1.5)
    sound = wav_bytes(tone(seconds=1.0))
    assert client.send("/v1/detect", sound).status_code == 200
    assert client.wait(client.send("/v1/jobs", sound).json()["id"])["state"] == "done"
    spent = client.send("/v1/detect")
    assert (spent.status_code, spent.json()["code"]) == (429, Code.BUDGET_SPENT)
    assert "2 of 1.5 seconds" in spent.json()["detail"]


def telling() -> Report:
    scored = Evidence(
        source="image",
        status=Status.OK,
        claim="Traces were found (score 0.73).",
        score=0.7312,
        interval=(0.6, 0.8),
        points=POINTS,
        timelines=(Timeline(name="a", seconds=(0.0,), scores=(0.7312,)),),
        heatmaps=(Heatmap(name="a", values=((0.7312,),)),),
        details={"logit": 1.0},
    )
    claim = Evidence(source="metadata", status=Status.OK, claim="Says so.", weight=Weight.CLAIM)
    return make_report(scored, claim)


def test_a_policy_shows_only_so_much() -> None:
    report = telling()
    assert redact(report, Policy.FULL) == report
    rounded = redact(report, Policy.ROUNDED)
    text = str(rounded.to_dict())
    assert "0.73" not in text
    assert "logit" not in text
    assert rounded.verdict == report.verdict
    assert rounded.interval is None
    image, metadata = rounded.evidence
    assert (image.score, image.heatmaps, image.timelines) == (0.7, (), ())
    assert metadata.claim == "Says so."
    bare = redact(report, Policy.VERDICT)
    assert (bare.probability, bare.evidence, bare.seconds) == (None, (), 0)
    assert [reason.code for reason in bare.reasons] == [it.code for it in report.reasons]


@pytest.mark.parametrize("policy", list(Policy))
def test_keys_see_a_report_by_their_policy(
    known_detector: Detector, tmp_path: Path, policy: Policy
) -> None:
    with serviced(known_detector, tmp_path) as client:
        key = client.service.keys.create(tenant="shop", scopes=EVERYTHING, policy=policy)
        full = client.service.keys.create(tenant="shop", scopes=EVERYTHING)
        client.key = key
        said = client.send("/v1/detect?heatmap=true").json()
        page = client.get(f"/v1/reports/{said['id']}?format=html").text
        again = client.get(f"/v1/reports/{said['id']}").json()
        assert again == said
        assert said["policy"] == policy
        client.key = full
        whole = client.get(f"/v1/reports/{said['id']}").json()["report"]
        exact = [item["score"] for item in whole["evidence"] if item["score"] is not None]
        assert exact
        shown = f"{said['report']} {page}"
        assert all(str(score) in shown for score in exact) == (policy is Policy.FULL)
        if policy is not Policy.FULL:
            assert f"{exact[0]:.2f}" not in shown.replace(said["report"]["sha256"], "")
