"""Policies say what is done on an alarm, and nothing else is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from deepfake_service import alarms
from deepfake_service.alarms import Action, Alarm, Policies, Responder
from deepfake_service.events import Event, Events
from deepfake_service.store.keys import Keys, Policy

from deepfake.errors import SettingsError
from deepfake.settings import Settings
from deepfake.trust.chain import read_chain
from deepfake.trust.registry import activate, read_bundles, read_list
from tests.bundles import copy_bundle
from tests.service.serving import keys_in


@pytest.fixture
def models(known_models: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(known_models, tmp_path / "models"))
    copy_bundle(folder / "image-1", "image-2")
    activate(folder, "image-2")
    return folder


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    with keys_in(tmp_path / "service") as keys:
        yield keys


def responder(
    models: Path, keys: Keys, folder: Path, *actions: Action, told: list[Event] | None = None
) -> Responder:
    return Responder(
        Policies(alarms={"*": actions}),
        settings=Settings(models_folder=models),
        keys=keys,
        events=Events(*([] if told is None else [told.append])),
        incidents=folder,
    )


def test_keys_are_coarsened_and_suspended(models: Path, keys: Keys, tmp_path: Path) -> None:
    text = keys.create(tenant="shop")
    alarm = Alarm(name="probing", text="a run of near copies", key=text.split("_")[1])
    acts = responder(models, keys, tmp_path, Action.COARSEN)
    assert acts.raise_alarm(alarm) == [Action.COARSEN]
    identity = keys.identify(text)
    assert identity is not None
    assert identity.policy is Policy.VERDICT
    acts = responder(models, keys, tmp_path, Action.SUSPEND_KEY, Action.COARSEN)
    acts.raise_alarm(alarm)
    assert keys.identify(text) is None  # still, though it was to be coarsened as well
    rotated = keys.rotate(text.split("_")[1], overlap_hours=1)
    assert keys.identify(rotated) is None  # a successor has no more rights
    (line, _) = read_chain(tmp_path / "incidents.jsonl")
    assert (line["what"], line["name"], line["key"]) == ("alarm", "probing", alarm.key)


def test_bundles_are_quarantined_and_slots_stopped(
    models: Path, keys: Keys, tmp_path: Path
) -> None:
    alarm = Alarm(name="drift", text="odd", bundles={"image": "image-2"})
    activate(models, "image-1")
    acts = responder(models, keys, tmp_path, Action.QUARANTINE)
    acts.raise_alarm(alarm)
    assert read_bundles(models)["image"].name == "image-1"
    acts = responder(models, keys, tmp_path, Action.STOP)
    acts.raise_alarm(Alarm(name="drift", text="odd", bundles={"image": "image-1"}))
    listed = read_list(models)
    assert listed is not None
    assert listed.suspended == {"image": "alarm drift: odd"}


def test_an_action_that_cannot_be_done_leaves_the_others_alone(
    models: Path, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Event] = []
    every = responder(models, keys, tmp_path, *Action, told=told)
    assert every.raise_alarm(Alarm(name="odd", text="\x1b[2J", key="0123456789")) == [Action.NOTIFY]
    assert [event.type for event in told] == ["alarm.raised"]
    assert "key '0123456789': unknown" in caplog.text
    assert "has nothing to quarantine" in caplog.text
    assert "\x1b" not in caplog.text


def test_an_alarm_that_cannot_be_noted_is_answered_all_the_same(
    models: Path, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "incidents.jsonl").mkdir()
    acts = responder(models, keys, tmp_path, Action.NOTIFY)
    assert acts.raise_alarm(Alarm(name="odd", text="")) == [Action.NOTIFY]
    assert "cannot be noted" in caplog.text


def test_the_same_alarm_is_raised_once_a_minute(
    models: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Event] = []
    acts = responder(models, keys, tmp_path, Action.NOTIFY, told=told)
    for text in ("first", "second"):
        acts.raise_alarm(Alarm(name="odd", text=text))
    acts.raise_alarm(Alarm(name="odd", text="of another", key="abc"))
    assert [event.data["text"] for event in told] == ["first", "of another"]
    monkeypatch.setattr(alarms, "QUIET_SECONDS", 0.0)
    acts.raise_alarm(Alarm(name="odd", text="third"))
    assert told[-1].data["text"] == "third"


def test_a_hook_that_fails_keeps_nothing_from_the_others() -> None:
    told: list[Event] = []

    def fail(event: Event) -> None:
        raise ZeroDivisionError

    Events(fail, told.append).emit(Event(type="alarm.raised", data={}))
    assert len(told) == 1


def test_policies_are_read(tmp_path: Path) -> None:
    (tmp_path / "golden").mkdir()
    path = tmp_path / "policies.toml"
    path.write_text(
        'schema = "deepfake-policies/1"\n[golden]\nmedia = "golden"\n'
        '[alarms]\nprobing = ["notify", "coarsen"]\n'
    )
    policies = Policies.read(path)
    assert policies.golden == tmp_path / "golden"
    assert policies.answer(Alarm(name="probing", text="")) == (Action.NOTIFY, Action.COARSEN)
    assert policies.answer(Alarm(name="other", text="")) == (Action.NOTIFY,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        'schema = "deepfake-policies/2"',
        'schema = "deepfake-policies/1"\nalarm = []',
        'schema = "deepfake-policies/1"\n[alarms]\nprobing = ["explode"]',
        'schema = "deepfake-policies/1"\n[alarms]\nprobing = "notify"',
        'schema = "deepfake-policies/1"\n[alarms]\n"../x" = ["notify"]',
        'schema = "deepfake-policies/1"\n[golden]\nmedia = "absent"',
        'schema = "deepfake-policies/1"\n[golden]\nmedai = "golden"',
        "\x00",
    ],
)
def test_policies_that_say_anything_else_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policies.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match="cannot be used"):
        Policies.read(path)
