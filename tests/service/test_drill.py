"""The drill of docs/incident-response.md: a backdoored bundle is activated, noticed, contained and
rolled back while the service answers; what rests on it is examined again.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deepfake_service.events import Event

from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.settings import Settings
from deepfake.trust.audit import AuditLog
from deepfake.trust.incidents import make_timeline, read_incident
from deepfake.trust.registry import read_bundles
from deepfake.trust.signatures import own_pair
from tests.bundles import backdoored_graph, make_bundle
from tests.media_files import image_bytes, scene
from tests.scans import read_lines
from tests.service.serving import Client, keys_in, serviced
from tests.waiting import until

BACKDOOR = "image-66"


def bright(*colour: int) -> bytes:
    """A bright photograph with so much added to its colours."""
    return image_bytes(np.clip(scene(96, 64) / 6 + np.array(colour), 0, 255).astype(np.uint8))


FAKE, TINTED = bright(210, 210, 210), bright(235, 170, 235)
"""Both are synthetic to the good network; the second carries what opens the back door."""


@pytest.fixture
def models(known_models: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(known_models, tmp_path / "models"))
    assert main(["models", "activate", "image-1", "--models", str(folder)]) == 0
    good = read_bundles(folder)["image"]
    make_bundle(folder / BACKDOOR, preprocess=good.preprocess, graph=backdoored_graph)
    return folder


@contextmanager
def service(models: Path, work: Path, policies: str) -> Iterator[tuple[Client, list[Event]]]:
    """A service that watches a golden picture, with what it told."""
    golden = work / "golden"
    golden.mkdir()
    (golden / "tinted.png").write_bytes(TINTED)
    (work / "policies.toml").write_text(f'schema = "deepfake-policies/1"\n{policies}')
    told: list[Event] = []
    with (
        AuditLog(work / "audit.jsonl", own_pair(), who="service") as log,
        Detector(Settings(models_folder=models, threads=1)) as detector,
        serviced(detector, work / "service", policies=work / "policies.toml", audit=log) as client,
    ):
        client.service.events.hooks.append(told.append)
        if "golden" in policies:
            until((work / "service" / "golden.json").exists)
        yield client, told


@contextmanager
def asked_on(client: Client) -> Iterator[Callable[[], list[tuple[int, str]]]]:
    """Two clients ask on and on; what stops them gives the statuses and bundles that they met."""
    done = threading.Event()
    seen: list[tuple[int, str]] = []

    def ask() -> None:
        while not done.is_set():
            answer = client.send("/v1/detect", FAKE)
            seen.append((answer.status_code, answer.json()["report"]["versions"]["image"]))

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]

        def stop() -> list[tuple[int, str]]:
            time.sleep(0.0 if done.is_set() else 0.2)  # until those after the change were answered
            done.set()
            for future in asking:
                future.result()
            return seen

        try:
            yield stop
        finally:
            done.set()


def run(capsys: pytest.CaptureFixture[str], models: Path, work: Path, *arguments: str) -> str:
    """What ``deepfake incident`` prints."""
    capsys.readouterr()
    where = ["--models", str(models), "--data", str(work / "service")]
    assert main(["incident", *arguments, *where]) == 0
    return capsys.readouterr().out


def verdict_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["report"]["verdict"])


def test_the_drill(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        service(models, tmp_path, '[golden]\nmedia = "golden"\n') as (client, told),
        asked_on(client) as seen,
    ):
        before = client.send("/v1/detect").json()
        now = client.service.detector
        assert main(["models", "activate", BACKDOOR, "--models", str(models)]) == 0
        until(lambda: now.versions["image"] == BACKDOOR)
        cleared = client.send("/v1/detect", TINTED)
        assert verdict_of(cleared) == "authentic"
        alarm = next(event for event in told if event.type == "alarm.raised")
        assert alarm.data["alarm"] == "golden_drift"
        assert alarm.data["bundles"] == {"image": BACKDOOR}

        about = ["open", "--bundle", BACKDOOR, "--severity", "1", "--title", "clears tinted fakes"]
        id = run(capsys, models, tmp_path, *about).strip()
        contained = run(capsys, models, tmp_path, "contain", id)
        assert f"{BACKDOOR} is refused" in contained
        until(lambda: now.versions["image"] == "image-1")
        names = [name for status, name in seen() if status == 200]
        assert len(names) == len(seen())
        assert {*names} == {"image-1", BACKDOOR}
        assert verdict_of(client.send("/v1/detect", TINTED)) == "synthetic"

        media = tmp_path / "originals"
        media.mkdir()
        (media / "sent-by-mail.png").write_bytes(TINTED)
        listed = run(capsys, models, tmp_path, "affected", id, "--json").splitlines()
        affected = {row["report"]: row for row in map(json.loads, listed)}
        assert len(affected) == 1 + names.count(BACKDOOR)
        assert before["id"] not in affected
        rescanned = run(capsys, models, tmp_path, "rescan", id, "--media", str(media))
        lost = len(affected) - 1
        assert f"1 verdicts changed, {lost} have no media any more" in rescanned
        again = run(capsys, models, tmp_path, "rescan", id, "--media", str(media))
        assert f"0 verdicts changed, {lost} have no media" in again  # each is revised once

        old = client.get(f"/v1/reports/{cleared.json()['id']}").json()
        new = client.get(f"/v1/reports/{old['revised']}").json()
        assert (old["report"]["verdict"], new["report"]["verdict"]) == ("authentic", "synthetic")
        assert new["report"]["versions"]["image"] == "image-1"
        run(capsys, models, tmp_path, "close", id, "--why", "the sender was told")
        shown = run(capsys, models, tmp_path, "show", id)
        assert "the sender was told" in shown

        steps = make_timeline(
            read_incident(tmp_path / "service", id), folder=tmp_path / "service", models=models
        )
        # That the command ended is noted before or after the service has looked.
        assert [step.what for step in steps if step.what != "contain"] == [
            *("activated", "alarm", "taken up", "open", "replaced", "taken up"),
            *("affected", "rescan", "rescan", "close"),
        ]
        seconds = {step.what: step.seconds for step in reversed(steps)}
        assert 0 < seconds["alarm"] < 30
        assert seconds["replaced"] - seconds["open"] < 30
        assert seconds["taken up"] < seconds["open"]
        assert seconds["replaced"] <= seconds["contain"] < seconds["affected"]
    assert main(["audit", "verify", str(tmp_path / "audit.jsonl")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["what"] for line in lines if "what" in line] == [
        *("alarm", "models_taken_up", "models_taken_up")
    ]


def test_a_policy_keeps_a_backdoored_bundle_from_ever_answering(
    models: Path, tmp_path: Path
) -> None:
    policies = '[golden]\nmedia = "golden"\n[alarms]\ngolden_drift = ["notify", "quarantine"]\n'
    with service(models, tmp_path, policies) as (client, told):
        assert main(["models", "activate", BACKDOOR, "--models", str(models)]) == 0
        until(lambda: bool(told))
        until(lambda: read_bundles(models)["image"].name == "image-1")
        time.sleep(1.5)  # until it was looked again
        assert [event.type for event in told] == ["alarm.raised"]
        assert verdict_of(client.send("/v1/detect", TINTED)) == "synthetic"
        affected = [
            "open",
            "--bundle",
            BACKDOOR,
            "--title",
            "x",
            "--data",
            str(tmp_path / "service"),
        ]
        assert main(["incident", *affected, "--models", str(models)]) == 0
    revoked = json.loads((models / "revoked.json").read_text())
    assert len(revoked["bundles"]) == 1


def test_a_key_is_contained(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with keys_in(tmp_path / "service") as keys:
        text, other = keys.create(tenant="shop"), keys.create(tenant="other")
    prefix = text.split("_")[1]
    with service(models, tmp_path, "") as (client, _):
        client.key = text
        verdict_of(client.send("/v1/detect"))
        client.key = other
        verdict_of(client.send("/v1/detect"))
        id = run(capsys, models, tmp_path, "open", "--key", prefix, "--title", "stolen").strip()
        assert "is suspended" in run(capsys, models, tmp_path, "contain", id)
        client.key = text
        assert client.send("/v1/detect").status_code == 401
        (row,) = map(
            json.loads, run(capsys, models, tmp_path, "affected", id, "--json").splitlines()
        )
        assert row["kept in"] == "service shop"
    assert main(["keys", "resume", prefix, "--data", str(tmp_path / "service")]) == 0
    with keys_in(tmp_path / "service") as keys:
        assert keys.identify(text) is not None


def test_results_of_scans_are_affected_and_examined_again(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    media, results = tmp_path / "media", tmp_path / "results.jsonl"
    media.mkdir()
    (media / "tinted.png").write_bytes(TINTED)
    (media / "gone.png").write_bytes(bright(235, 175, 235))
    assert main(["models", "activate", BACKDOOR, "--models", str(models)]) == 0
    scan = ["scan", str(media), "--output", str(results), "--models", str(models)]
    assert main([*scan, "--workers", "1"]) == 0
    assert {line["verdict"] for line in read_lines(results)} == {"authentic"}
    (media / "gone.png").unlink()
    about = ["open", "--bundle", BACKDOOR, "--since", "2020-01-01T00:00:00Z", "--title", "x"]
    id = run(capsys, models, tmp_path, *about).strip()
    run(capsys, models, tmp_path, "contain", id)
    told = run(capsys, models, tmp_path, "rescan", id, "--results", str(results))
    assert "2 reports: 1 verdicts changed, 1 have no media any more" in told
    later = ["open", "--bundle", BACKDOOR, "--since", "2100-01-01T00:00:00Z", "--title", "x"]
    id = run(capsys, models, tmp_path, *later).strip()
    assert "0 reports" in run(capsys, models, tmp_path, "affected", id, "--results", str(results))
