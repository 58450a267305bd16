"""Incidents say what they are about, and odd ones are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deepfake.commands.cli import main
from deepfake.errors import DeepfakeError, SettingsError
from deepfake.trust.incidents import (
    FILE,
    Scope,
    note,
    open_incident,
    read_incident,
    read_incidents,
)
from deepfake.trust.registry import read_bundles


@pytest.fixture
def models(known_models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(known_models, tmp_path / "models"))


def manage(models: Path, folder: Path, *arguments: str) -> int:
    return main(["incident", *arguments, "--models", str(models), "--data", str(folder)])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--bundle", "image-9"],
        ["--bundle", "../image-1\n"],
        ["--key", "dfk_' OR 1=1"],
        ["--since", "yesterday"],
        ["--since", "2026-11-29T08:00:00"],
        ["--bundle", "image-1", "--severity", "0"],
        ["--bundle", "image-1", "--title", "\x1b\x07"],
    ],
)
def test_what_is_odd_opens_nothing(
    models: Path, tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert manage(models, tmp_path / "data", "open", "--title", "x", *arguments) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("deepfake: ")
    assert "\x1b" not in error
    assert read_incidents(tmp_path / "data") == []


def test_incidents_are_counted_listed_and_closed(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    for _ in range(2):
        assert manage(models, folder, "open", "--bundle", "image-1", "--title", "odd") == 0
    assert capsys.readouterr().out.split() == ["inc-1", "inc-2"]
    assert manage(models, folder, "close", "inc-1", "--why", "nothing was wrong") == 0
    assert manage(models, folder, "contain", "inc-1") == 2
    assert "image" in read_bundles(models)
    assert [one.closed for one in read_incidents(folder)] == [True, False]
    with pytest.raises(SettingsError, match="is closed"):
        note(folder, "inc-1", "contain", who="")
    assert manage(models, folder, "list") == 0
    assert "nothing was wrong" not in capsys.readouterr().out
    for action in ("contain", "affected", "rescan", "show"):
        assert manage(models, folder, action, "inc-3\x1b") == 2
        assert "unknown" in capsys.readouterr().err


def test_a_period_has_nothing_to_contain(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert manage(models, folder, "open", "--since", "2026-01-01T00:00:00Z", "--title", "x") == 0
    assert manage(models, folder, "contain", "inc-1") == 2


def test_a_changed_file_is_refused(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    scope = Scope(bundle="image-1")
    for _ in range(2):
        open_incident(folder, title="odd", severity=2, scope=scope, who="ann", models=models)
    path = folder / FILE
    path.write_bytes(path.read_bytes().replace(b"odd", b"new", 1))
    with pytest.raises(DeepfakeError, match="not as it was written"):
        read_incident(folder, "inc-1")


def test_a_report_is_covered_by_what_it_rests_on(models: Path, tmp_path: Path) -> None:
    bundle = read_bundles(models)["image"]
    scope = Scope(bundle="image-1", sha256=(bundle.sha256,), until="2026-06-01T00:00:00Z")
    report = {
        "examined_at": "2026-05-01T00:00:00Z",
        "versions": {"image": "image-1"},
        "bundles": {"image": bundle.sha256},
    }
    assert scope.covers(report)
    assert not scope.covers(report | {"examined_at": "2026-07-01T00:00:00Z"})
    assert not scope.covers(report | {"bundles": {"image": "0" * 64}})  # another of the same name
    assert scope.covers({key: report[key] for key in ("examined_at", "versions")})  # an older one
