"""Each tenant's rulings are its index of known media."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deepfake_service.store.tables import StoredReport

from deepfake.detector import Detector
from deepfake.known.index import changing
from deepfake.reasons import Code
from deepfake.settings import Settings
from tests.faulty import Endless
from tests.known.patterns import pattern
from tests.known.test_index import entry
from tests.media_files import image_bytes
from tests.service.serving import EVERYTHING, Client, serviced

FIRST = image_bytes(pattern(1))
COPY = image_bytes(pattern(1)[6:-6, 5:-5], "jpeg", quality=60)


@pytest.fixture
def client(known_detector: Detector, tmp_path: Path) -> Iterator[Client]:
    with serviced(known_detector, tmp_path / "service") as client:
        client.key = client.service.keys.create(tenant="shop", scopes=EVERYTHING)
        yield client


def codes(client: Client, content: bytes = COPY) -> set[str]:
    answer = client.send("/v1/detect", content)
    assert answer.status_code == 200
    return {reason["code"] for reason in answer.json()["report"]["reasons"]}


def rule(client: Client, report: str, ruling: str) -> None:
    answer = client.post("/v1/feedback", json={"report": report, "ruling": ruling})
    assert answer.status_code == 201


def set_verdict(client: Client, verdict: str) -> str:
    """The id of a report on the first file that ended so."""
    report = client.send("/v1/detect", FIRST).json()["id"]
    with client.service.database.writing() as session:
        row = session.query(StoredReport).filter_by(id=report).one()
        row.verdict = verdict
    return str(report)


@pytest.mark.parametrize(
    ("verdict", "ruling", "code"),
    [
        ("synthetic", "confirm", Code.KNOWN_SYNTHETIC),
        ("authentic", "overturn", Code.KNOWN_SYNTHETIC),
        ("synthetic", "overturn", Code.KNOWN_GENUINE),
        ("suspicious", "overturn", Code.KNOWN_GENUINE),
        ("authentic", "confirm", Code.KNOWN_GENUINE),
        ("suspicious", "confirm", None),
        ("inconclusive", "confirm", None),
        ("synthetic", "escalate", None),
    ],
)
def test_a_ruling_is_found_in_reports_on_copies(
    client: Client, verdict: str, ruling: str, code: Code | None
) -> None:
    rule(client, set_verdict(client, verdict), ruling)
    assert {it for it in codes(client) if it.startswith("known")} == ({code} if code else set())


def test_a_later_ruling_takes_back_an_earlier_one(client: Client) -> None:
    report = set_verdict(client, "synthetic")
    for ruling, code in (
        ("confirm", Code.KNOWN_SYNTHETIC),
        ("overturn", Code.KNOWN_GENUINE),
        ("escalate", None),
        ("confirm", Code.KNOWN_SYNTHETIC),
    ):
        rule(client, report, ruling)
        found = {it for it in codes(client) if it.startswith("known")}
        assert found == ({code} if code else set()), ruling


def test_jobs_know_it_too_and_it_outlives_the_report(client: Client) -> None:
    report = set_verdict(client, "synthetic")
    rule(client, report, "confirm")
    client.service.reports.forget(keep_days=-1)
    assert client.get(f"/v1/reports/{report}").status_code == 404
    job = client.wait(client.send("/v1/jobs", COPY).json()["id"])
    answer = client.get(f"/v1/reports/{job['report']}").json()["report"]
    assert answer["reasons"][0]["code"] in {*codes(client)}
    (known,) = [it for it in answer["evidence"] if it["source"] == "known"]
    assert str(client.key).split("_")[1] in known["claim"]


def test_other_tenants_know_nothing_of_it(client: Client) -> None:
    rule(client, set_verdict(client, "synthetic"), "confirm")
    assert Code.KNOWN_SYNTHETIC in codes(client)
    client.key = client.service.keys.create(tenant="other", scopes=EVERYTHING)
    assert not {it for it in codes(client) if it.startswith("known")}


def test_an_index_for_all_tenants_is_believed_by_each(known_models: Path, tmp_path: Path) -> None:
    index = tmp_path / "known.jsonl"
    with changing(index) as entries:
        entries["a", "b"] = entry(1)
    settings = Settings(models_folder=known_models, threads=1, known=index)
    with (
        Detector(settings, analyzers=(Endless(),)) as detector,
        serviced(detector, tmp_path / "service") as client,
    ):
        assert Code.KNOWN_SYNTHETIC in codes(client)
        own = client.send("/v1/detect", image_bytes(pattern(2))).json()["id"]
        with client.service.database.writing() as session:
            session.query(StoredReport).filter_by(id=own).one().verdict = "synthetic"
        rule(client, own, "overturn")
        assert Code.KNOWN_SYNTHETIC in codes(client)
        assert Code.KNOWN_GENUINE in codes(client, image_bytes(pattern(2), "jpeg", quality=50))
