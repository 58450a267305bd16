"""The files for Prometheus and Grafana, held to what the service measures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from deepfake_service.store.keys import Allowance

from deepfake.reasons import Code
from tests.service.serving import EVERYTHING, Client

FOLDER = Path(__file__).parents[3] / "deploy" / "monitoring"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
ALERTS = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
OF_PROMETHEUS = {"up"}
VARIABLES = {"$__rate_interval": "5m", "$__range": "1h"}


def expressions() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            text = target["expr"]
            for name, value in VARIABLES.items():
                text = text.replace(name, value)
            yield panel["title"], text


def selectors(text: str) -> list[Any]:
    """The selectors of an expression, which must be PromQL."""
    found = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)

    promql_parser.walk(promql_parser.parse(text), visit)
    return found


@pytest.fixture
def measured(client: Client) -> dict[str, set[str]]:
    """The series of a service that has done a little of everything, with their labels."""
    keys = client.service.keys
    client.key = keys.create(
        tenant="shop",
        scopes=EVERYTHING,
        allowance=Allowance(files_a_day=100, seconds_a_day=100),
    )
    answer = client.send("/v1/detect").json()
    client.send("/v1/detect", b"nothing")
    client.post("/v1/feedback", json={"report": answer["id"], "ruling": "confirm"})
    client.service.metrics.note_alarm("image", "verdict")
    job = client.send("/v1/jobs").json()["id"]
    client.wait(job)
    series: dict[str, set[str]] = {}
    for line in client.get("/metrics").text.splitlines():
        if found := re.match(r"([a-z_]+)(?:\{(.*)\})? ", line):
            labels = set(re.findall(r'(\w+)="', found[2] or ""))
            series.setdefault(found[1], set()).update(labels)
    return series


@pytest.mark.parametrize(("where", "text"), list(expressions()))
def test_every_expression_is_promql(where: str, text: str) -> None:
    assert selectors(text), where
    assert "$" not in text


def test_every_metric_and_label_that_is_named_exists(measured: dict[str, set[str]]) -> None:
    for where, text in expressions():
        for selector in selectors(text):
            if selector.name in OF_PROMETHEUS:
                continue
            assert selector.name in measured, (where, selector.name)
            for matcher in selector.matchers.matchers:
                assert matcher.name in measured[selector.name], (where, matcher.name)


def test_every_metric_of_ours_is_on_the_dashboard(measured: dict[str, set[str]]) -> None:
    shown = {
        re.sub("_(bucket|sum|count)$", "", selector.name)
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        for selector in selectors(
            target["expr"].replace("$__rate_interval", "5m").replace("$__range", "1h")
        )
    }
    ours = {
        re.sub("_(bucket|sum|count|created)$", "", name)
        for name in measured
        if name.startswith("deepfake_") and not name.endswith("_created")
    }
    assert ours - shown == set()
    assert len(ours) >= 20


def test_codes_in_expressions_are_codes() -> None:
    for where, text in expressions():
        for selector in selectors(text):
            for matcher in selector.matchers.matchers:
                if matcher.name == "code":
                    for code in matcher.value.split("|"):
                        assert code in set(Code), (where, code)


def test_rules_say_how_bad_it_is_and_what_to_do() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names)) >= 10
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket", "info")
        assert set(rule["annotations"]) == {"summary", "remedy"}
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        if "for" in rule:
            assert promql_parser.parse_duration(rule["for"]).total_seconds() > 0


def test_panels_have_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels)


def test_prometheus_reads_what_the_service_serves(client: Client) -> None:
    (job,) = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
    assert client.get(job["metrics_path"]).status_code == 200
    assert f'job="{job["job_name"]}"' in RULES[0]["expr"]
