"""The JSON log and traces: what they tell, and what they must not."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import httpx
import pytest
from deepfake_service.monitoring.logs import hide, logging_json
from deepfake_service.monitoring.tracing import ENDPOINTS, tracing
from deepfake_service.web.requests import Requests
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from deepfake.detector import Detector
from tests.reports import make_report
from tests.service.serving import Client, served, serviced


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_request_is_one_object_with_fields(client: Client) -> None:
    stream = io.StringIO()
    with logging_json(stream=stream):
        client.send("/v1/detect", b"nothing", headers={"X-Request-ID": "abc"})
    (line,) = lines(stream)
    assert line["route"] == "/v1/detect"
    assert (line["status"], line["code"], line["key"]) == (422, "unsupported", "local")
    assert (line["request_id"], line["level"], line["logger"]) == (
        "abc",
        "info",
        "deepfake_service",
    )
    assert str(line["timestamp"]).endswith("Z")
    client.send("/v1/detect")
    assert len(lines(stream)) == 1  # nothing after its end
    assert not logging.getLogger("deepfake_service").handlers


def test_names_of_files_are_hidden_unless_they_are_wanted(
    faulty_detector: Detector, tmp_path: Path
) -> None:
    from tests.media_files import image_bytes, scene

    name = "Mrs Miller's passport.png"
    with serviced(faulty_detector, tmp_path) as client:
        for names in (False, True):
            stream = io.StringIO()
            with logging_json(names=names, stream=stream):
                client.post("/v1/detect", files={"file": (name, image_bytes(scene(13, 13)))})
            text = stream.getvalue()
            assert (name in text) == names
            assert (hide(name) in text) != names
            bug = next(line for line in lines(stream) if line["level"] == "error")
            assert bug["request_id"] == lines(stream)[-1]["request_id"]


def test_the_service_logs_json_on_request(
    detector: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(detector, tmp_path, log_json=True) as address:
        assert httpx.get(f"{address}healthz").status_code == 200
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert json.loads(said[-1])["route"] == "/healthz"


def test_control_characters_begin_no_line_of_their_own() -> None:
    stream = io.StringIO()
    with logging_json(stream=stream):
        logging.getLogger("deepfake").error("a\n{}\r\x1b[2J %s", "b\nc")
    (line,) = lines(stream)
    assert line["event"] == "a\n{}\r\x1b[2J b\nc"


def test_spans_tell_times_and_verdicts_below_the_client_s(
    detector: Detector, tmp_path: Path
) -> None:
    exporter = InMemorySpanExporter()
    with serviced(detector, tmp_path) as client, tracing(exporter) as traces:
        layer = client.app.build_middleware_stack()
        while not isinstance(layer, Requests):
            layer = layer.app
        layer._tracing = client.service.examiner._tracing = traces
        client.app.middleware_stack = layer
        above = "0af7651916cd43dd8448eb211c80319c"
        parent = {"traceparent": f"00-{above}-b7ad6b7169203331-01"}
        assert client.send("/v1/detect", headers=parent).status_code == 200
    spans = {span.name: span for span in exporter.get_finished_spans()}
    request, examination = spans["POST /v1/detect"], spans["examination"]
    assert f"{request.context.trace_id:032x}" == above
    assert examination.parent.span_id == request.context.span_id
    assert spans["open"].parent.span_id == examination.context.span_id
    assert request.attributes["http.response.status_code"] == 200
    assert set(examination.attributes) == {"deepfake.kind", "deepfake.verdict"}
    assert all(span.start_time <= span.end_time for span in spans.values())


def test_nothing_is_traced_unless_it_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    with tracing() as traces, traces.request("GET", {}) as said:
        said["http.route"] = "/"
        traces.note_report(make_report())
    assert traces._tracer is None
