"""The description of the interface, and requests that are made of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from deepfake_service.web.application import ERRORS

from deepfake.detector import Detector
from tests.service.serving import Client, serviced


@pytest.fixture(scope="module")
def client(known_detector: Detector) -> Iterator[Client]:
    with (
        tempfile.TemporaryDirectory() as folder,
        serviced(known_detector, Path(folder)) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def interface(client: Client) -> object:
    return schemathesis.openapi.from_asgi(
        "/v1/openapi.json", client.app, headers={"Host": "127.0.0.1"}
    )


schema = schemathesis.pytest.from_fixture("interface")


@pytest.mark.slow
@schema.parametrize()
def test_whatever_fits_the_description_gets_an_answer_that_does(case: object) -> None:
    case.call_and_validate(headers={"Host": "127.0.0.1"})  # type: ignore[attr-defined]


def test_every_operation_is_described_with_examples_and_problems(client: Client) -> None:
    description = client.get("/v1/openapi.json").json()
    assert description["openapi"].startswith("3.1")
    schemas = description["components"]["schemas"]
    assert "HTTPValidationError" not in schemas
    assert {"Problem", "Fault"} <= set(schemas)
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["description"], where
            for status in ERRORS:
                (kind, body), *others = operation["responses"][str(status)]["content"].items()
                assert kind == "application/problem+json", where
                assert body["example"]["status"] == status
                assert others == []
    for name in ("ReportAnswer", "JobAnswer", "FeedbackRequest", "ModelAnswer"):
        assert any("examples" in it for it in schemas[name]["properties"].values()), name
