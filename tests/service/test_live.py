"""Models are changed while the service answers: nothing is lost, nothing is mixed, and what fails
does not answer.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from deepfake_service.alarms import Alarm
from deepfake_service.golden_media import GoldenMedia
from deepfake_service.live import LiveDetector

from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.engine.engine import Engine
from deepfake.reasons import Code
from deepfake.settings import Settings
from deepfake.trust.registry import read_bundles
from deepfake.types import Verdict
from tests.bundles import copy_bundle, make_bundle
from tests.faulty import BUG_PIXELS, Endless
from tests.media_files import image_bytes, scene
from tests.service.serving import PICTURE, serviced
from tests.waiting import until


@pytest.fixture
def models(known_models: Path, tmp_path: Path) -> Path:
    """A models folder whose list names image-1; image-2 is as good, image-3 says the opposite."""
    folder = Path(shutil.copytree(known_models, tmp_path / "models"))
    copy_bundle(folder / "image-1", "image-2")
    make_bundle(folder / "image-3", preprocess=read_bundles(folder)["image"].preprocess, gain=-4.0)
    activate(folder, "image-1")
    return folder


def activate(models: Path, name: str) -> None:
    assert main(["models", "activate", name, "--models", str(models)]) == 0


@contextmanager
def live(models: Path, **how: Any) -> Iterator[tuple[LiveDetector, list[Alarm]]]:
    alarms: list[Alarm] = []
    how = {"raise_alarm": alarms.append, "poll_seconds": 3600.0, **how}
    with (
        Detector(Settings(models_folder=models, threads=1)) as detector,
        LiveDetector(detector, **how) as following,
    ):
        yield following, alarms


def test_a_running_service_takes_a_change_up_without_losing_a_request(
    models: Path, tmp_path: Path
) -> None:
    sha256 = dict.fromkeys(("image-1", "image-2"), "")
    sha256["image-1"] = read_bundles(models)["image"].sha256
    with (
        Detector(Settings(models_folder=models, threads=1)) as detector,
        serviced(detector, tmp_path / "service") as client,
        ThreadPoolExecutor(3) as pool,
    ):
        done = threading.Event()

        def ask() -> list[tuple[int, str, str]]:
            seen = []
            while not done.is_set():
                answer = client.send("/v1/detect?effort=quick")
                report = answer.json()["report"]
                named = report["versions"]["image"], report["bundles"]["image"]
                assert named[0] == next(
                    one["bundle"] for one in report["evidence"] if one["source"] == "image"
                )
                seen.append((answer.status_code, *named))
            return seen

        asking = [pool.submit(ask) for _ in range(3)]
        for name in ("image-2", "image-1", "image-2"):
            activate(models, name)
            sha256[name] = read_bundles(models)["image"].sha256
            until(lambda name=name: client.service.detector.versions["image"] == name)  # type: ignore[misc]
        time.sleep(0.2)
        done.set()
        seen = [one for future in asking for one in future.result()]
    assert {status for status, _, _ in seen} == {200}
    assert {name for _, name, _ in seen} == {"image-1", "image-2"}
    assert {(name, digest) for _, name, digest in seen} == set(sha256.items())


def test_what_was_begun_ends_with_the_models_that_it_began_with(models: Path) -> None:
    endless, cancel = Endless(), threading.Event()
    settings = Settings(models_folder=models, threads=1)
    with (
        Detector(settings, analyzers=(endless,)) as detector,
        LiveDetector(detector, raise_alarm=lambda alarm: None, poll_seconds=3600) as following,
        ThreadPoolExecutor(1) as pool,
    ):
        slow = image_bytes(scene(BUG_PIXELS, 40))
        running = pool.submit(lambda: following.detect(slow, cancel=cancel))
        endless.begun.wait(10)
        activate(models, "image-2")
        assert following.look()
        assert following.versions["image"] == "image-2"
        detector.engine.require_open()  # as long as the slow file is in work
        cancel.set()
        with pytest.raises(Exception, match="stopped"):
            running.result()
        with pytest.raises(Exception, match="closed"):
            detector.engine.require_open()


def test_models_that_cannot_be_used_are_refused_with_an_alarm(models: Path) -> None:
    with live(models) as (detector, alarms):
        (models / "active.json").write_text("{}")
        assert detector.look()
        assert not detector.look()
        assert [alarm.name for alarm in alarms] == ["models_refused"]
        assert detector.detect(PICTURE).versions["image"] == "image-1"


def test_a_revoked_bundle_without_a_replacement_answers_no_more(models: Path) -> None:
    for name in ("image-2", "image-3"):
        shutil.rmtree(models / name)
    (models / "history.jsonl").unlink()
    quarantine = ["quarantine", "image-1", "--why", "leaked", "--models", str(models)]
    with live(models) as (detector, _):
        assert main(["models", *quarantine]) == 0
        assert detector.look()
        report = detector.detect(PICTURE)
        assert report.verdict is Verdict.INCONCLUSIVE
        assert report.reasons[0].code == Code.MODEL_SUSPENDED
        assert "image" not in report.bundles


def test_a_slot_that_fails_its_self_test_is_not_ready(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Detector(Settings(models_folder=models, threads=1)) as detector,
        serviced(detector, tmp_path / "service") as client,
    ):
        assert client.get("/readyz").status_code == 200
        following = client.service.detector
        score = following.engine.logits
        monkeypatch.setattr(  # as a runtime that went wrong would answer
            following.engine,
            "logits",
            lambda bundle, batch: score(bundle, batch) + (bundle.slot == "image"),
        )
        following.self_test()
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "model_suspended")
        report = client.send("/v1/detect?effort=quick").json()["report"]
        assert report["reasons"][0]["code"] == "model_suspended"
        activate(models, "image-2")
        until(lambda: client.get("/readyz").status_code == 200)


def test_a_slot_that_gives_its_golden_scores_again_answers_again(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, real = {"image"}, Engine.logits
    monkeypatch.setattr(  # as a runtime that goes wrong for a while
        Engine,
        "logits",
        lambda engine, bundle, batch: real(engine, bundle, batch) + (bundle.slot in wrong),
    )
    with live(models, poll_seconds=0.05, retest_seconds=0.05) as (detector, alarms):
        until(lambda: "image" in detector.engine.suspended)
        assert detector.detect(PICTURE).reasons[0].code == Code.MODEL_SUSPENDED
        assert any("image" in warning for warning in detector.engine.warnings)
        time.sleep(0.5)  # tested again, and it fails
        assert "image" in detector.failing
        wrong.clear()
        until(lambda: not detector.failing)
        detector.check()
        report = detector.detect(PICTURE)
        assert report.bundles["image"] == read_bundles(models)["image"].sha256
        assert Code.MODEL_SUSPENDED not in [reason.code for reason in report.reasons]
        assert not [warning for warning in report.warnings if "Suspended" in warning]
    assert [alarm.name for alarm in alarms] == [Code.GOLDEN_FAILED]


def test_a_slot_that_was_revoked_meanwhile_stays_away(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, real = {"image"}, Engine.logits
    monkeypatch.setattr(
        Engine,
        "logits",
        lambda engine, bundle, batch: real(engine, bundle, batch) + (bundle.slot in wrong),
    )
    for name in ("image-2", "image-3"):
        shutil.rmtree(models / name)
    (models / "history.jsonl").unlink()
    with live(models) as (detector, _):
        until(lambda: "image" in detector.failing)
        assert main(["models", "quarantine", "image-1", "--why", "x", "--models", str(models)]) == 0
        wrong.clear()
        detector.look()
        detector.self_test()
        assert detector.failing == {}
        assert "image" not in detector.detect(PICTURE).bundles


def test_golden_media_that_are_judged_the_other_way_round_are_told_once(
    models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "golden"
    folder.mkdir()
    (folder / "bright.png").write_bytes(image_bytes(scene(200, 120) // 4 + 190))
    (folder / "notes.txt").write_text("no media")
    media = GoldenMedia(folder, tmp_path / "golden.json")
    with live(models, media=media) as (detector, alarms):
        until(media.record.exists)
        activate(models, "image-2")
        detector.look()
        assert alarms == []
        activate(models, "image-3")
        detector.look()
        detector.self_test()
        activate(models, "image-2")
        detector.look()  # which says again what was recorded
        activate(models, "image-3")
    (alarm,) = alarms
    assert (alarm.name, alarm.bundles) == ("golden_drift", {"image": "image-3"})
    with live(models, media=media) as (detector, alarms):  # the record outlives the service
        detector.self_test()
    (alarm,) = alarms
    assert alarm.bundles == {"image": "image-3"}
