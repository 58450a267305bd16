"""Traces of OpenTelemetry, where the operator has configured a place that takes them.

The variables are those of OpenTelemetry: with ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or that of traces
alone) spans are sent there; without one nothing is imported and nothing sent. A span tells routes,
kinds of media, verdicts and times; no names, no hashes, no media.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from deepfake.errors import MissingDependency
from deepfake.types import Report

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracing:
    """Spans of requests and examinations; of none without a tracer."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer

    @contextlib.contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """The span of a request, below that of its client (W3C Trace Context) where it tells one;
        what is put in the mapping becomes its attributes.
        """
        said: dict[str, Any] = {}
        if self._tracer is None:
            yield said
            return
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        above = TraceContextTextMapPropagator().extract(headers)
        with self._tracer.start_as_current_span(
            method, context=above, kind=SpanKind.SERVER, record_exception=False
        ) as span:
            try:
                yield said
            finally:
                span.set_attributes({key: it for key, it in said.items() if it is not None})
                span.update_name(f"{method} {said.get('http.route', '')}".strip())

    def note_report(self, report: Report) -> None:
        """The spans of an examination that has just ended and of its stages, below the present one.

        Stages follow each other, so their times are told from their lengths.
        """
        if self._tracer is None:
            return
        from opentelemetry import trace

        end = time.time_ns()
        start = end - round(report.seconds * 1e9)
        kind, verdict = report.media.kind.value, report.verdict.value
        span = self._tracer.start_span(
            "examination",
            start_time=start,
            attributes={"deepfake.kind": kind, "deepfake.verdict": verdict},
        )
        inside = trace.set_span_in_context(span)
        for stage, seconds in report.seconds_by_step.items():
            part = self._tracer.start_span(stage, context=inside, start_time=start)
            start += round(seconds * 1e9)
            part.end(start)
        span.end(end)


@contextlib.contextmanager
def tracing(exporter: SpanExporter | None = None) -> Iterator[Tracing]:
    """Traces that go to ``exporter``, or to where the environment says; none where it says nothing.

    Raises ``MissingDependency``.
    """
    if exporter is None and not any(os.environ.get(name) for name in ENDPOINTS):
        yield Tracing()
        return
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingDependency("opentelemetry-sdk", extra="traces") from error
    if exporter is None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError as error:
            raise MissingDependency(
                "opentelemetry-exporter-otlp-proto-http", extra="traces"
            ) from error
        exporter = OTLPSpanExporter()
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "deepfake")})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield Tracing(provider.get_tracer("deepfake"))
    finally:
        provider.shutdown()
