"""The monitor of a service: alarms, its page, what it keeps, and a database that is away."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from deepfake_service.monitoring import monitor as module
from deepfake_service.monitoring.drift import Stream
from deepfake_service.monitoring.field import wilson
from deepfake_service.monitoring.monitor import Alarm, Monitor

from deepfake.detector import Detector
from deepfake.reasons import Code
from tests.reports import make_evidence, make_report
from tests.service.serving import EVERYTHING, Client, break_database, serviced

REPORT = make_report(make_evidence("image", score=0.1), width=64, height=48)
OTHER = make_report(make_evidence("image", score=0.9), width=64, height=48, format="webp")


@dataclass
class Quick(Stream):
    choosing: int = 20
    counting: int = 20


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference of 40 files."""
    monkeypatch.setattr(module, "Stream", Quick)


def fill(monitor: Monitor, tenant: int, *, unlike: int = 0) -> None:
    for _ in range(40):
        monitor.note(tenant, REPORT)
    for _ in range(unlike):
        monitor.note(tenant, OTHER)


@pytest.mark.usefixtures("quick")
def test_an_alarm_is_told_once_a_day_and_counted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.key = client.service.keys.create(tenant="shop", scopes=EVERYTHING)
    tenant = client.service.keys.identify(client.key).tenant  # type: ignore[union-attr]
    monitor, told = client.service.monitor, list[Alarm]()
    count = monitor.alarmed
    monitor.alarmed = lambda alarm: (told.append(alarm), count(alarm))[0]
    fill(monitor, tenant, unlike=200)
    assert [(it.tenant, it.kind) for it in told] == [("shop", "image")]
    assert {it.event.signal for it in told[0].changes} & {"format", "image score"}
    assert f'kind="image",signal="{told[0].signal}"}} 1.0' in client.get("/metrics").text
    now = module.now_ms()
    monkeypatch.setattr(module, "now_ms", lambda: now + module.AGAIN_MS)
    monitor.note(tenant, OTHER)
    assert len(told) == 2
    json.dumps(told[0].to_dict())


@pytest.mark.usefixtures("quick")
def test_the_page_shows_streams_alarms_and_rulings_and_loads_nothing(client: Client) -> None:
    client.key = client.service.keys.create(tenant="shop", scopes=EVERYTHING)
    empty = client.get("/monitor")
    assert "No file was examined yet" in empty.text
    report = client.send("/v1/detect").json()["id"]
    for ruling in ("overturn", "confirm"):  # the last one counts
        client.post("/v1/feedback", json={"report": report, "ruling": ruling})
    tenant = client.service.keys.identify(client.key).tenant  # type: ignore[union-attr]
    learning = client.get("/monitor").text
    assert "being learnt: 2.5 %" in learning
    fill(client.service.monitor, tenant, unlike=200)
    page = client.get("/monitor")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for word in ("<svg", "The stream has changed", "Alarms", "confirmed"):
        assert word in page.text
    for loading in ("<script", "http:", "https:", "src=", "@import", "url("):
        assert loading not in page.text
    said = client.get("/monitor?format=json").json()
    assert said["streams"][0]["alarms"][0]["tenant"] == "shop"
    (held,) = said["field"]
    assert (held["confirmed"], held["overturned"], held["share"]) == (1, 0, 1.0)
    assert 0.15 < held["low"] < 0.25


@pytest.mark.usefixtures("quick")
def test_a_change_that_stays_is_learnt_on_request(client: Client) -> None:
    client.key = client.service.keys.create(tenant="shop", scopes=EVERYTHING)
    tenant = client.service.keys.identify(client.key).tenant  # type: ignore[union-attr]
    fill(client.service.monitor, tenant, unlike=200)
    assert client.ask("DELETE", "/monitor/shop/image").status_code == 204
    assert client.get("/monitor?format=json").json()["streams"] == []
    for path in ("/monitor/shop/image", "/monitor/other/image", "/monitor/shop/sculpture"):
        answer = client.ask("DELETE", path)
        assert answer.status_code in (404, 422)
        assert answer.json()["code"] in (Code.NOTHING_HERE, Code.BAD_REQUEST)


@pytest.mark.usefixtures("quick")
def test_streams_survive_the_process_and_begin_anew_with_other_bundles(
    detector: Detector, tmp_path: Path
) -> None:
    with serviced(detector, tmp_path) as client:
        client.get("/v1/models")
        tenant = client.service.keys.identify(None).tenant  # type: ignore[union-attr]
        fill(client.service.monitor, tenant, unlike=3)
    with serviced(detector, tmp_path) as client:
        (stream,) = client.service.monitor.streams()
        assert (stream.files, stream.learnt) == (43, 1.0)
        newer = replace(REPORT, versions={"deepfake": "0", "image": "image-99"})
        client.service.monitor.note(tenant, newer)
        (stream,) = client.service.monitor.streams()
        assert (stream.files, stream.learnt) == (1, 1 / 40)


def test_a_database_that_is_away_stops_no_report(client: Client) -> None:
    client.get("/v1/models")
    tenant = client.service.keys.identify(None).tenant  # type: ignore[union-attr]
    break_database(client)
    client.service.monitor.note(tenant, REPORT)  # raises nothing


def test_files_that_are_alike_are_told(client: Client) -> None:
    client.get("/v1/models")
    tenant = client.service.keys.identify(None).tenant  # type: ignore[union-attr]
    monitor = client.service.monitor
    for size in (1000, 1010, 3000):
        monitor.note(tenant, make_report(width=64, height=48, bytes=size))
    (kept,) = monitor._kept.values()
    assert kept.stream.values["repeats"] == ["no", "yes", "no"]


@pytest.mark.parametrize(
    ("successes", "of", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.2775), (9, 10, 0.5958, 0.9821), (50, 100, 0.4038, 0.5962)],
)
def test_intervals_are_wilson_s(successes: int, of: int, low: float, high: float) -> None:
    assert wilson(successes, of) == pytest.approx((low, high), abs=5e-5)
