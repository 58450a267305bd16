"""What is kept, given out and erased, by the command and beside a running service."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zipfile
from pathlib import Path

import pytest
from deepfake_service.media import SharedMedia
from deepfake_service.privacy import kept as kept_module
from deepfake_service.privacy.kept import Retention
from deepfake_service.sealing import Unopened
from deepfake_service.store.tables import Event, KnownFile

from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.errors import SettingsError
from deepfake.types import Verdict
from tests.media_files import image_bytes, scene
from tests.service.pages.visiting import enter
from tests.service.postgres import postgresql
from tests.service.serving import EVERYTHING, PICTURE, Client, serviced

DAY_MS = 86_400_000
STUCK = image_bytes(scene(13, 40))


def keep_everything(client: Client, tenant: str = "shop") -> str:
    """A key of a tenant whose media are kept."""
    client.key = client.service.keys.create(tenant=tenant, scopes=EVERYTHING)
    client.service.kept.retain(tenant, Retention.parse("days=7"))
    return client.key


def kept_files(client: Client) -> list[Path]:
    return [path for path in client.service.kept.folder.rglob("*") if path.is_file()]


def run(client: Client, *words: str) -> int:
    return main(["privacy", *words, "--data", str(client.service.settings.folder)])


def count(client: Client, table: str) -> int:
    with sqlite3.connect(client.service.settings.database) as connection:
        number: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return number


def test_no_media_is_kept_unless_that_was_decided(client: Client) -> None:
    client.send("/v1/detect")
    client.wait(client.send("/v1/jobs").json()["id"])
    assert client.media() == kept_files(client) == []


def test_classes_say_what_is_kept() -> None:
    for text, verdicts in {
        "none": set(),
        "evidence": {Verdict.SYNTHETIC, Verdict.SUSPICIOUS},
        "days=30": set(Verdict),
        "hold": set(Verdict),
    }.items():
        retention = Retention.parse(text)
        assert str(retention) == text
        assert {word for word in Verdict if retention.keeps(word)} == verdicts
    for text in ("", "days", "days=0", "days=-1", "days=1e9", "forever", "hold; none", "days=９"):
        with pytest.raises(SettingsError, match="choose none"):
            Retention.parse(text)


def test_kept_media_are_sealed_and_deleted_in_time(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_everything(client)
    report = client.send("/v1/detect").json()["id"]
    job = client.wait(client.send("/v1/jobs").json()["id"])
    files = kept_files(client)
    assert len(files) == 2
    assert all(PICTURE[:64] not in path.read_bytes() for path in files)
    assert client.media() == []
    service = client.service
    tenant = service.keys.identify(client.key).tenant  # type: ignore[union-attr]
    for id in (report, job["report"]):
        parts = service.kept.open(tenant, id)
        assert parts is not None
        assert b"".join(parts) == PICTURE
    assert service.kept.open(tenant + 1, report) is None
    swapped = files[0].read_bytes()
    files[0].write_bytes(files[1].read_bytes())
    with pytest.raises(Unopened):
        [b"".join(service.kept.open(tenant, id) or ()) for id in (report, job["report"])]
    files[0].write_bytes(swapped)
    now = kept_module.now_ms()
    monkeypatch.setattr(kept_module, "now_ms", lambda: now + 6 * DAY_MS)
    service.forget()
    assert len(kept_files(client)) == 2
    service.kept.retain("shop", Retention.parse("hold"))
    monkeypatch.setattr(kept_module, "now_ms", lambda: now + 8 * DAY_MS)
    service.forget()
    assert len(kept_files(client)) == 2
    service.kept.retain("shop", Retention.parse("none"))
    service.forget()
    assert kept_files(client) == []
    assert client.get(f"/v1/reports/{report}").status_code == 200


def test_a_full_disk_loses_no_report(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_everything(client)

    def fail(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_module, "seal_stream", fail)
    answer = client.send("/v1/detect")
    assert answer.status_code == 200
    assert client.get(f"/v1/reports/{answer.json()['id']}").status_code == 200
    assert kept_files(client) == client.media() == []


def test_a_subject_is_given_out_and_erased_and_the_log_proves_it_without_naming_it(
    client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_everything(client, "other")
    other = client.send("/v1/detect").json()["id"]
    key = keep_everything(client)
    answer = client.send("/v1/detect", headers={"Idempotency-Key": "k"}).json()
    client.post("/v1/feedback", json={"report": answer["id"], "ruling": "overturn", "note": "me"})
    client.wait(client.send("/v1/jobs").json()["id"])
    with client.service.database.writing() as session:
        values = {"ruled": "synthetic", "ruled_by": "desk", "fingerprint": None, "created": 1}
        tenant = client.service.keys.identify(key).tenant  # type: ignore[union-attr]
        sha256 = answer["report"]["sha256"]
        session.add(KnownFile(tenant=tenant, report=answer["id"], sha256=sha256, **values))
    stays = client.send("/v1/detect", image_bytes(scene(seed=5))).json()["id"]
    subject = ["--subject", answer["report"]["sha256"], "--tenant", "shop"]
    out = tmp_path / "out.zip"
    assert run(client, "export", *subject, "--output", str(out)) == 0
    with zipfile.ZipFile(out) as archive:
        names = archive.namelist()
        assert f"reports/{answer['id']}.json" in names
        assert archive.read(f"media/{answer['id']}") == PICTURE
        assert json.loads(archive.read("rulings.json"))[0]["note"] == "me"
        assert len(json.loads(archive.read("jobs.json"))) == 1
        assert [one["sha256"] for one in json.loads(archive.read("known.json"))] == [
            answer["report"]["sha256"]
        ]
    assert run(client, "export", *subject, "--output", str(out)) == 2  # never over a file
    assert run(client, "prove", *subject) == 0
    capsys.readouterr()
    assert run(client, "erase", *subject) == 1  # nobody is there to say yes
    assert run(client, "erase", *subject, "--yes") == 0
    assert "erased: 2 reports, 1 rulings, 1 jobs, 2 media" in capsys.readouterr().out
    client.key = key
    assert client.get(f"/v1/reports/{answer['id']}").status_code == 404
    assert client.get(f"/v1/reports/{stays}").status_code == 200
    assert len(kept_files(client)) == 2
    folder = client.service.settings.folder
    log = (folder / "audit.jsonl").read_text()
    assert answer["report"]["sha256"] not in log
    assert answer["id"] not in log
    assert run(client, "prove", *subject) == 0
    said = [json.loads(line)["what"] for line in capsys.readouterr().out.splitlines()]
    assert said == ["exported_subject", "erasing_subject", "erased_subject"]
    assert '"who": "p-' in log or '"who":"p-' in log
    assert main(["audit", "verify", str(folder / "audit.jsonl")]) == 0
    for path in folder.glob("service.sqlite*"):
        assert answer["id"].encode() not in path.read_bytes(), path
    assert count(client, "reports") == 2
    assert count(client, "known") == 0
    assert other


def test_a_tenant_is_erased_with_its_key_and_lets_nobody_in_afterwards(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_everything(client)
    client.send("/v1/detect")
    sealed = kept_files(client)[0].read_bytes()
    tenant = client.service.keys.identify(client.key).tenant  # type: ignore[union-attr]
    client.service.webhooks.add(tenant, "http://127.0.0.1:9/", [Event.JOB_DONE])
    client.wait(client.send("/v1/jobs").json()["id"])
    assert count(client, "deliveries") == 1
    assert run(client, "erase", "--tenant", "shop", "--yes") == 0
    gone = ("reports", "feedback", "jobs", "repeats", "kept_media", "tenant_keys", "known")
    for table in (*gone, "deliveries", "webhooks"):
        assert count(client, table) == 0, table
    client.service.monitor.close()
    assert count(client, "drift_streams") == 0
    assert kept_files(client) == []
    assert sealed
    for headers in ({}, {"Authorization": f"Bearer {client.key}"}):
        client.key = None
        assert client.get("/v1/models", headers=headers).status_code == 401
    assert run(client, "erase", "--tenant", "shop", "--yes") == 2
    assert "unknown" in capsys.readouterr().err
    assert run(client, "list") == 0
    assert "shop" not in capsys.readouterr().out
    assert tenant


def test_a_hold_and_jobs_in_work_stop_an_erasure(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_everything(client)
    hash = client.send("/v1/detect").json()["report"]["sha256"]
    assert run(client, "retain", "shop", "hold") == 0
    for words in (["--tenant", "shop"], ["--subject", hash]):
        assert run(client, "erase", *words, "--yes") == 2
        assert "legal hold" in capsys.readouterr().err
    client.service.reports.forget(keep_days=0)
    assert count(client, "reports") == 1
    assert run(client, "retain", "shop", "none") == 0
    assert run(client, "erase", "--subject", hash, "--yes") == 0


def test_jobs_in_work_stop_the_erasure_of_their_tenant(
    detector: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serviced(detector, tmp_path, workers=0) as client:
        client.key = client.service.keys.create(tenant="shop", scopes=EVERYTHING)
        job = client.send("/v1/jobs").json()["id"]
        assert run(client, "erase", "--tenant", "shop", "--yes") == 2
        assert "have not ended" in capsys.readouterr().err
        subject = ["--subject", hashlib.sha256(PICTURE).hexdigest()]
        assert run(client, "erase", *subject, "--yes") == 2
        assert "have not ended" in capsys.readouterr().err
        client.ask("DELETE", f"/v1/jobs/{job}")
        assert run(client, "erase", *subject, "--yes") == 0
        assert run(client, "erase", "--tenant", "shop", "--yes") == 0


def bury(client: Client, content: bytes = STUCK) -> str:
    """The id of a dead letter."""
    job = client.wait(client.send("/v1/jobs", content).json()["id"])
    assert job["state"] == "dead"
    return str(job["id"])


def test_a_dead_letter_is_found_by_its_file_and_erased_with_it(
    faulty_detector: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = ["--subject", hashlib.sha256(STUCK).hexdigest()]
    with serviced(faulty_detector, tmp_path / "service", attempts=1) as client:
        headers = {"Idempotency-Key": "k"}
        job = client.wait(client.send("/v1/jobs", STUCK, headers=headers).json()["id"])["id"]
        stays = bury(client, image_bytes(scene(13, 50)))
        assert len(client.media()) == 2
        out = tmp_path / "out.zip"
        assert run(client, "export", *subject, "--output", str(out)) == 0
        with zipfile.ZipFile(out) as archive:
            assert [one["id"] for one in json.loads(archive.read("jobs.json"))] == [job]
        assert run(client, "retain", "local", "hold") == 0
        assert run(client, "erase", *subject, "--yes") == 2
        assert "legal hold" in capsys.readouterr().err
        assert run(client, "retain", "local", "none") == 0
        assert run(client, "erase", *subject, "--tenant", "local", "--yes") == 0
        said = capsys.readouterr()
        assert "erased: 0 reports, 0 rulings, 1 jobs, 1 media" in said.out
        assert "no file here" not in said.err
        assert client.post(f"/v1/jobs/{job}/retry").status_code == 404
        assert client.get(f"/v1/jobs/{stays}").json()["state"] == "dead"
        assert [path.stat().st_size for path in client.media()] == [len(image_bytes(scene(13, 50)))]
        assert count(client, "repeats") == 0
        uploads = client.service.uploads
        assert uploads.bytes > len(image_bytes(scene(13, 50)))
        client.service.forget()
        assert uploads.bytes == len(image_bytes(scene(13, 50)))
        client.media()[0].unlink()
        other = hashlib.sha256(image_bytes(scene(13, 50))).hexdigest()
        for hash, told in ((subject[1], False), (other, True)):
            assert run(client, "erase", "--subject", hash, "--yes") == 0
            assert ("1 dead letters have no file here" in capsys.readouterr().err) == told
        assert client.get(f"/v1/jobs/{stays}").json()["state"] == "dead"


@pytest.mark.parametrize("known", [True, False], ids=["kept", "of a release that kept none"])
def test_a_job_that_ended_without_a_report_is_found_by_its_file(
    client: Client, capsys: pytest.CaptureFixture[str], known: bool
) -> None:
    broken = b"\xff\xd8\xff" + bytes(40)
    subject = ["--subject", hashlib.sha256(broken).hexdigest(), "--yes"]
    job = client.wait(client.send("/v1/jobs", broken).json()["id"])
    assert job["state"] == "failed"
    if not known:
        with sqlite3.connect(client.service.settings.database) as connection:
            connection.execute("UPDATE jobs SET sha256 = NULL")
    assert run(client, "erase", *subject) == 0
    assert f"{int(known)} jobs, 0 media" in capsys.readouterr().out
    assert client.get(f"/v1/jobs/{job['id']}").status_code == (404 if known else 200)


def test_waiting_jobs_of_a_release_that_kept_no_sha256_are_read(
    faulty_detector: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serviced(faulty_detector, tmp_path, attempts=1) as client:
        bury(client)
        bury(client, image_bytes(scene(13, 50)))
        with sqlite3.connect(client.service.settings.database) as connection:
            connection.execute("UPDATE jobs SET sha256 = NULL")
        assert run(client, "erase", "--subject", hashlib.sha256(STUCK).hexdigest(), "--yes") == 0
        assert "1 jobs, 1 media" in capsys.readouterr().out
        assert len(client.media()) == 1


def test_what_is_not_deleted_is_not_said_to_be_erased(
    faulty_detector: Detector,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serviced(faulty_detector, tmp_path, attempts=1) as client:
        client.key = client.service.keys.create(tenant="shop", scopes=EVERYTHING)
        job = bury(client)
        with monkeypatch.context() as patch:
            patch.setattr(SharedMedia, "drop", lambda *told: None)
            assert run(client, "erase", "--tenant", "shop", "--yes") == 2
        assert "cannot be deleted" in capsys.readouterr().err
        assert client.get(f"/v1/jobs/{job}").json()["state"] == "dead"
        assert run(client, "prove", "--tenant", "shop") == 0
        assert "erased_tenant" not in capsys.readouterr().out
        assert run(client, "erase", "--tenant", "shop", "--yes") == 0
        assert client.media() == []


def test_media_of_jobs_that_machines_share_are_erased_where_they_lie(
    faulty_detector: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("psycopg")
    media = tmp_path / "media"
    with postgresql() as server:
        shared = {"database_url": server.url, "media_url": str(media), "attempts": 1}
        with serviced(faulty_detector, tmp_path / "service", **shared) as client:
            places = ["--database", server.url, "--job-media", str(media)]
            subject = ["--subject", hashlib.sha256(STUCK).hexdigest()]
            for words in (subject, ["--tenant", "shop"]):
                client.key = client.service.keys.create(tenant="shop", scopes=EVERYTHING)
                bury(client)
                assert [path.read_bytes() for path in media.glob("*/*")] == [STUCK]
                assert run(client, "erase", *words, "--yes", *places) == 0
                assert "1 jobs, 1 media" in capsys.readouterr().out
                assert not [*media.iterdir()]


def test_accounts_of_an_erased_tenant_are_nobody_s(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    anna = enter(client.service, "anna@shop.example")
    other = enter(client.service, "bert@other.example", tenant="other")
    assert anna.get("/cases").status_code == 200
    assert run(client, "erase", "--tenant", "shop", "--yes") == 0
    assert anna.get("/cases").status_code == 303
    assert anna.sign_in("anna@shop.example").status_code == 401
    assert other.get("/cases").status_code == 200
    assert count(client, "visits") == 1
    with sqlite3.connect(client.service.settings.database) as connection:
        rows = connection.execute("SELECT name, password, subject FROM users ORDER BY number")
        (name, *secrets), (left, *_) = rows.fetchall()
    assert (secrets, left) == ([None, None], "bert@other.example")
    assert name.startswith("erased-")
    for path in client.service.settings.folder.glob("service.sqlite*"):
        assert b"anna@shop" not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["erase", "--yes"], "none is given"),
        (["erase", "--subject", "' OR 1=1 --", "--yes"], "is no sha256"),
        (["erase", "--subject", "A" * 64, "--yes"], "is no sha256"),
        (["export", "--tenant", "nobody", "--output", "x.zip"], "unknown"),
        (["retain", "nobody", "none"], "unknown"),
        (["retain", "local", "for ever"], "choose none"),
        (["prove", "--subject", "0" * 64], "not found"),
    ],
)
def test_a_wrong_use_is_told(
    words: list[str],
    why: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["privacy", *words, "--data", str(tmp_path / "service")]) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "x.zip").exists()
