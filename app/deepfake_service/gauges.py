"""Measurements that are taken when Prometheus asks: the line, budgets, decoders, models, drift."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deepfake.detector import Detector
from deepfake.media.process import POOL

from .examination import Examiner
from .monitoring.monitor import Monitor, Standing
from .store.budgets import Budgets
from .store.jobs import Jobs

_Values = Sequence[tuple[tuple[str, ...], float]]
"""Labels, and the value that they have."""


@dataclass(frozen=True, kw_only=True)
class Gauges(Collector):
    """Of one service. Raises ``ServiceError`` while the database is away."""

    detector: Detector
    examiner: Examiner
    jobs: Jobs
    budgets: Budgets
    monitor: Monitor

    def collect(self) -> Iterator[Metric]:
        states = [((state,), number) for state, number in self.jobs.count().items()]
        used = [
            ((it.key, it.of), it.used / it.most if it.most else 1.0)
            for it in self.budgets.used_today()
        ]
        yield from _stored(states, self.jobs.oldest_seconds(), used)
        waiting = self.examiner.present
        yield _gauge(
            "deepfake_waiting_requests",
            "Requests whose file is examined now or waits for that",
            [],
            [((), waiting)],
        )
        yield _gauge("deepfake_decoders", "Decoder processes that live", [], [((), POOL.living)])
        yield CounterMetricFamily(
            "deepfake_decoder_kills",
            "Decoder processes ended before their answer was whole",
            value=POOL.kills,
        )
        active = sorted(self.detector.engine.active.items())
        yield _gauge(
            "deepfake_model_info",
            "The bundles that judge",
            ["slot", "bundle", "sha256"],
            [((slot, bundle.name, bundle.sha256), 1) for slot, bundle in active],
        )
        streams = self.monitor.streams()
        yield _gauge(
            "deepfake_drift_evidence_ratio",
            "Logarithm of the evidence for drift over that of the limit of an alarm",
            ["tenant", "kind"],
            _join(streams, lambda it: it.evidence, max),
        )
        yield _gauge(
            "deepfake_drift_reference_ratio",
            "How much of the reference is learnt",
            ["tenant", "kind"],
            _join(streams, lambda it: it.learnt, min),
        )

    def describe(self) -> list[Metric]:
        return [*_stored([], 0.0, [])]


def _stored(states: _Values, age: float, used: _Values) -> Iterator[Metric]:
    yield _gauge("deepfake_jobs", "Jobs by state", ["state"], states)
    yield _gauge(
        "deepfake_oldest_job_seconds",
        "How long the job at the head of the line has been due",
        [],
        [((), age)],
    )
    yield _gauge(
        "deepfake_budget_used_ratio",
        "Share of the budget of today that a key has used, by the prefix of the key",
        ["key", "of"],
        used,
    )


def _join(
    streams: Sequence[Standing],
    read: Callable[[Standing], float],
    choose: Callable[[float, float], float],
) -> _Values:
    """One value for each tenant and kind, of whatever processes watch them."""
    found: dict[tuple[str, ...], float] = {}
    for it in streams:
        label, value = (it.tenant, it.kind), read(it)
        found[label] = choose(found.get(label, value), value)
    return [*found.items()]


def _gauge(name: str, text: str, labels: Sequence[str], values: _Values) -> Metric:
    gauge = GaugeMetricFamily(name, text, labels=labels)
    for label, value in values:
        gauge.add_metric(label, value)
    return gauge
