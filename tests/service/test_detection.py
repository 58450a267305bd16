"""Media in, reports out, and nothing of them left."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest
from deepfake_app.limits import PageLimits

from deepfake.detector import Detector
from deepfake.errors import ModelError
from deepfake.reasons import Code
from deepfake.schema import REPORT_SCHEMA
from deepfake.settings import DetectOptions
from tests.media_files import image_bytes, scene
from tests.service.serving import PICTURE, Client, serviced


def test_a_picture_gets_its_report_as_body_or_in_a_form(client: Client) -> None:
    raw = client.send("/v1/detect?name=photo.png&effort=quick")
    assert raw.status_code == 200, raw.text
    form = client.post("/v1/detect?effort=quick", files={"file": ("photo.png", PICTURE)})
    assert form.status_code == 200, form.text
    for answer in (raw, form):
        said = answer.json()
        assert said["policy"] == "full"
        assert said["report"]["path"] == "photo.png"
        assert said["report"]["media"]["width"] == 96
        assert answer.headers["content-location"] == f"/v1/reports/{said['id']}"
        jsonschema.validate(said["report"], REPORT_SCHEMA)
        assert client.get(f"/v1/reports/{said['id']}").json() == said
    assert raw.json()["report"]["probability"] == form.json()["report"]["probability"]
    assert client.media() == []


def test_options_are_the_fields_of_detect_options(client: Client) -> None:
    names = {option.name for option in fields(DetectOptions)}
    parameters = client.get("/v1/openapi.json").json()["paths"]["/v1/detect"]["post"]["parameters"]
    assert names < {it["name"] for it in parameters}
    low = client.send("/v1/detect?prior=0.01&heatmap=true").json()["report"]
    high = client.send("/v1/detect?prior=0.9").json()["report"]
    assert low["probability"] < high["probability"]
    assert any(item["heatmaps"] for item in low["evidence"])
    assert not any(item["heatmaps"] for item in high["evidence"])


@pytest.mark.parametrize(
    ("path", "content", "headers", "status", "code"),
    [
        ("/v1/detect", b"no picture at all", {}, 422, Code.UNSUPPORTED),
        ("/v1/detect", b"", {}, 422, Code.EMPTY),
        ("/v1/detect", PICTURE[:200], {}, 422, Code.CORRUPT),
        ("/v1/detect", b"PK\x03\x04" + PICTURE, {}, 422, Code.UNSUPPORTED),
        ("/v1/detect?prior=7", PICTURE, {}, 422, Code.BAD_REQUEST),
        ("/v1/detect?prior=nan", PICTURE, {}, 422, Code.BAD_REQUEST),
        ("/v1/detect?effort=most", PICTURE, {}, 422, Code.BAD_REQUEST),
        ("/v1/detect?unknown=1", PICTURE, {}, 422, Code.BAD_REQUEST),
        ("/v1/detect?effort=full", PICTURE, {}, 422, Code.MODEL),
        ("/v1/detect?name=" + "x" * 201, PICTURE, {}, 422, Code.BAD_REQUEST),
        ("/v1/detect", PICTURE, {"Content-Type": "text/plain"}, 415, Code.WRONG_TYPE),
        ("/v1/detect", PICTURE, {"Content-Encoding": "gzip"}, 415, Code.WRONG_TYPE),
        ("/v1/detect", PICTURE, {"Content-Type": "multipart/form-data"}, 400, Code.BAD_REQUEST),
        (
            "/v1/detect",
            b"--B\r\nnothing like it",
            {"Content-Type": "multipart/form-data; boundary=B"},
            400,
            Code.BAD_REQUEST,
        ),
        (
            "/v1/detect",
            b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\nhalf',
            {"Content-Type": "multipart/form-data; boundary=B"},
            400,
            Code.BAD_REQUEST,
        ),
        ("/v1/batches", PICTURE, {}, 415, Code.WRONG_TYPE),
        ("/v1/nowhere", PICTURE, {}, 404, Code.NOTHING_HERE),
    ],
)
def test_bad_input_gets_a_problem_and_leaves_nothing(
    *, client: Client, path: str, content: bytes, headers: dict[str, str], status: int, code: Code
) -> None:
    answer = client.send(path, content, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == code
    assert problem["type"] == f"urn:deepfake:problem:{code}"
    assert problem["status"] == status
    assert problem["title"] == code.meaning
    assert problem["remedy"]
    assert problem["instance"].endswith(answer.headers["x-request-id"])
    assert client.media() == []
    assert client.send("/v1/detect").status_code == 200


def test_options_in_a_form_and_forms_without_a_file_are_refused(client: Client) -> None:
    both = client.post("/v1/detect", files={"file": ("a.png", PICTURE)}, data={"prior": "0.1"})
    assert both.status_code == 400
    assert "query" in both.json()["remedy"]
    two = client.post("/v1/detect", files=[("file", ("a.png", PICTURE))] * 2)
    assert (two.status_code, two.json()["code"]) == (422, Code.TOO_MANY_FILES)
    assert client.media() == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("a\r\nSet-Cookie: x=1.png", "a Set-Cookie: x=1.png"),
        ("\u202egnp.exe\x00\x1b[31m", "gnp.exe[31m"),
        ("/", "upload"),
        ("фото 🐈.png", "фото 🐈.png"),
        ("<script>alert(1)</script>", "script>"),
    ],
)
def test_names_are_only_words(client: Client, name: str, shown: str) -> None:
    answer = client.send("/v1/detect", params={"name": name, "effort": "quick"})
    said = answer.json()
    assert said["report"]["path"] == shown
    page = client.get(f"/v1/reports/{said['id']}", params={"format": "html"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert "gnp" not in page.headers
    assert said["report"]["verdict"] in page.text or "no sign" in page.text.lower()


def test_a_polyglot_is_what_its_bytes_begin_as(client: Client) -> None:
    zipped = b"PK\x03\x04" + b"\0" * 30 + b"PK\x05\x06" + b"\0" * 18
    answer = client.send("/v1/detect?name=a.zip", PICTURE + zipped)
    assert answer.status_code == 200
    assert answer.json()["report"]["media"]["format"] == "png"


def test_what_is_too_large_or_does_not_fit_is_refused_while_it_arrives(
    known_detector: Detector, tmp_path: Path
) -> None:
    limits = PageLimits(upload_bytes=20_000, disk_bytes=50_000, json_bytes=500)
    with serviced(known_detector, tmp_path, limits=limits, workers=0) as client:
        sent = 0

        async def endless():
            nonlocal sent
            while True:
                sent += 5000
                yield PICTURE[:5000].ljust(5000, b"x")

        answer = client.post(
            "/v1/detect",
            content=endless(),
            headers={"Content-Type": "application/octet-stream"},
        )
        assert (answer.status_code, answer.json()["code"]) == (413, Code.TOO_LARGE)
        assert sent <= 30_000
        assert client.send("/v1/jobs", b"x" * 19_000).status_code == 202
        assert client.send("/v1/jobs", b"x" * 19_000).status_code == 202
        full = client.send("/v1/jobs", b"x" * 19_000)
        assert (full.status_code, full.json()["code"]) == (507, Code.NO_ROOM)
        assert len(client.media()) == 2
        note = client.post("/v1/feedback", json={"note": "x" * 600})
        assert note.status_code == 413


def test_a_full_disk_is_a_problem_and_keeps_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepfake_app.storage import Incoming

    def fail(self: Incoming, chunk: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Incoming, "write", fail)
        for answer in (
            client.send("/v1/detect"),
            client.post("/v1/jobs", files={"file": ("a.png", PICTURE)}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (507, Code.NO_ROOM)
    assert client.media() == []
    assert client.send("/v1/detect").status_code == 200


def test_a_bug_is_one_request_s_problem_and_tells_only_a_number(
    faulty_detector: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serviced(faulty_detector, tmp_path) as client:
        answer = client.send("/v1/detect", image_bytes(scene(13, 40)))
        assert (answer.status_code, answer.json()["code"]) == (500, Code.INTERNAL)
        assert "ZeroDivisionError" not in answer.text
        number = answer.json()["detail"].split()[-1]
        assert number in caplog.text
        assert client.send("/v1/detect").status_code == 200


def test_a_bug_of_an_endpoint_is_logged_and_answered(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("inside\nof it")

    monkeypatch.setattr("deepfake_service.web.detection.word_report", fail)
    answer = client.send("/v1/detect")
    assert (answer.status_code, answer.json()["code"]) == (500, Code.INTERNAL)
    assert answer.headers["x-request-id"]
    assert "inside" not in answer.text
    assert "RuntimeError" in caplog.text


def test_an_examination_has_an_end(detector: Detector, tmp_path: Path) -> None:
    with serviced(detector, tmp_path, limits=PageLimits(file_seconds=0.3)) as client:
        answer = client.send("/v1/detect", image_bytes(scene(13, 40)))
        assert (answer.status_code, answer.json()["code"]) == (422, Code.TIME_LIMIT)
        assert client.media() == []


def test_request_ids_are_plain_words(client: Client) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "a-1"}).headers["x-request-id"] == "a-1"
    for odd in ("a b", "x" * 65, "-", 'a"b', "ä".encode()):
        made = client.get("/healthz", headers={b"X-Request-ID": odd}).headers["x-request-id"]
        assert len(made) == 32


def test_other_hosts_and_sites_are_refused(client: Client) -> None:
    evil = client.get("/v1/models", headers={"Host": "evil.example"})
    assert (evil.status_code, evil.json()["code"]) == (403, Code.NOT_ALLOWED)
    site = client.send("/v1/detect", headers={"Origin": "http://evil.example"})
    assert (site.status_code, site.json()["code"]) == (403, Code.NOT_ALLOWED)


def test_the_service_tells_how_it_is(client: Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz").json()
    assert ready["checks"] == {"models": "ok", "database": "ok", "disk": "ok"}
    models = client.get("/v1/models").json()["models"]
    assert {model["slot"] for model in models} >= {"image", "audio", "video", "face"}
    client.send("/v1/detect")
    client.send("/v1/detect", b"nothing")
    text = client.get("/metrics").text
    assert 'deepfake_requests_total{method="POST",route="/v1/detect",status="200"} 1.0' in text
    assert 'deepfake_failed_examinations_total{code="unsupported"} 1.0' in text
    assert 'deepfake_reports_total{kind="image"' in text


def test_methods_that_an_address_does_not_have_are_problems(client: Client) -> None:
    answer = client.get("/v1/detect")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.headers["content-type"] == "application/problem+json"


def test_what_is_wrong_with_the_service_is_told_to_its_log(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise ModelError("bundle image-1: lacks /secret/path", hint="restore /secret/path")

    monkeypatch.setattr(client.service.detector, "detect", fail)
    answer = client.send("/v1/detect")
    assert (answer.status_code, answer.json()["code"]) == (503, Code.MODEL)
    assert "secret" not in answer.text
    assert "/secret/path" in caplog.text
