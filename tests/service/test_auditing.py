"""What is entered in the audit log of who asked what, and what is not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deepfake_app.examination import Examiner
from deepfake_app.limits import PageLimits
from deepfake_app.storage import Uploads
from deepfake_service.store.keys import Identity

from deepfake.detector import Detector
from deepfake.reasons import Code
from deepfake.settings import DetectOptions
from deepfake.trust.audit import AuditLog, search_entries, verify_log
from deepfake.trust.keys import PrivatePair, index_pairs, read_private_pair
from tests.bundles import keys_of_tests
from tests.media_files import image_bytes, scene
from tests.service.serving import EVERYTHING, PICTURE, Client, serviced

NAME = "holiday-with-ada.png"
SHA256 = hashlib.sha256(PICTURE).hexdigest()


@pytest.fixture
def pair() -> PrivatePair:
    return read_private_pair(keys_of_tests())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def client(
    known_detector: Detector, tmp_path: Path, log: Path, pair: PrivatePair
) -> Iterator[Client]:
    with (
        AuditLog(log, pair, who="service", most_bytes=8000) as audit,
        serviced(known_detector, tmp_path / "service", audit=audit, audit_requests=True) as client,
    ):
        client.key = client.service.keys.create(tenant="shop", scopes=EVERYTHING)
        yield client


def entries(log: Path, *what: str) -> list[dict[str, Any]]:
    return [line for line in search_entries(log) if line["what"] in what]


def test_it_says_who_asked_what_and_which_bundles_answered_what(client: Client, log: Path) -> None:
    answer = client.send(f"/v1/detect?name={NAME}").json()
    (line,) = entries(log, "detect")
    assert client.key is not None
    report = answer["report"]
    assert line["who"] == client.key.split("_")[1]
    assert (line["media"], line["verdict"]) == (SHA256, report["verdict"])
    named = {slot: (one["name"], one["sha256"]) for slot, one in line["bundles"].items()}
    assert named == {
        slot: (report["versions"][slot], sha256) for slot, sha256 in report["bundles"].items()
    }
    assert "image" in named
    assert client.send("/v1/detect", b"nothing").status_code == 422
    assert entries(log, "detect")[1]["error"] == Code.UNSUPPORTED
    assert entries(log, "detect")[1]["media"] is None


def test_a_report_that_is_sent_again_is_entered_as_read(client: Client, log: Path) -> None:
    headers = {"Idempotency-Key": "k"}
    report = client.send("/v1/detect", headers=headers).json()["id"]
    assert client.send("/v1/detect", headers=headers).json()["id"] == report
    assert len(entries(log, "detect")) == 1
    assert [line["about"] for line in entries(log, "report_read")] == [report]


def test_jobs_readings_and_rulings_are_entered(client: Client, log: Path) -> None:
    job = client.wait(client.send(f"/v1/jobs?name={NAME}").json()["id"])
    report = job["report"]
    client.get(f"/v1/reports/{report}")
    client.post("/v1/feedback", json={"report": report, "ruling": "escalate", "note": "Ask Ada"})
    bad = client.wait(client.send("/v1/jobs", b"nothing").json()["id"])
    assert client.key is not None
    lines = entries(log, "job_added", "job", "report_read", "ruling_escalate")
    assert {line["who"] for line in lines} == {client.key.split("_")[1]}
    assert [(line["what"], line["about"], line["error"]) for line in lines] == [
        ("job_added", job["id"], None),
        ("job", job["id"], None),
        ("report_read", report, None),
        ("ruling_escalate", report, None),
        ("job_added", bad["id"], None),
        ("job", bad["id"], Code.UNSUPPORTED),
    ]
    assert [line["media"] for line in lines[1:4]] == [SHA256] * 3
    assert client.get("/v1/reports/rep_" + 32 * "0").status_code == 404
    assert len(entries(log, "report_read")) == 1


def test_neither_names_nor_notes_nor_accounts_are_in_it(client: Client, log: Path) -> None:
    client.send(f"/v1/detect?name={NAME}")
    report = client.wait(client.send(f"/v1/jobs?name={NAME}").json()["id"])["report"]
    client.post("/v1/feedback", json={"report": report, "ruling": "confirm", "note": "Ask Ada"})
    identity = client.service.identify(client.key)
    assert identity is not None
    ada: Identity = replace(identity, key=None, account=1, shown="ada@shop.example")
    grace: Identity = replace(ada, account=2, shown="grace@shop.example")
    for who in (ada, grace, ada):
        client.service.read_report(who, report)
    text = b"".join(path.read_bytes() for path in log.parent.glob("audit.jsonl*"))
    for word in (b"ada", b"Ada", b"holiday", b"shop"):
        assert word not in text
    first, second, third = (line["who"] for line in entries(log, "report_read"))
    assert first == third != second
    assert first.startswith("p-")


def test_what_cannot_be_entered_is_not_answered(client: Client, log: Path) -> None:
    log.unlink(missing_ok=True)
    log.mkdir()
    refused = client.send("/v1/detect")
    assert (refused.status_code, refused.json()["code"]) == (503, Code.DATABASE)
    assert refused.headers["retry-after"] == "5"
    assert client.media() == []
    assert client.send("/v1/jobs").status_code == 503
    assert client.get("/v1/jobs").json()["jobs"] == []
    log.rmdir()
    assert client.send("/v1/detect").status_code == 200


def test_the_chain_goes_on_when_many_ask_and_the_log_is_rotated(
    client: Client, log: Path, pair: PrivatePair
) -> None:
    pictures = [image_bytes(scene(40, 30 + place)) for place in range(24)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda one: client.send("/v1/detect", one), pictures))
    assert {answer.status_code for answer in answers} == {200}
    verified = verify_log(log, index_pairs([pair.public]))
    assert verified.files > 1
    assert {line["media"] for line in entries(log, "detect")} == {
        hashlib.sha256(one).hexdigest() for one in pictures
    }


@pytest.mark.parametrize("told", [{}, {"audit_requests": True}])
def test_without_a_log_or_the_wish_nothing_is_entered(
    told: dict[str, bool], known_detector: Detector, tmp_path: Path, log: Path, pair: PrivatePair
) -> None:
    audit = None if told else AuditLog(log, pair, who="service")
    with serviced(known_detector, tmp_path / "service", audit=audit, **told) as client:
        assert client.send("/v1/detect").status_code == 200
    assert not log.exists()


def test_the_page_is_entered_too(client: Client, log: Path, tmp_path: Path) -> None:
    limits, folder = PageLimits(), tmp_path / "page"
    folder.mkdir()
    uploads = Uploads(folder, limits)
    examiner = Examiner(
        detector=client.service.detector,
        uploads=uploads,
        limits=limits,
        told=client.service.audit.note_page,
    )
    with uploads.receiving(NAME) as incoming:
        incoming.write(PICTURE)
    with uploads.claimed(str(incoming.path), name=NAME) as upload:
        report = examiner.report_on(upload, DetectOptions(), watch=examiner.watch())
    (line,) = entries(log, "page")
    assert (line["who"], line["media"]) == ("no-key", SHA256)
    assert line["verdict"] == report.verdict
