"""What Prometheus may read of the service. No label holds what a client wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deepfake.types import Report

from .store.alarms import Alarm

KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class Metrics:
    """The measurements of one service. ``count_jobs`` gives the jobs in each state when asked."""

    def __init__(self, count_jobs: Callable[[], Mapping[str, int]]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Jobs(count_jobs))
        self._requests = Counter(
            "deepfake_requests",
            "Requests by route, method and status",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "deepfake_request_seconds",
            "Wall time of requests by route",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._reports = Counter(
            "deepfake_reports",
            "Reports by kind of media and verdict",
            ("kind", "verdict"),
            registry=self.registry,
        )
        self._examined = Histogram(
            "deepfake_examination_seconds",
            "Wall time of examinations by kind of media",
            ("kind",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._failures = Counter(
            "deepfake_failed_examinations",
            "Examinations without a report by code",
            ("code",),
            registry=self.registry,
        )

        self._alarms = Counter(
            "deepfake_watch_alarms",
            "Runs of files that hardly differ, by kind of media and what was done",
            ("kind", "action"),
            registry=self.registry,
        )

    def note_request(self, method: str, route: str, status: int, seconds: float) -> None:
        known = method if method in KNOWN_METHODS else "other"
        self._requests.labels(route, known, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def note_report(self, report: Report) -> None:
        self._reports.labels(report.media.kind, report.verdict).inc()
        self._examined.labels(report.media.kind).observe(report.seconds)

    def note_failure(self, code: str) -> None:
        self._failures.labels(code).inc()

    def note_alarm(self, alarm: Alarm) -> None:
        self._alarms.labels(alarm.kind, alarm.action).inc()

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)


class _Jobs(Collector):
    def __init__(self, count: Callable[[], Mapping[str, int]]) -> None:
        self._count = count

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily("deepfake_jobs", "Jobs by state", labels=["state"])
        for state, number in self._count().items():
            gauge.add_metric([state], number)
        yield gauge

    def describe(self) -> list[Metric]:
        return [GaugeMetricFamily("deepfake_jobs", "Jobs by state", labels=["state"])]
