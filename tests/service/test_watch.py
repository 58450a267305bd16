"""Runs of files that hardly differ: when they are an alarm, and what befalls the key."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from deepfake_service import watch as watch_module
from deepfake_service.events import Event
from deepfake_service.settings import Action, WatchSettings
from deepfake_service.store.alarms import Alarm, Alarms

from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.errors import ServiceError, SettingsError
from deepfake.reasons import Code
from tests.known.patterns import babble, pattern
from tests.media_files import image_bytes, wav_bytes
from tests.service.serving import EVERYTHING, Client, serviced

FILES = 4


@contextmanager
def watched(detector: Detector, folder: Path, **settings: Any) -> Iterator[Client]:
    """A client with a key of a service that an attack of four files alarms."""
    watch = WatchSettings(**{"files": FILES, **settings})
    with serviced(detector, folder / "service", watch=watch) as client:
        client.key = client.service.keys.create(tenant="shop", scopes=EVERYTHING)
        yield client


def steps(count: int, *, seed: int = 1) -> Iterator[bytes]:
    """A picture with a little noise, another one each time, as an attack sends it."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        noisy = pattern(seed).astype(int) + rng.integers(-4, 5, pattern(seed).shape)
        yield image_bytes(np.clip(noisy, 0, 255).astype(np.uint8))


def send_all(client: Client, contents: Iterator[bytes]) -> list[int]:
    return [client.send("/v1/detect", content).status_code for content in contents]


def policy(client: Client) -> str:
    return str(client.send("/v1/detect", image_bytes(pattern(99))).json()["policy"])


def test_an_attack_coarsens_what_the_key_sees(detector: Detector, tmp_path: Path) -> None:
    with watched(detector, tmp_path) as client:
        first = {"content": image_bytes(pattern(50)), "headers": {"Idempotency-Key": "first"}}
        report = client.send("/v1/detect", **first).json()["id"]
        assert send_all(client, steps(FILES - 1)) == [200] * (FILES - 1)
        assert policy(client) == "full"
        assert send_all(client, steps(FILES)) == [200] * FILES
        assert policy(client) == "rounded"
        shown = client.get(f"/v1/reports/{report}").json()
        assert shown["policy"] == "rounded"
        again = client.send("/v1/detect", **first)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json() == shown
        send_all(client, steps(2 * FILES, seed=2))
        assert policy(client) == "verdict"
        text = client.get("/metrics").text
        assert 'deepfake_watch_alarms_total{action="coarsen",kind="image"}' in text
        other = client.service.keys.create(tenant="shop")
        client.key = other
        assert policy(client) == "full"


def test_an_attack_suspends_the_key_and_its_successor_until_it_is_released(
    detector: Detector, tmp_path: Path
) -> None:
    with watched(detector, tmp_path, action=Action.SUSPEND) as client:
        prefix = str(client.key).split("_")[1]
        assert send_all(client, steps(FILES + 1)) == [200] * FILES + [403]
        answer = client.get("/v1/models")
        assert (answer.status_code, answer.json()["code"]) == (403, Code.SUSPENDED)
        client.key = client.service.keys.rotate(prefix, overlap_hours=1)
        assert client.get("/v1/models").status_code == 403
        folder = ["--data", str(tmp_path / "service")]
        assert main(["keys", "resume", prefix, *folder]) == 0
        assert main(["keys", "resume", "nobody", *folder]) == 2
        assert client.get("/v1/models").status_code == 200


def test_an_alarm_outlives_the_process_and_ends_by_itself(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched(detector, tmp_path, action=Action.SUSPEND) as client:
        send_all(client, steps(FILES))
        key = client.key
    with watched(detector, tmp_path) as client:
        client.key = key
        assert client.get("/v1/models").status_code == 403
        from deepfake_service.store import alarms

        now = alarms.now_ms()
        monkeypatch.setattr(alarms, "now_ms", lambda: now + 24 * 3_600_000 + 1000)
        assert client.get("/v1/models").status_code == 200


def test_an_attack_slows_the_key(detector: Detector, tmp_path: Path) -> None:
    with watched(detector, tmp_path, action=Action.SLOW, slow_rate="2/hour") as client:
        send_all(client, steps(FILES))
        statuses = [client.get("/v1/models").status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
    assert watch_module.slower("1/hour", "6/minute") == "1/hour"
    assert watch_module.slower(None, "6/minute") == "6/minute"
    assert watch_module.slower("600/minute", "6/minute") == "6/minute"


def test_an_attack_may_be_told_alone(detector: Detector, tmp_path: Path) -> None:
    with watched(detector, tmp_path, action=Action.TELL) as client:
        assert send_all(client, steps(2 * FILES)) == [200] * 2 * FILES
        assert policy(client) == "full"
        assert 'action="tell"' in client.get("/metrics").text


def test_reposts_are_no_attack(detector: Detector, tmp_path: Path) -> None:
    with watched(detector, tmp_path, action=Action.SUSPEND) as client:
        same = [image_bytes(pattern(1))] * (3 * FILES)
        sizes = [image_bytes(pattern(2, width=w, height=w * 3 // 4)) for w in range(200, 440, 20)]
        others = [image_bytes(pattern(seed)) for seed in range(10, 10 + 2 * FILES)]
        contents = [*same, *sizes, *others]
        assert send_all(client, iter(contents)) == [200] * len(contents)


def test_copies_of_many_sizes_are_an_attack_once_they_are_very_many(
    detector: Detector, tmp_path: Path
) -> None:
    with watched(detector, tmp_path, files=2, action=Action.SUSPEND) as client:
        sizes = (image_bytes(pattern(2, width=200 + 8 * n, height=150 + 6 * n)) for n in range(9))
        assert send_all(client, sizes) == [200] * 8 + [403]


def test_jobs_and_sounds_are_watched_too(detector: Detector, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    with watched(detector, tmp_path, action=Action.SUSPEND) as client:
        for number in range(FILES):
            noisy = babble(1) + rng.normal(0, 0.002, 64000).astype(np.float32)
            answer = client.send("/v1/jobs", wav_bytes(noisy.astype(np.float32)))
            assert answer.status_code == 202, number
            if number + 1 < FILES:
                client.wait(answer.json()["id"])
        job = answer.json()["id"]
        for _ in range(200):
            if client.get("/v1/models").status_code == 403:
                break
            time.sleep(0.05)
        else:
            raise AssertionError(job)


def test_what_was_long_ago_does_not_count(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched(detector, tmp_path, hours=1, action=Action.SUSPEND) as client:
        contents = [*steps(2 * FILES - 2)]
        send_all(client, iter(contents[: FILES - 1]))
        later = time.monotonic() + 3601
        monkeypatch.setattr(watch_module, "time", SimpleNamespace(monotonic=lambda: later))
        assert send_all(client, iter(contents[FILES - 1 :])) == [200] * (FILES - 1)


def test_whoever_asks_without_a_key_is_not_watched(detector: Detector, tmp_path: Path) -> None:
    watch = WatchSettings(files=2, action=Action.SUSPEND)
    with serviced(detector, tmp_path / "service", watch=watch) as client:
        assert send_all(client, steps(4)) == [200] * 4


def test_listeners_are_told_and_harm_nobody(
    detector: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Alarm] = []

    def fail(alarm: Alarm) -> None:
        raise RuntimeError("a listener's bug")

    with watched(detector, tmp_path) as client:
        events: list[Event] = []
        client.service.events.hooks.append(events.append)
        listeners = (fail, told.append, client.service.responder.note_probing)
        watch = watch_module.Watch(
            Alarms(client.service.database), WatchSettings(files=2), listeners=listeners
        )
        key = client.service.keys.identify(client.key)
        assert key is not None
        for content in steps(2):
            report = client.service.detector.detect(content, alike=True)
            watch.note(report, tenant=key.tenant, key=key.key)
        (alarm,) = told
        prefix = str(client.key).split("_")[1]
        assert (alarm.prefix, alarm.files, alarm.kind) == (prefix, 2, "image")
        assert "a listener failed" in caplog.text
        (event,) = events
        assert (event.type, event.data["alarm"], event.data["key"]) == (
            *("alarm.raised", "probing"),
            prefix,
        )


def test_a_database_that_is_away_costs_the_alarm_and_no_report(
    detector: Detector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*arguments: object) -> None:
        raise ServiceError("database: does not answer", code=Code.DATABASE, status=503)

    with watched(detector, tmp_path, action=Action.SUSPEND) as client:
        monkeypatch.setattr(Alarms, "keep", fail)
        assert send_all(client, steps(FILES + 1)) == [200] * (FILES + 1)
        assert "that hardly differ" in caplog.text
        assert "does not answer" in caplog.text


def test_odd_settings_are_refused() -> None:
    for odd in ({"files": 1}, {"hours": -1}, {"action_hours": 1e9}):
        with pytest.raises(SettingsError, match="out of range"):
            WatchSettings(**odd)
