"""Sealed columns, tenant keys, and where the master key comes from."""

from __future__ import annotations

import base64
import json
import sqlite3
import stat
from pathlib import Path

import pytest
from deepfake_service.privacy.master import MasterKey, find_wrapper
from deepfake_service.sealing import Unopened
from deepfake_service.store.cases import Filter

from deepfake.detector import Detector
from deepfake.errors import ServiceError, SettingsError
from tests.service.serving import EVERYTHING, Client, serviced
from tests.waiting import until

LATER = {"Prefer": "respond-async"}
IDENTITY_OF_TESTS = "tests.service.privacy.test_keyring:plug_in"


class Named:
    """A KMS that turns keys around and notes for whom, but for those whom it refuses."""

    asked: list[bytes] = []  # noqa: RUF012
    refused: dict[bytes, Exception] = {}  # noqa: RUF012

    def wrap(self, key: bytes, context: bytes) -> bytes:
        self.asked.append(context)
        return b"wrapped" + key[::-1]

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        assert wrapped.startswith(b"wrapped")
        if context in self.refused:
            raise self.refused[context]
        return wrapped[7:][::-1]


def plug_in() -> Named:
    return Named()


def raw(folder: Path, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(folder / "service.sqlite") as connection:
        return connection.execute(query).fetchall()


def test_reports_and_kept_answers_are_sealed_in_the_database(
    detector: Detector, tmp_path: Path
) -> None:
    with serviced(detector, tmp_path) as client:
        name = {"files": {"file": ("a secret name.png", b"no media")}}
        first = client.send("/v1/detect?name=secret.png", headers={"Idempotency-Key": "k"})
        again = client.send("/v1/detect?name=secret.png", headers={"Idempotency-Key": "k"})
        assert first.status_code == 200
        assert again.json() == first.json()
        stored = client.get(f"/v1/reports/{first.json()['id']}").json()
        assert stored["report"]["path"] == "secret.png"
        assert name
    (document,) = raw(tmp_path, "SELECT document FROM reports")[0]
    assert str(document).startswith('"sealed:1:')
    (body,) = raw(tmp_path, "SELECT body FROM repeats")[0]
    assert str(body).startswith("sealed:1:")
    claim = stored["report"]["evidence"][0]["claim"].encode()
    for path in tmp_path.glob("service.sqlite*"):
        assert claim not in path.read_bytes()
    assert stat.S_IMODE((tmp_path / "master.key").stat().st_mode) == 0o600
    (tmp_path / "master.key").write_bytes(bytes(32))
    with serviced(detector, tmp_path) as client:
        answer = client.get(f"/v1/reports/{first.json()['id']}")
        assert answer.status_code == 500
        assert "master key" in answer.json()["remedy"]


def test_names_of_files_are_sealed_and_found_all_the_same(
    detector: Detector, tmp_path: Path
) -> None:
    name = "passport-of-Ada.png"
    with serviced(detector, tmp_path, private_hosts=("127.0.0.1",), deliverers=1) as client:
        told = {"url": "http://127.0.0.1:9/", "events": ["job.done"]}
        assert client.post("/v1/webhooks", json=told).status_code == 201
        job = client.send(f"/v1/jobs?name={name}").json()
        assert client.wait(job["id"])["name"] == name
        bad = client.wait(client.send(f"/v1/jobs?name={name}", b"no picture").json()["id"])
        assert name in bad["error"]["detail"]
        assert client.get("/v1/jobs").json()["jobs"][0]["name"] == name
        client.send(f"/v1/detect?name={name}")
        client.send("/v1/detect?name=other.png")
        cases, tenant = client.service.cases, client.service.identify(None).tenant  # type: ignore[union-attr]
        for wanted in (Filter(name="OF-ada"), Filter(words="passport png"), Filter(words="ada")):
            found = cases.page(tenant, wanted, most=50)
            assert [case.name for case in found] == [name, name]
            assert sum(cases.count(tenant, wanted).values()) == 2
        newest, oldest = cases.page(tenant, Filter(name="passport"), most=50)
        assert cases.page(tenant, Filter(name="passport"), before=newest.number, most=50)[
            0
        ].number == (oldest.number)
        assert cases.page(tenant, Filter(name="passport"), after=oldest.number, most=1)[
            0
        ].number == (newest.number)
        assert cases.page(tenant, Filter(name="nobody"), most=50) == []
        assert len(cases.page(tenant, Filter(), most=2)) == 2
    columns = (("jobs", "name"), ("jobs", "error"), ("cases", "name"), ("deliveries", "body"))
    for table, column in columns:
        values = [value for (value,) in raw(tmp_path, f"SELECT {column} FROM {table}") if value]
        assert values
        assert all(str(value).strip('"').startswith("sealed:1:") for value in values)
    for path in tmp_path.glob("service.sqlite*"):
        assert b"passport" not in path.read_bytes()


def test_an_error_from_before_it_was_sealed_is_still_read(client: Client) -> None:
    job = client.wait(client.send("/v1/jobs", b"no picture").json()["id"])
    with sqlite3.connect(client.service.settings.database) as connection:
        connection.execute("UPDATE jobs SET error = ?", (json.dumps(job["error"]),))
    assert client.get(f"/v1/jobs/{job['id']}").json() == job


def test_an_error_does_not_open_as_a_name(client: Client) -> None:
    job = client.wait(client.send("/v1/jobs", b"no picture").json()["id"])["id"]
    with sqlite3.connect(client.service.settings.database) as connection:
        connection.execute("UPDATE jobs SET name = trim(error, '\"')")
    assert client.get(f"/v1/jobs/{job}").status_code == 500


@pytest.mark.parametrize("wrong", ["sealed:1:AAAA", "sealed:1:A"])
def test_a_job_whose_seal_is_broken_is_dead_and_holds_up_no_other(
    detector: Detector, tmp_path: Path, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serviced(detector, tmp_path, workers=0) as client:
        bad, good = (client.send("/v1/jobs").json()["id"] for _ in range(2))
    with sqlite3.connect(tmp_path / "service.sqlite") as connection:
        connection.execute("UPDATE jobs SET name = ? WHERE id = ?", (wrong, bad))
    with serviced(detector, tmp_path) as client:
        until(lambda: raw(tmp_path, f"SELECT state FROM jobs WHERE id = '{good}'") == [("done",)])
    ((state, ended, error),) = raw(
        tmp_path, f"SELECT state, ended, error FROM jobs WHERE id = '{bad}'"
    )
    assert state == "dead"
    assert ended
    assert "cannot be opened" in json.loads(str(error))["detail"]
    assert f"job {bad}: cannot be opened" in caplog.text


def test_a_job_in_work_whose_seal_is_broken_stops_no_service(
    detector: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serviced(detector, tmp_path, workers=0) as client:
        bad = client.send("/v1/jobs").json()["id"]
    with sqlite3.connect(tmp_path / "service.sqlite") as connection:
        connection.execute("UPDATE jobs SET name = 'sealed:1:', state = 'running', attempt = 3")
    with serviced(detector, tmp_path) as client:
        assert client.wait(client.send("/v1/detect", headers=LATER).json()["id"])["state"] == "done"
    assert raw(tmp_path, f"SELECT state FROM jobs WHERE id = '{bad}'") == [("dead",)]
    assert "nobody is told of it" in caplog.text


@pytest.mark.parametrize("refusal", [ServiceError("kms: refused", status=403), OSError("cut off")])
def test_a_tenant_whose_key_is_refused_is_put_off_and_holds_up_no_other(
    detector: Detector, tmp_path: Path, refusal: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPFAKE_KMS", IDENTITY_OF_TESTS)
    jobs = {}
    with serviced(detector, tmp_path, workers=0) as client:
        for tenant in ("one", "two"):
            client.key = client.service.keys.create(tenant=tenant, scopes=EVERYTHING)
            jobs[tenant] = client.send("/v1/jobs").json()["id"]
    ((refused,),) = raw(tmp_path, f"SELECT tenant FROM jobs WHERE id = '{jobs['one']}'")
    monkeypatch.setitem(Named.refused, f"tenant {refused}".encode(), refusal)
    with serviced(detector, tmp_path) as client:
        query = f"SELECT state FROM jobs WHERE id = '{jobs['two']}'"
        until(lambda: raw(tmp_path, query) == [("done",)])
        ((state, attempt, wait, error),) = raw(
            tmp_path,
            f"SELECT state, attempt, due - created, error FROM jobs WHERE id = '{jobs['one']}'",
        )
        assert (state, attempt) == ("queued", 0)
        assert int(str(wait)) >= 300_000
        assert error
        Named.refused.clear()
        with sqlite3.connect(tmp_path / "service.sqlite") as connection:
            connection.execute("UPDATE jobs SET due = 0 WHERE id = ?", (jobs["one"],))
        client.key = client.service.keys.create(tenant="one", scopes=EVERYTHING)
        done = client.wait(jobs["one"])
        assert (done["state"], done["error"]) == ("done", None)


def test_jobs_wait_for_the_right_master_key(detector: Detector, tmp_path: Path) -> None:
    with serviced(detector, tmp_path, workers=0) as client:
        job = client.send("/v1/jobs").json()["id"]
    right = (tmp_path / "master.key").read_bytes()
    (tmp_path / "master.key").write_bytes(bytes(32))
    with serviced(detector, tmp_path):
        until(lambda: raw(tmp_path, "SELECT error FROM jobs WHERE error IS NOT NULL"))
    assert raw(tmp_path, "SELECT state FROM jobs") == [("queued",)]
    (tmp_path / "master.key").write_bytes(right)
    with serviced(detector, tmp_path, workers=0) as client:
        assert "another master key" in client.get(f"/v1/jobs/{job}").json()["error"]["detail"]


def test_a_name_does_not_open_in_the_place_of_another(client: Client) -> None:
    for name in ("first.png", "second.png"):
        client.wait(client.send(f"/v1/jobs?name={name}").json()["id"])
    with sqlite3.connect(client.service.settings.database) as connection:
        connection.execute(
            "UPDATE jobs SET name = (SELECT max(name) FROM jobs) WHERE name != "
            "(SELECT max(name) FROM jobs)"
        )
    assert client.get("/v1/jobs").status_code == 500


def test_a_report_does_not_open_in_the_place_of_another(client: Client, tmp_path: Path) -> None:
    keys = client.service.keys
    ids = []
    for tenant in ("one", "two"):
        client.key = keys.create(tenant=tenant, scopes=EVERYTHING)
        ids.append(client.send("/v1/detect").json()["id"])
        ids.append(client.send("/v1/detect").json()["id"])
    with sqlite3.connect(client.service.settings.database) as connection:
        for target, origin in ((ids[3], ids[2]), (ids[2], ids[0])):
            connection.execute(
                "UPDATE reports SET document = (SELECT document FROM reports WHERE id = ?) "
                "WHERE id = ?",
                (origin, target),
            )
    for id in ids[2:]:
        assert client.get(f"/v1/reports/{id}").status_code == 500
    client.key = None


def test_each_tenant_has_its_own_key(client: Client) -> None:
    keys, folder = client.service.keys, client.service.settings.folder
    for tenant in ("one", "two"):
        client.key = keys.create(tenant=tenant, scopes=EVERYTHING)
        client.send("/v1/detect")
        client.send("/v1/detect")
    wrapped = raw(folder, "SELECT wrapped FROM tenant_keys")
    assert len(wrapped) == len(set(wrapped)) == 2


def test_the_master_key_comes_from_the_environment_a_file_or_a_plug_in(tmp_path: Path) -> None:
    key = bytes(range(32))
    (tmp_path / "key").write_bytes(key)
    wrapped = MasterKey(key).wrap(b"k" * 32, b"tenant 1")
    for environment in (
        {"DEEPFAKE_MASTER_KEY": base64.b64encode(key).decode()},
        {"DEEPFAKE_MASTER_KEY_FILE": str(tmp_path / "key")},
    ):
        found = find_wrapper(tmp_path, environment)
        assert found.unwrap(wrapped, b"tenant 1") == b"k" * 32
        with pytest.raises(Unopened):
            found.unwrap(wrapped, b"tenant 2")
    named = find_wrapper(tmp_path, {"DEEPFAKE_KMS": IDENTITY_OF_TESTS})
    assert named.unwrap(named.wrap(key, b"tenant 7"), b"tenant 7") == key
    assert b"tenant 7" in Named.asked
    made = find_wrapper(tmp_path, {})
    assert find_wrapper(tmp_path, {}).unwrap(made.wrap(key, b"x"), b"x") == key


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"DEEPFAKE_MASTER_KEY": "short"}, "is no key"),
        ({"DEEPFAKE_MASTER_KEY": "!" * 44}, "is no key"),
        ({"DEEPFAKE_MASTER_KEY_FILE": "/nowhere/at/all"}, "cannot be read"),
        ({"DEEPFAKE_MASTER_KEY_FILE": __file__}, "is no key"),
        ({"DEEPFAKE_KMS": "nowhere:at_all"}, "cannot be loaded"),
        ({"DEEPFAKE_KMS": "json"}, "cannot be loaded"),
    ],
)
def test_what_is_no_master_key_is_refused(
    environment: dict[str, str], why: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=why):
        find_wrapper(tmp_path, environment)
