"""The Python client, against the service itself and against answers that it rarely gives."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from deepfake.client import AsyncClient, Client
from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.errors import DeepfakeError, MediaError, ServiceError, SettingsError
from deepfake.reasons import Code
from deepfake.settings import DetectOptions
from tests.reports import make_report
from tests.service.serving import EVERYTHING, PICTURE, keys_in, served

# pandas 3 tells gradio's statistics of the queue, which cannot be switched off
pytestmark = pytest.mark.filterwarnings("ignore:.future.no_silent_downcasting. is deprecated")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def key(folder: Path) -> str:
    with keys_in(folder) as keys:
        return keys.create(tenant="shop", scopes=EVERYTHING)


@pytest.fixture(scope="module")
def address(known_detector: Detector, folder: Path, key: str) -> Iterator[str]:
    with served(known_detector, folder, sync_bytes=100_000) as address:
        yield address


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(PICTURE)
    return path


def test_files_are_examined_as_here(
    address: str, key: str, picture: Path, known_detector: Detector
) -> None:
    options = DetectOptions(prior=0.2, heatmap=True)
    here = known_detector.detect(picture, options)
    with Client(address, key=key) as client:
        answer = client.detect(picture, options)
        assert answer.policy == "full"
        assert answer.report.path == "photo.png"
        assert answer.report.probability == pytest.approx(here.probability, abs=1e-6)
        assert answer.report.evidence[-1].source == here.evidence[-1].source
        assert client.report(answer.id) == answer
        assert client.detect(PICTURE, name="a.png").report.path == "a.png"
        assert client.models()["image"] == "image-1"
        ruling = client.feedback(answer.id, "overturn", note="It is a photo.")
        assert ruling.startswith("fbk_")


def test_jobs_are_put_in_line_followed_and_listed(address: str, key: str, picture: Path) -> None:
    with Client(address, key=key) as client:
        large = client.detect(PICTURE + b"\0" * 100_000, name="large.png")
        assert large.report.path == "large.png"
        job = client.submit(picture, priority=9)
        assert client.wait(job.id, seconds=60).report.path == "photo.png"
        assert client.job(job.id).state == "done"
        batch = client.submit_batch([picture, picture])
        assert [client.wait(job.id).report.path for job in batch] == ["photo.png"] * 2
        listed = client.jobs(batch=batch[0].values["batch"])
        assert {job.id for job in listed} == {job.id for job in batch}
        assert len(client.jobs(most=1)) == 1
        bad = client.submit(b"no picture")
        with pytest.raises(MediaError) as caught:
            client.wait(bad.id)
        assert caught.value.code == Code.UNSUPPORTED
        with pytest.raises(ServiceError) as refused:
            client.cancel(job.id)
        assert refused.value.status == 409


def test_the_same_can_be_awaited(address: str, key: str, picture: Path) -> None:
    async def ask() -> None:
        async with AsyncClient(address, key=key) as client:
            answers = await asyncio.gather(*(client.detect(picture) for _ in range(3)))
            assert {answer.report.path for answer in answers} == {"photo.png"}
            job = await client.submit(PICTURE)
            assert (await client.wait(job.id)).report.path == "upload"
            batch = await client.submit_batch([picture])
            assert (await client.wait(batch[0].id)).report.path == "photo.png"
            assert (await client.job(job.id)).state == "done"
            assert await client.jobs(state="dead") == []
            assert await client.report(answers[0].id) == answers[0]
            assert (await client.models())["audio"] == "audio-1"
            assert await client.feedback(answers[0].id, "confirm")
            with pytest.raises(ServiceError):
                await client.cancel(job.id)

    asyncio.run(ask())


def test_errors_are_those_of_the_package(address: str, key: str, tmp_path: Path) -> None:
    with Client(address, key=key) as client:
        with pytest.raises(MediaError, match="not media") as caught:
            client.detect(b"no picture at all")
        assert caught.value.code == Code.UNSUPPORTED
        assert caught.value.hint
        with pytest.raises(MediaError) as caught:
            client.detect(tmp_path / "nothing.png")
        assert caught.value.code == Code.NOT_FOUND
        with pytest.raises(SettingsError, match="is none"):
            client.job("../../reports/1")
    with Client(address, key="dfk_wrong") as client, pytest.raises(ServiceError) as refused:
        client.models()
    assert (refused.value.code, refused.value.status) == (Code.NO_KEY, 401)
    assert refused.value.request_id


@pytest.mark.parametrize("url", ["ftp://a", "nonsense", "", "http://", "file:///etc"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="is no URL"):
        Client(url)


Handler = Callable[[httpx.Request], httpx.Response]


def asking(handler: Handler, **settings: float) -> Client:
    return Client("http://test", transport=httpx.MockTransport(handler), **settings)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client waited; it does not really wait."""
    waited: list[float] = []
    monkeypatch.setattr("deepfake.client.time.sleep", waited.append)
    return waited


REPORT = {"id": "rep_1", "policy": "full", "report": make_report().to_dict()}


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    values = {"code": code, "detail": "it is so", "remedy": "do this"}
    return httpx.Response(status, json=values, headers=headers)


def test_retry_after_is_honoured_and_the_request_stays_the_same(pauses: list[float]) -> None:
    answers = [
        problem(429, "rate_limited", **{"Retry-After": "7"}),
        problem(503, "busy", **{"Retry-After": "2"}),
        problem(503, "database"),
        httpx.Response(200, json=REPORT),
    ]
    keys = set()

    def handle(request: httpx.Request) -> httpx.Response:
        keys.add(request.headers["idempotency-key"])
        assert request.read() == PICTURE
        return answers.pop(0)

    with asking(handle) as client:
        assert client.detect(PICTURE).id == "rep_1"
    assert pauses[:2] == [7, 2]
    assert 0 < pauses[2] < 5
    assert len(keys) == 1


def test_patience_has_an_end(pauses: list[float]) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        return problem(429, "rate_limited", **{"Retry-After": "40"})

    with asking(handle, patience_seconds=100) as client, pytest.raises(ServiceError) as caught:
        client.models()
    assert pauses == [40, 40]
    assert (caught.value.code, caught.value.retry_seconds) == (Code.RATE_LIMITED, 40)
    assert str(caught.value) == "it is so; do this"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500])
def test_what_fares_no_better_is_not_sent_again(pauses: list[float], status: int) -> None:
    with (
        asking(lambda request: problem(status, "bad_request")) as client,
        pytest.raises(ServiceError),
    ):
        client.models()
    assert pauses == []


def test_a_broken_connection_is_tried_again(pauses: list[float], picture: Path) -> None:
    count = 0

    def handle(request: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        assert request.read() == PICTURE
        if count < 3:
            raise httpx.ReadError("cut off", request=request)
        return httpx.Response(200, json=REPORT)

    with asking(handle) as client:
        assert client.detect(picture).id == "rep_1"
    assert len(pauses) == 2

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with (
        asking(refuse, patience_seconds=1) as client,
        pytest.raises(ServiceError, match="refused") as caught,
    ):
        client.models()
    assert (caught.value.code, caught.value.status) == (Code.NO_ANSWER, None)


def damaged(request: httpx.Request) -> httpx.Response:
    stream = httpx.ByteStream(b"no gzip")
    return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=stream)


def test_an_answer_that_cannot_be_unpacked_is_none(pauses: list[float]) -> None:
    with (
        asking(damaged, patience_seconds=1) as client,
        pytest.raises(ServiceError, match="does not answer") as caught,
    ):
        client.models()
    assert caught.value.code == Code.NO_ANSWER
    assert pauses

    async def ask() -> None:
        transport = httpx.MockTransport(damaged)
        async with AsyncClient("http://test", patience_seconds=0, transport=transport) as client:
            await client.models()

    with pytest.raises(ServiceError, match="does not answer"):
        asyncio.run(ask())


def test_a_name_need_not_be_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(PICTURE)
    job = {"id": "job_1", "state": "queued", "progress": 0.0}

    def handle(request: httpx.Request) -> httpx.Response:
        asked = request.url.params.get("name", "") + request.read().decode(errors="ignore")
        assert "caf?.png" in asked or "a?b" in asked
        if request.url.path == "/v1/batches":
            return httpx.Response(202, json={"jobs": [job]})
        return httpx.Response(200, json=REPORT)

    with asking(handle) as client:
        assert client.detect(path).id == "rep_1"
        assert client.submit_batch([path])[0].id == "job_1"
        assert client.feedback("rep_1", "confirm", note="a\ud800b") == "rep_1"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[1]),
        httpx.Response(200, json={"id": "rep_1"}),
        httpx.Response(200, json={"id": "rep_1", "policy": "full", "report": {"schema": "x"}}),
        httpx.Response(404, text="<html>"),
        httpx.Response(422, json={"code": "unknown_code"}),
    ],
)
def test_an_answer_of_something_else_is_an_error(answer: httpx.Response) -> None:
    with asking(lambda request: answer) as client, pytest.raises(DeepfakeError) as caught:
        client.detect(PICTURE)
    assert isinstance(caught.value, ServiceError)


def test_the_command_has_files_examined_elsewhere(
    address: str,
    key: str,
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = picture.with_name("bad.png")
    bad.write_bytes(b"no picture at all")
    heat = picture.with_name("heat.png")
    monkeypatch.setenv("DEEPFAKE_API_KEY", key)
    asked = ["detect", "--server", address, "--json"]
    assert main([*asked, str(picture), "--save-heatmap", str(heat)]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["path"] == str(picture)
    assert heat.read_bytes().startswith(b"\x89PNG")
    assert main([*asked, str(bad), str(picture)]) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["error"]["code"] == Code.UNSUPPORTED
    assert second["verdict"] == line["verdict"]
    monkeypatch.delenv("DEEPFAKE_API_KEY")
    assert main([*asked, str(picture)]) == 1
    assert "no valid key" in capsys.readouterr().err
