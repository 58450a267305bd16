"""Jobs of one PostgreSQL, examined by several processes that die at any moment."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from deepfake_app.storage import Uploads
from deepfake_service.media import SharedMedia
from deepfake_service.service import open_store
from deepfake_service.settings import ServiceSettings
from deepfake_service.store.database import Database, moment
from deepfake_service.store.jobs import Jobs, Place, Wanted
from deepfake_service.store.keys import Identity
from deepfake_service.store.tables import Job, State, StoredReport, Table
from deepfake_service.worker import working
from sqlalchemy import create_engine, func, select

pytest.importorskip("psycopg")

from deepfake_service.monitoring import monitor as monitor_module
from deepfake_service.privacy.kept import Retention

from deepfake.client import Client as HttpClient
from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.errors import DeepfakeError, ServiceError, SettingsError
from deepfake.reasons import Code
from deepfake.settings import Settings
from deepfake.trust.audit import AuditLog, search_entries
from deepfake.trust.keys import read_private_pair
from deepfake.trust.registry import activate
from tests.bundles import copy_bundle, keys_of_tests
from tests.faulty import Endless
from tests.media_files import image_bytes, scene
from tests.reports import make_report
from tests.service.postgres import PostgreSQL, postgresql
from tests.service.receiver import receiving
from tests.service.serving import PICTURE, serviced

STUCK = image_bytes(scene(13, 40))
COUNT = int(os.environ.get("DEEPFAKE_JOBS", "20"))


@pytest.fixture(autouse=True)
def master_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on all machines."""
    monkeypatch.setenv("DEEPFAKE_MASTER_KEY", base64.b64encode(bytes(range(32))).decode())


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql() as server:
        yield server


@pytest.fixture
def url(server: PostgreSQL) -> str:
    """The URL of an empty database."""
    server.ask("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return server.url


@pytest.fixture
def jobs(url: str, tmp_path: Path) -> Iterator[tuple[Jobs, Identity, Database]]:
    with open_store(ServiceSettings(folder=tmp_path, database_url=url)) as (database, keys):
        identity = keys.identify(keys.create(tenant="shop"))
        assert identity is not None
        yield (
            Jobs(database, attempts=2, back_off_seconds=0.01, lease_seconds=1.0),
            identity,
            database,
        )


def test_the_migrations_make_the_tables_of_the_code_here_too(url: str) -> None:
    database = Database(url)
    with ThreadPoolExecutor(4) as pool:  # several processes may start at once
        list(pool.map(lambda _: database.migrate(), range(4)))
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []
    engine.dispose()
    database.close()


def test_no_two_workers_take_the_same_job(jobs: tuple[Jobs, Identity, Database]) -> None:
    line, identity, database = jobs
    wanted = [Wanted(f"{number}.png", 1, f"{number}/upload", "0" * 64) for number in range(60)]
    made = line.add(identity, wanted, {}, priority=5)
    line.add(identity, [Wanted("first.png", 1, "first/upload", "0" * 64)], {}, priority=9)
    assert (first := line.take()) is not None
    assert first.priority == 9
    taken = []

    def work(_: int) -> None:
        while (job := line.take()) is not None:
            taken.append(job.id)
            assert line.finish(job, make_report()) is not None
            assert line.finish(job, make_report()) is None

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert sorted(taken) == sorted(job.id for job in made)
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(StoredReport)) == 60


def test_a_silent_worker_loses_its_job_and_cannot_end_it_any_more(
    jobs: tuple[Jobs, Identity, Database],
) -> None:
    line, identity, _ = jobs
    (made,) = line.add(identity, [Wanted("a.png", 1, "a/upload", "0" * 64)], {}, priority=5)
    first = line.take()
    assert first is not None
    for _ in range(4):
        time.sleep(0.3)
        assert line.renew({first.id: Place(1, 0.5, "faces")}) == []
        line.recover(silent=True)
        assert line.take() is None
    assert (line.find(identity.tenant, made.id).progress, first.id) == (0.5, made.id)
    time.sleep(1.2)
    line.recover(silent=True)
    second = line.take()
    assert second is not None
    assert line.renew({first.id: Place(1, 0.6, "faces")}) == [first.id]
    assert line.finish(first, make_report()) is None
    assert line.fail(first, {"code": "internal"}, again=False) is None
    assert line.finish(second, make_report()) is not None
    (again,) = line.add(identity, [Wanted("b.png", 1, "b/upload", "0" * 64)], {}, priority=5)
    for _ in range(2):
        assert line.take() is not None
        time.sleep(1.2)
        line.recover(silent=True)
    dead = line.find(identity.tenant, again.id)
    assert (dead.state, (dead.error or {})["code"]) == (State.DEAD, Code.WORKER_DIED)


def test_time_is_that_of_the_database(
    jobs: tuple[Jobs, Identity, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    line, identity, database = jobs
    monkeypatch.setattr("deepfake_service.store.database.now_ms", lambda: 5)  # a clock that is off
    (made,) = line.add(identity, [Wanted("a.png", 1, "a/upload", "0" * 64)], {}, priority=5)
    assert abs(made.created / 1000 - time.time()) < 60
    with database.reading() as session:
        assert abs(moment(session) / 1000 - time.time()) < 60


def test_jobs_whose_fate_is_unknown_are_added_once(
    jobs: tuple[Jobs, Identity, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    line, identity, database = jobs
    writing, broken = database.writing, []

    @contextlib.contextmanager
    def breaks_after_commit() -> Iterator[object]:
        with writing() as session:
            yield session
        if not broken:
            broken.append(True)
            raise ServiceError("database: does not answer", code=Code.DATABASE, status=503)

    monkeypatch.setattr(database, "writing", breaks_after_commit)
    (made,) = line.add(identity, [Wanted("a.png", 1, "a/upload", "0" * 64)], {}, priority=5)
    assert [job.id for job in line.page(identity.tenant, most=9)] == [made.id]


def test_a_worker_elsewhere_examines_what_the_server_takes(
    known_detector: Detector, url: str, tmp_path: Path
) -> None:
    shared = {"database_url": url, "media_url": str(tmp_path / "media"), "lease_seconds": 1.0}
    there = ServiceSettings(folder=tmp_path / "there", **shared)
    hooks = {"private_hosts": ("127.0.0.1",)}
    with (
        receiving() as (receiver, address),
        serviced(known_detector, tmp_path / "here", workers=0, **shared, **hooks) as client,
    ):
        told = {"url": f"{address}/", "events": ["job.done"]}
        assert client.post("/v1/webhooks", json=told).status_code == 201
        job = client.send("/v1/jobs?name=a.png").json()
        assert client.media() == []  # the file is where all see it
        assert len([path for path in (tmp_path / "media").rglob("*") if path.is_file()]) == 1
        with working(known_detector, there):
            done = client.wait(job["id"])
            assert (done["state"], done["attempts"]) == ("done", 1)
            report = client.get(f"/v1/reports/{done['report']}").json()
            assert report["report"]["path"] == "a.png"
            bad = client.wait(client.send("/v1/jobs", b"nothing").json()["id"])
            assert bad["error"]["code"] == Code.UNSUPPORTED
        receiver.wait(1)
    assert [path for path in (tmp_path / "media").rglob("*") if path.is_file()] == []


def test_a_worker_elsewhere_does_what_follows_a_report(
    known_models: Path,
    url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitor_module, "SAVE_EVERY", 1)
    models = Path(shutil.copytree(known_models, tmp_path / "models"))
    copy_bundle(models / "image-1", "image-2")
    activate(models, "image-1")
    shared = {"database_url": url, "media_url": str(tmp_path / "media")}
    kept = tmp_path / "kept"
    here = tmp_path / "here"
    log = tmp_path / "audit.jsonl"
    with (
        Detector(Settings(models_folder=models, threads=1)) as detector,
        serviced(detector, here, workers=0, kept_media=kept, thumbnails=True, **shared) as client,
        AuditLog(log, read_private_pair(keys_of_tests()), who="worker") as audit,
    ):
        client.get("/v1/jobs")  # which makes the tenant
        (tenant,) = (it.tenant for it in client.service.kept.classes())
        client.service.kept.retain(tenant, Retention.parse("days=1"))
        settings = ServiceSettings(
            folder=tmp_path / "there",
            kept_media=kept,
            thumbnails=True,
            audit=audit,
            audit_requests=True,
            **shared,
        )
        with Detector(Settings(models_folder=models, threads=1)) as other, working(other, settings):
            job = client.wait(client.send("/v1/jobs?name=a.png").json()["id"])
            activate(models, "image-2")
            until = time.monotonic() + 60
            newer = job
            while newer["report"] is None or "image-2" not in str(
                client.get(f"/v1/reports/{newer['report']}").json()["report"]["versions"]
            ):
                assert time.monotonic() < until
                newer = client.wait(client.send("/v1/jobs?name=b.png").json()["id"])
        owner = client.service.identify(None)
        assert owner is not None
        parts = client.service.kept.open(owner.tenant, job["report"])
        assert parts is not None
        assert b"".join(parts) == PICTURE
        assert client.service.thumbnails.find(owner.tenant, job["report"]) is not None
        (stream,) = client.service.monitor.streams()
        assert stream.place
        assert stream.place[:8] in client.get("/monitor").text
        assert 'deepfake_drift_reference_ratio{kind="image"' in client.get("/metrics").text
        lines = [line for line in search_entries(log) if line["what"] == "job"]
        assert lines[0]["about"] == job["id"]
        assert client.ask("DELETE", f"/monitor/{tenant}/image").status_code == 204
        assert client.service.monitor.streams() == []
        assert "are not kept here" not in caplog.text
        away = ServiceSettings(folder=tmp_path / "away", **shared)
        with Detector(Settings(models_folder=models, threads=1)) as other, working(other, away):
            last = client.wait(client.send("/v1/jobs").json()["id"])["report"]
        assert client.service.kept.open(owner.tenant, last) is None
        assert "are not kept here" in caplog.text


def test_a_job_is_cancelled_on_another_machine(
    detector: Detector, endless: Endless, url: str, tmp_path: Path
) -> None:
    shared = {"database_url": url, "media_url": str(tmp_path / "media"), "lease_seconds": 1.0}
    there = ServiceSettings(folder=tmp_path / "there", **shared)
    with (
        serviced(detector, tmp_path / "here", workers=0, **shared) as client,
        working(detector, there),
    ):
        job = client.send("/v1/jobs", STUCK).json()["id"]
        assert endless.begun.wait(20)
        until = time.monotonic() + 20
        while client.get(f"/v1/jobs/{job}").json()["step"] == "":
            assert time.monotonic() < until
            time.sleep(0.02)
        assert client.ask("DELETE", f"/v1/jobs/{job}").json()["state"] == "cancelled"
        assert endless.ended.wait(20)
        assert client.wait(client.send("/v1/jobs").json()["id"])["state"] == "done"
        assert client.get(f"/v1/jobs/{job}").json()["report"] is None


def test_what_the_database_cannot_keep_is_a_problem_of_the_request(
    known_detector: Detector, url: str, tmp_path: Path
) -> None:
    with serviced(known_detector, tmp_path, database_url=url) as client:
        report = client.send("/v1/detect?effort=quick").json()["id"]
        for note, status in (("a\0b", 422), ("' OR 1=1; DROP TABLE jobs --", 201)):
            ruling = {"report": report, "ruling": "confirm", "note": note}
            assert client.post("/v1/feedback", json=ruling).status_code == status
        named = client.send("/v1/jobs", params={"name": "a\0\x1b\u202e.png"})
        assert client.wait(named.json()["id"])["state"] == "done"


def test_media_that_are_not_there_are_waited_for_and_then_a_dead_letter(
    known_detector: Detector, url: str, tmp_path: Path
) -> None:
    shared = {"database_url": url, "media_url": str(tmp_path / "media")}
    with serviced(known_detector, tmp_path / "here", workers=0, **shared) as client:
        job = client.send("/v1/jobs").json()["id"]
        (tmp_path / "media").rename(tmp_path / "away")
        settings = ServiceSettings(
            folder=tmp_path / "there", attempts=2, back_off_seconds=0.01, **shared
        )
        with working(known_detector, settings):
            (tmp_path / "media").rmdir()
            dead = client.wait(job)
            assert (dead["state"], dead["error"]["code"]) == ("dead", Code.UPLOAD_GONE)
            (tmp_path / "away").rename(tmp_path / "media")
            assert client.post(f"/v1/jobs/{job}/retry").status_code == 202
            assert client.wait(job)["state"] == "done"


def test_the_files_of_jobs_take_so_much_in_all(
    known_detector: Detector, url: str, tmp_path: Path
) -> None:
    from deepfake_app.limits import PageLimits

    limits = PageLimits(disk_bytes=2 * len(PICTURE) + 10)
    with serviced(known_detector, tmp_path, workers=0, database_url=url, limits=limits) as client:
        answers = [client.send("/v1/jobs").status_code for _ in range(3)]
        assert answers == [202, 202, 507]
        assert client.media() == []


def test_an_object_store_holds_media_and_what_no_job_uses_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepfake_app.limits import PageLimits

    uploads = Uploads(tmp_path, PageLimits())
    media = SharedMedia("memory://jobs")
    with uploads.receiving("a.png") as incoming:
        incoming.write(PICTURE)
    with uploads.receiving("b.png") as other:
        other.write(PICTURE)
    places = media.keep([incoming, other])
    with media.opened(places[0]) as path:
        assert path.read_bytes() == PICTURE
        assert path.suffix == ".png"
    assert not path.exists()
    media.sweep(())  # which is too early
    later = time.time() + 4000
    monkeypatch.setattr("deepfake_service.media.time.time", lambda: later)
    media.sweep([places[0]])
    with media.opened(places[0]):
        pass
    with pytest.raises(ServiceError, match="cannot be had"), media.opened(places[1]):
        pass
    media.drop(places[0])
    media.drop(places[0])
    with pytest.raises(ServiceError), media.opened(places[0]):
        pass
    with pytest.raises(SettingsError, match="name a folder"):
        SharedMedia("unknown://place")


def test_a_wrong_database_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    for database, message in (
        ("nonsense", "write postgresql://"),
        ("mysql://a@b/c", "use postgresql://"),
        ("sqlite:///a.sqlite", "use postgresql://"),
        (f"postgresql://nobody@/nothing?host={tmp_path}", "does not answer"),
    ):
        words = ["keys", "list", "--data", str(tmp_path), "--database", database]
        assert main(words) in (1, 2)
        assert message in capsys.readouterr().err
    assert main(["worker", "--data", str(tmp_path)]) == 2
    assert "--database" in capsys.readouterr().err


class Process:
    """A server or a worker (see ``machine.py``), to be started."""

    process: subprocess.Popen[str] | None = None

    def __init__(self, task: str, *words: object) -> None:
        self._command = [sys.executable, "-m", "tests.service.machine", task, *map(str, words)]
        self.address = ""

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def wait(self) -> None:
        """Return when it is at work."""
        assert self.process is not None
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said, "it did not start"
        if found := re.search(r"http://127\.0\.0\.1:\d+/", said):
            self.address = found[0]

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate(timeout=60)


def send(process: Process, made: dict[str, str]) -> None:
    """Send so many files; a client without an answer asks again, as that of the package does."""
    until = time.monotonic() + 400 + COUNT
    for number in range(COUNT):
        name = f"{number}.png"
        while name not in made:
            assert time.monotonic() < until
            with (
                contextlib.suppress(DeepfakeError),
                HttpClient(process.address, patience_seconds=2) as client,
            ):
                made[name] = client.submit(PICTURE, name=name).id


def wait_for_the_last(database: Database) -> set[str]:
    """The states of all jobs once each has ended."""
    until = time.monotonic() + 500 + COUNT
    while True:
        with database.reading() as session:
            states = set(session.scalars(select(Job.state).distinct()))
        if not states & {State.QUEUED, State.RUNNING}:
            return states
        assert time.monotonic() < until, states
        time.sleep(0.2)


def kill_at_work(process: Process, database: Database) -> None:
    """Kill the only worker while a job is in its hands."""
    until = time.monotonic() + 200
    assert process.process is not None
    while True:
        assert time.monotonic() < until
        with database.reading() as session:
            if session.scalar(select(Job.id).where(Job.state == State.RUNNING)) is None:
                continue
        process.process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        with database.reading() as session:
            held = session.scalar(select(Job.id).where(Job.state == State.RUNNING))
        if held is not None:
            process.end()
            return
        process.process.send_signal(signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.timeout(1000 + 2 * COUNT)
def test_nothing_is_lost_or_reported_twice_whatever_is_killed(
    known_models: Path, server: PostgreSQL, url: str, tmp_path: Path
) -> None:
    place = url, tmp_path / "media"
    service = Process("serve", known_models, tmp_path / "server", *place)
    workers = [
        Process("work", known_models, tmp_path / f"worker-{number}", *place) for number in (1, 2)
    ]
    made: dict[str, str] = {}
    database = Database(url)
    try:
        for process in (service, workers[0]):
            process.start()
        for process in (service, workers[0]):
            process.wait()
        sender = threading.Thread(target=send, args=(service, made), daemon=True)
        sender.start()
        kill_at_work(workers[0], database)
        assert server.break_connections() > 0
        for process in workers:
            process.start()
        service.end()
        service.start()
        service.wait()
        server.end(signal.SIGQUIT)  # the whole database, at once
        server.start()
        workers[1].end()
        workers[1].start()
        sender.join(500 + COUNT)
        assert len(made) == COUNT
        server.break_connections()
        assert wait_for_the_last(database) == {State.DONE}
        with database.reading() as session:
            jobs = session.execute(select(Job.id, Job.report)).all()
            stored = session.execute(select(StoredReport.job, StoredReport.id)).all()
            assert (session.scalar(select(func.max(Job.attempt))) or 0) > 1
        assert set(made.values()) <= {job for job, _ in jobs}
        assert sorted(jobs) == sorted(stored)
        assert len({job for job, _ in stored}) == len(stored)
    finally:
        database.close()
        for process in (service, *workers):
            process.end()
