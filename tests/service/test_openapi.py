"""The description of the interface, and requests that are made of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
import schemathesis
from deepfake_service.web.application import ERRORS
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.failures import FailureGroup
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from deepfake.detector import Detector
from tests.service.serving import EVERYTHING, Client, serviced


@pytest.fixture(scope="module")
def client(known_detector: Detector) -> Iterator[Client]:
    with (
        tempfile.TemporaryDirectory() as folder,
        serviced(known_detector, Path(folder)) as client,
    ):
        yield client


ANY_BYTES = [positive_data_acceptance, negative_data_rejection]
EXCLUDED = {
    "/v1/detect": ANY_BYTES,
    "/v1/jobs": ANY_BYTES,
    "/v1/batches": ANY_BYTES,
    "/v1/feedback": [positive_data_acceptance],
    "/v1/webhooks": [positive_data_acceptance],
    "/v1/webhooks/{webhook}/deliveries": [positive_data_acceptance],
}
"""Of what cannot be described in full: any bytes are a file, which may be no media, an
Idempotency-Key is for one request, an address may be private, and a cursor is of one page.
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_whatever_fits_the_description_or_does_not_gets_an_answer_that_does(
    client: Client, mode: GenerationMode
) -> None:
    key = client.service.keys.create(tenant="shop", scopes=EVERYTHING)
    headers = {"Host": "127.0.0.1", "Authorization": f"Bearer {key}"}
    interface = schemathesis.openapi.from_asgi("/v1/openapi.json", client.app, headers=headers)
    tried, failures = set(), []

    def ask(case: Any) -> None:
        tried.add(case.operation.label)
        excluded = EXCLUDED.get(case.operation.path, [])
        case.call_and_validate(headers=headers, excluded_checks=excluded, timeout=60)

    for result in interface.get_all_operations():
        cases = result.ok().as_strategy(generation_mode=mode)
        try:
            settings(suppress_health_check=list(HealthCheck))(given(case=cases)(ask))()
        except (Unsatisfiable, SkipTest):
            pass  # there is no wrong way to ask some
        except FailureGroup as failure:
            failures.append(failure)
    if failures:
        raise BaseExceptionGroup("answers", failures)
    assert len(tried) >= 10
    assert client.media() == []


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
