"""What Prometheus may read of the service. No label holds what a client wrote."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from deepfake.types import Evidence, Report, Weight

from .store.alarms import Alarm

KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
SCORES = tuple(step / 20 for step in range(1, 21))


class Metrics:
    """The measurements of one service; what is counted when asked is registered beside them (see
    :mod:`.gauges`).
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = self._count(
            "deepfake_requests", "Requests by route, method and status", "route", "method", "status"
        )
        self._seconds = self._measure(
            "deepfake_request_seconds", "Wall time of requests by route", "route", buckets=SECONDS
        )
        self._errors = self._count("deepfake_errors", "Problems that were answered by code", "code")
        self._reports = self._count(
            "deepfake_reports", "Reports by kind of media and verdict", "kind", "verdict"
        )
        self._examined = self._measure(
            "deepfake_examination_seconds",
            "Wall time of examinations by kind of media",
            "kind",
            buckets=SECONDS,
        )
        self._stages = self._measure(
            "deepfake_stage_seconds",
            "Wall time of examinations by kind of media and stage: opening, and each analyzer",
            "kind",
            "stage",
            buckets=SECONDS,
        )
        self._scores = self._measure(
            "deepfake_scores",
            "Scores by source of evidence and the bundle that gave them",
            "source",
            "bundle",
            buckets=SCORES,
        )
        self._evidence = self._count(
            "deepfake_evidence",
            "Evidence by source, status and reason: what was skipped, failed or cautioned",
            "source",
            "status",
            "reason",
        )
        self._failures = self._count(
            "deepfake_failed_examinations", "Examinations without a report by code", "code"
        )
        self._bytes = self._count(
            "deepfake_media_bytes", "Bytes of examined files by kind of media", "kind"
        )
        self._played = self._count(
            "deepfake_media_seconds", "Playing time of examined files by kind of media", "kind"
        )
        self._rulings = self._count(
            "deepfake_rulings", "Rulings of moderators by verdict and ruling", "verdict", "ruling"
        )
        self._alarms = self._count(
            "deepfake_drift_alarms", "Alarms of drift by kind of media and signal", "kind", "signal"
        )
        self._runs = self._count(
            "deepfake_watch_alarms",
            "Runs of files that hardly differ, by kind of media and what was done",
            "kind",
            "action",
        )

    def note_request(
        self, method: str, route: str, status: int, seconds: float, *, code: str | None
    ) -> None:
        """``code`` is that of the problem that was answered, if one was."""
        known = method if method in KNOWN_METHODS else "other"
        self._requests.labels(route, known, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if code is not None:
            self._errors.labels(code).inc()

    def note_report(self, report: Report) -> None:
        kind = report.media.kind
        self._reports.labels(kind, report.verdict).inc()
        self._examined.labels(kind).observe(report.seconds)
        for stage, seconds in report.seconds_by_step.items():
            self._stages.labels(kind, stage).observe(seconds)
        for evidence in report.evidence:
            self._note_evidence(evidence)
        self._bytes.labels(kind).inc(report.media.bytes)
        self._played.labels(kind).inc(report.media.seconds or 0.0)

    def note_failure(self, code: str) -> None:
        self._failures.labels(code).inc()

    def note_run(self, alarm: Alarm) -> None:
        self._runs.labels(alarm.kind, alarm.action).inc()

    def note_ruling(self, verdict: str, ruling: str) -> None:
        self._rulings.labels(verdict, ruling).inc()

    def note_alarm(self, kind: str, signal: str) -> None:
        self._alarms.labels(kind, signal).inc()

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)

    def _note_evidence(self, evidence: Evidence) -> None:
        self._evidence.labels(evidence.source, evidence.status, evidence.reason or "none").inc()
        if evidence.weight is Weight.SCORE and evidence.score is not None:
            self._scores.labels(evidence.source, evidence.bundle or "none").observe(evidence.score)

    def _count(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _measure(self, name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)
