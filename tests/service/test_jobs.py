"""Jobs: durable, at least once, with one report at most."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from deepfake_service.store.database import Database
from deepfake_service.store.jobs import Jobs, Wanted
from deepfake_service.store.keys import Allowance, Identity, Policy, Scope, find_tenant
from deepfake_service.store.tables import Job, State, StoredReport
from sqlalchemy import delete, func, select, update

from deepfake.detector import Detector
from deepfake.reasons import Code
from tests.faulty import Endless
from tests.media_files import image_bytes, scene
from tests.reports import make_report
from tests.service.serving import PICTURE, Client, serviced
from tests.waiting import until

STUCK = image_bytes(scene(13, 40))


def test_a_job_ends_with_a_report_and_its_media_are_gone(client: Client) -> None:
    answer = client.send("/v1/jobs?name=a.png&priority=7&effort=quick")
    assert answer.status_code == 202
    said = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{said['id']}"
    assert (said["state"], said["priority"], said["bytes"]) == ("queued", 7, len(PICTURE))
    job = client.wait(said["id"])
    assert (job["state"], job["progress"], job["attempts"]) == ("done", 1.0, 1)
    report = client.get(f"/v1/reports/{job['report']}").json()
    assert report["job"] == job["id"]
    assert report["report"]["path"] == "a.png"
    until = time.monotonic() + 10
    while client.media():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_large_file_and_one_that_is_told_to_becomes_a_job(
    known_detector: Detector, tmp_path: Path
) -> None:
    with serviced(known_detector, tmp_path, sync_bytes=len(PICTURE)) as client:
        assert client.send("/v1/detect").status_code == 200
        asked = client.send("/v1/detect", headers={"Prefer": "respond-async"})
        large = client.send("/v1/detect", PICTURE + b"\0" * 10)
        for answer in (asked, large):
            assert answer.status_code == 202
            assert client.wait(answer.json()["id"])["state"] == "done"


def test_events_tell_of_progress_and_of_the_end(client: Client) -> None:
    job = client.send("/v1/jobs").json()["id"]
    answer = client.get(f"/v1/jobs/{job}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    *_, last = (block for block in answer.text.strip().split("\n\n") if "data:" in block)
    lines = dict(line.split(": ", 1) for line in last.splitlines())
    assert lines["event"] == "end"
    assert json.loads(lines["data"])["state"] == "done"


def test_only_so_many_follow_their_jobs(
    detector: Detector, endless: Endless, tmp_path: Path
) -> None:
    with serviced(detector, tmp_path, streams=1) as client:
        job = client.send("/v1/jobs", STUCK).json()["id"]
        assert endless.begun.wait(20)
        answers = []
        follower = threading.Thread(
            target=lambda: answers.append(client.get(f"/v1/jobs/{job}/events"))
        )
        follower.start()
        until = time.monotonic() + 20
        while not client.service.streams.open:
            assert time.monotonic() < until
            time.sleep(0.01)
        refused = client.get(f"/v1/jobs/{job}/events")
        assert (refused.status_code, refused.json()["code"]) == (503, Code.BUSY)
        client.ask("DELETE", f"/v1/jobs/{job}")
        follower.join(20)
        assert "event: progress" in answers[0].text
        assert "event: end" in answers[0].text
        assert client.get(f"/v1/jobs/{job}/events").status_code == 200


def test_only_so_many_wait_for_their_reports(
    detector: Detector, endless: Endless, tmp_path: Path
) -> None:
    with serviced(detector, tmp_path, examinations=1, waiting=0) as client:
        answers = []
        first = threading.Thread(target=lambda: answers.append(client.send("/v1/detect", STUCK)))
        first.start()
        assert endless.begun.wait(20)
        busy = client.send("/v1/detect")
        assert (busy.status_code, busy.json()["code"]) == (503, Code.BUSY)
        assert int(busy.headers["retry-after"]) > 0
        client.service.examiner.stop()
        first.join(20)
        assert client.send("/v1/detect").status_code == 200


def test_a_bad_file_fails_at_once_and_leaves_nothing(client: Client) -> None:
    job = client.wait(client.send("/v1/jobs", b"no picture at all").json()["id"])
    assert (job["state"], job["attempts"]) == ("failed", 1)
    assert job["error"]["code"] == Code.UNSUPPORTED
    assert job["report"] is None
    assert client.media() == []


def test_a_bug_is_tried_again_and_then_a_dead_letter_that_can_be_sent_anew(
    faulty_detector: Detector, tmp_path: Path
) -> None:
    with serviced(faulty_detector, tmp_path, attempts=3) as client:
        job = client.wait(client.send("/v1/jobs", STUCK).json()["id"])
        assert (job["state"], job["attempts"]) == ("dead", 3)
        assert job["error"]["code"] == Code.INTERNAL
        assert "division" not in json.dumps(job)
        assert len(client.media()) == 1
        again = client.post(f"/v1/jobs/{job['id']}/retry")
        assert (again.status_code, again.json()["attempts"]) == (202, 0)
        assert client.wait(job["id"])["attempts"] == 3
        done = client.wait(client.send("/v1/jobs").json()["id"])
        assert done["state"] == "done"
        refused = client.post(f"/v1/jobs/{done['id']}/retry")
        assert (refused.status_code, refused.json()["code"]) == (409, Code.CONFLICT)


def test_jobs_are_cancelled_in_line_and_in_work(
    detector: Detector, endless: Endless, tmp_path: Path
) -> None:
    with serviced(detector, tmp_path) as client:
        working = client.send("/v1/jobs", STUCK).json()["id"]
        assert endless.begun.wait(20)
        assert client.get(f"/v1/jobs/{working}").json()["state"] == "running"
        waiting = client.send("/v1/jobs").json()["id"]
        for job in (waiting, working, working):
            answer = client.ask("DELETE", f"/v1/jobs/{job}")
            assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
        assert endless.ended.wait(20)
        after = client.wait(client.send("/v1/jobs").json()["id"])
        assert after["state"] == "done"
        refused = client.ask("DELETE", f"/v1/jobs/{after['id']}")
        assert (refused.status_code, refused.json()["code"]) == (409, Code.CONFLICT)
        assert client.get(f"/v1/jobs/{working}").json()["report"] is None
        assert client.media() == []


def test_a_job_that_is_erased_while_it_is_in_work_holds_up_no_other(
    detector: Detector, endless: Endless, tmp_path: Path
) -> None:
    with serviced(detector, tmp_path) as client:
        workers = client.service.workers
        id = client.send("/v1/jobs", STUCK).json()["id"]
        assert endless.begun.wait(20)
        with client.service.database.writing() as session:
            job = session.scalars(select(Job)).one()
            session.execute(delete(Job))
        workers.stop_job(job)
        until(lambda: not workers.works_on(id))
        assert client.wait(client.send("/v1/jobs").json()["id"])["state"] == "done"
        assert client.media() == []


def test_a_batch_is_a_job_for_each_file_all_or_none(
    known_detector: Detector, tmp_path: Path
) -> None:
    with serviced(known_detector, tmp_path, batch_files=3) as client:
        files = [("file", (f"{number}.png", PICTURE)) for number in range(3)]
        answer = client.post("/v1/batches?effort=quick", files=files)
        assert answer.status_code == 202, answer.text
        batch = answer.json()
        assert [job["name"] for job in batch["jobs"]] == ["0.png", "1.png", "2.png"]
        for job in batch["jobs"]:
            assert client.wait(job["id"])["state"] == "done"
        listed = client.get(answer.headers["location"]).json()["jobs"]
        assert {job["id"] for job in listed} == {job["id"] for job in batch["jobs"]}
        assert client.post("/v1/batches", files=[*files, *files]).status_code == 422
        empty = [*files[:1], ("file", ("empty.png", b""))]
        assert client.post("/v1/batches", files=empty).json()["code"] == Code.EMPTY
        assert len(client.get("/v1/jobs").json()["jobs"]) == 3
        assert client.media() == []


def test_pages_of_jobs_go_on_where_the_one_before_ended(client: Client) -> None:
    made = [client.send("/v1/jobs?effort=quick").json()["id"] for _ in range(5)]
    seen, path = [], "/v1/jobs?limit=2"
    for _ in range(3):
        page = client.get(path).json()
        seen += [job["id"] for job in page["jobs"]]
        path = f"/v1/jobs?limit=2&cursor={page['next']}"
    assert seen == made[::-1]
    assert page["next"] is None
    for odd in ("nonsense", "LTE", "MSBPUiAxPTE", "'--", "¹"):
        answer = client.get("/v1/jobs", params={"cursor": odd})
        assert (answer.status_code, answer.json()["code"]) == (422, Code.BAD_REQUEST)
    assert client.get("/v1/jobs?state=dead").json()["jobs"] == []


def test_a_repeated_request_is_answered_as_the_first(client: Client) -> None:
    name = {"Idempotency-Key": "order-1"}
    for path, count in (("/v1/jobs", 1), ("/v1/detect?effort=quick", 1)):
        name = {"Idempotency-Key": path.replace("?", "-")}
        first = client.send(path, headers=name)
        again = client.send(path, headers=name)
        assert again.json() == first.json()
        assert again.status_code == first.status_code
        assert again.headers["idempotency-replayed"] == "true"
        assert "idempotency-replayed" not in first.headers
        assert len(client.get("/v1/jobs").json()["jobs"]) == count
        other = client.send(path, image_bytes(scene(seed=9)), headers=name)
        assert (other.status_code, other.json()["code"]) == (422, Code.REPEATED)
    failed = {"Idempotency-Key": "bad"}
    assert client.send("/v1/detect", b"nothing", headers=failed).status_code == 422
    assert client.send("/v1/detect", headers=failed).status_code == 200
    with client.service.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(StoredReport)) is not None


def test_a_request_that_is_still_in_work_is_not_begun_twice(
    detector: Detector, endless: Endless, tmp_path: Path
) -> None:
    with serviced(detector, tmp_path) as client:
        headers = {"Idempotency-Key": "slow"}
        answers = []
        first = threading.Thread(
            target=lambda: answers.append(client.send("/v1/detect", STUCK, headers=headers))
        )
        first.start()
        assert endless.begun.wait(20)
        again = client.send("/v1/detect", STUCK, headers=headers)
        assert (again.status_code, again.json()["code"]) == (409, Code.REPEATED)
        assert again.headers["retry-after"] == "1"
        client.service.examiner.stop()
        first.join(20)
        assert answers[0].status_code == 409
        assert answers[0].json()["code"] == Code.CANCELLED


def test_what_was_in_work_when_the_process_ended_is_done_by_the_next(
    detector: Detector, known_detector: Detector, endless: Endless, tmp_path: Path
) -> None:
    with serviced(detector, tmp_path) as client:
        stuck = client.send("/v1/jobs", STUCK).json()["id"]
        assert endless.begun.wait(20)
        waiting = client.send("/v1/jobs").json()["id"]
    strange = tmp_path / "media" / ("0" * 32)
    strange.mkdir()
    (strange / "upload").write_bytes(b"left by nobody")
    with serviced(known_detector, tmp_path) as client:
        for job in (stuck, waiting):
            ended = client.wait(job)
            assert (ended["state"], ended["attempts"]) == ("done", 1)
        assert not strange.exists()


def test_the_highest_priority_comes_first_and_then_the_oldest(
    known_detector: Detector, tmp_path: Path
) -> None:
    with serviced(known_detector, tmp_path, workers=0) as client:
        made = {p: client.send(f"/v1/jobs?priority={p}").json()["id"] for p in (5, 0, 9)}
        second = client.send("/v1/jobs?priority=9").json()["id"]
        taken = [client.service.jobs.take() for _ in range(4)]
        order = [made[9], second, made[5], made[0]]
        assert [job.id for job in taken if job] == order
        assert client.service.jobs.take() is None


def make_jobs(folder: Path) -> tuple[Jobs, Database, Identity]:
    database = Database(f"sqlite:///{folder / 'jobs.sqlite'}")
    database.migrate()
    with database.writing() as session:
        tenant = find_tenant(session, "shop").number
    identity = Identity(
        tenant=tenant,
        key=None,
        lineage=0,
        shown="test",
        scopes=frozenset(Scope),
        policy=Policy.FULL,
        allowance=Allowance(),
    )
    return Jobs(database, attempts=2, back_off_seconds=60), database, identity


def test_only_the_present_attempt_may_end_a_job(tmp_path: Path) -> None:
    jobs, database, identity = make_jobs(tmp_path)
    jobs.add(identity, [Wanted("a.png", 1, "a/upload", "0" * 64)], {}, priority=5)
    first = jobs.take()
    assert first is not None
    jobs.recover()  # as if its process had died
    second = jobs.take()
    assert second is not None
    assert second.attempt == 2
    assert jobs.finish(first, make_report()) is None
    assert jobs.fail(first, {"code": "error", "detail": ""}, again=True) is None
    assert jobs.finish(second, make_report()) is not None
    assert jobs.finish(second, make_report()) is None
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(StoredReport)) == 1
    database.close()


def test_a_job_that_is_given_back_is_as_if_it_had_not_been_begun(tmp_path: Path) -> None:
    jobs, database, identity = make_jobs(tmp_path)
    jobs.add(identity, [Wanted("a.png", 1, "a/upload", "0" * 64)], {}, priority=5)
    first = jobs.take()
    assert first is not None
    jobs.give_back(first)
    again = jobs.take()
    assert again is not None
    assert (again.id, again.attempt) == (first.id, 1)
    database.close()


def test_a_job_that_takes_its_process_along_each_time_is_dead(tmp_path: Path) -> None:
    jobs, database, identity = make_jobs(tmp_path)
    jobs.add(identity, [Wanted("a.png", 1, "a/upload", "0" * 64)], {}, priority=5)
    for _ in range(2):
        assert jobs.take() is not None
        jobs.recover()
    assert jobs.take() is None
    (job,) = jobs.page(identity.tenant, most=9)
    assert (job.state, (job.error or {})["code"]) == (State.DEAD, Code.WORKER_DIED)
    assert jobs.media_in_use() == ["a/upload"]
    database.close()


def test_a_failure_waits_longer_each_time(tmp_path: Path) -> None:
    jobs, database, identity = make_jobs(tmp_path)
    jobs.add(identity, [Wanted("a.png", 1, "a/upload", "0" * 64)], {}, priority=5)
    job = jobs.take()
    assert job is not None
    before = time.time_ns() // 1_000_000
    assert jobs.fail(job, {"code": "error", "detail": ""}, again=True) == State.QUEUED
    (waiting,) = jobs.page(identity.tenant, most=9)
    assert 59_000 < waiting.due - before < 70_000
    assert jobs.take() is None
    with database.writing() as session:
        session.get_one(Job, waiting.number).due = 0
    job = jobs.take()
    assert job is not None
    assert jobs.fail(job, {"code": "error", "detail": ""}, again=True) == State.DEAD
    database.close()


def test_options_of_another_release_are_a_dead_letter(detector: Detector, tmp_path: Path) -> None:
    with serviced(detector, tmp_path, workers=0) as client:
        job = client.send("/v1/jobs").json()["id"]
        with client.service.database.writing() as session:
            session.execute(update(Job).values(options={"unknown": 1}))
    with serviced(detector, tmp_path) as client:
        ended = client.wait(job)
        assert (ended["state"], ended["error"]["code"]) == ("dead", Code.INTERNAL)


def test_many_workers_take_each_job_once(tmp_path: Path) -> None:
    jobs, database, identity = make_jobs(tmp_path)
    count = 60
    files = [Wanted(f"{number}.png", 1, f"{number}/upload", "0" * 64) for number in range(count)]
    jobs.add(identity, files, {}, priority=5)
    taken: list[str] = []

    def work() -> None:
        while (job := jobs.take()) is not None:
            taken.append(job.name)
            assert jobs.finish(job, make_report()) is not None

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(taken) == sorted(file.name for file in files)
    assert jobs.count() == {State.DONE: count}
    database.close()
