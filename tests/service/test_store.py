"""The tables, their migrations, and a database that goes away."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from deepfake_service.service import open_store
from deepfake_service.settings import ServiceSettings
from deepfake_service.store.database import Database
from deepfake_service.store.tables import Table
from sqlalchemy import create_engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from deepfake.detector import Detector
from deepfake.errors import ServiceError, SettingsError
from deepfake.reasons import Code
from tests.service.serving import PICTURE, break_database, serviced


def test_the_migrations_make_the_tables_of_the_code(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.sqlite'}"
    database = Database(url)
    database.migrate()
    database.migrate()  # changes nothing
    with create_engine(url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    assert mode == "wal"
    database.close()


def test_the_tables_can_be_made_in_postgresql() -> None:
    dialect = postgresql.dialect()
    for table in Table.metadata.sorted_tables:
        assert "SERIAL" in str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert str(CreateIndex(index).compile(dialect=dialect))


def test_a_database_that_goes_away_is_a_problem_until_it_is_back(
    known_detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepfake_service.store.database.BUSY_SECONDS", 0.2)
    with serviced(known_detector, tmp_path) as client:
        job = client.send("/v1/jobs?effort=quick").json()["id"]
        client.wait(job)
        with sqlite3.connect(tmp_path / "service.sqlite", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            answer = client.send("/v1/detect?effort=quick")
            assert (answer.status_code, answer.json()["code"]) == (503, Code.DATABASE)
            assert int(answer.headers["retry-after"]) > 0
            assert client.send("/v1/jobs").status_code == 503
            other.execute("ROLLBACK")
        other.close()
        assert client.media() == []
        assert client.send("/v1/detect?effort=quick").status_code == 200
        assert client.wait(client.send("/v1/jobs").json()["id"])["state"] == "done"


def test_a_worker_keeps_its_report_until_the_database_is_back(
    known_detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serviced(known_detector, tmp_path) as client:
        finish, refused = client.service.jobs.finish, []

        def away(job, report):
            if len(refused) < 2:
                refused.append(job.id)
                raise ServiceError("database: does not answer", code=Code.DATABASE, status=503)
            return finish(job, report)

        monkeypatch.setattr("deepfake_service.workers.AGAIN_SECONDS", 0.01)
        monkeypatch.setattr(client.service.jobs, "finish", away)
        job = client.wait(client.send("/v1/jobs").json()["id"])
        assert (job["state"], job["attempts"]) == ("done", 1)
        assert refused == [job["id"]] * 2


def test_readiness_tells_of_a_broken_database(known_detector: Detector, tmp_path: Path) -> None:
    with serviced(known_detector, tmp_path) as client:
        for _ in range(20):  # a thread that was at work may have written it back
            break_database(client)
            answer = client.get("/readyz")
            if answer.status_code != 200:
                break
        assert (answer.status_code, answer.json()["code"]) == (503, Code.DATABASE)
        assert client.get("/healthz").status_code == 200


def test_two_services_do_not_share_a_folder(known_detector: Detector, tmp_path: Path) -> None:
    with (
        serviced(known_detector, tmp_path),
        pytest.raises(SettingsError, match="another service is at work"),
        serviced(known_detector, tmp_path),
    ):
        pass


def test_a_folder_that_cannot_be_used_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(PICTURE)
    with (
        pytest.raises(SettingsError, match=r"cannot be used.*--data"),
        open_store(ServiceSettings(folder=tmp_path / "file")),
    ):
        pass


def test_what_is_old_is_forgotten(known_detector: Detector, tmp_path: Path) -> None:
    with serviced(known_detector, tmp_path, keep_days=1e-9) as client:
        report = client.send("/v1/detect?effort=quick").json()["id"]
        job = client.wait(client.send("/v1/jobs").json()["id"])
        ruling = {"report": report, "ruling": "confirm"}
        assert client.post("/v1/feedback", json=ruling).status_code == 201
        client.service.forget()
        for path in (f"/v1/reports/{report}", f"/v1/jobs/{job['id']}"):
            assert client.get(path).status_code == 404
