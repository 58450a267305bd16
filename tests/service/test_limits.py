"""How much a key may ask for, and how much of a report it sees."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deepfake_service.answers import redact
from deepfake_service.store import budgets
from deepfake_service.store.keys import Allowance, Policy

from deepfake.detector import Detector
from deepfake.reasons import Code
from deepfake.types import Evidence, Heatmap, Report, Status, Timeline, Weight
from tests.media_files import tone, wav_bytes
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
