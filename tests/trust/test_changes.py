"""What answers is changed, noted, undone and refused, and the way back is always there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from deepfake.bundle import Bundle
from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.errors import DeepfakeError, ModelError
from deepfake.reasons import Code
from deepfake.settings import Settings
from deepfake.trust import chain
from deepfake.trust.changes import HISTORY, read_history, roll_back, suspend
from deepfake.trust.registry import ActiveList, read_bundles, read_list, write_list
from deepfake.types import Verdict
from tests.bundles import copy_bundle, make_bundle, sign
from tests.media_files import image_bytes, scene


@pytest.fixture
def models(known_models: Path, tmp_path: Path) -> Path:
    """A models folder without a list, with a second bundle of pictures."""
    folder = Path(shutil.copytree(known_models, tmp_path / "models"))
    copy_bundle(folder / "image-1", "image-2")
    return folder


def manage(models: Path, *arguments: str) -> int:
    return main(["models", *arguments, "--models", str(models)])


def answering(models: Path) -> str:
    return read_bundles(models)["image"].name


def everything(bundle: Bundle) -> None:
    """Lets every bundle pass."""


def test_changes_are_noted_and_undone(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert manage(models, "activate", "image-1", "--why", "a trial", "--audit-who", "ann") == 0
    assert manage(models, "activate", "image-2") == 0
    assert manage(models, "rollback") == 0
    assert answering(models) == "image-1"
    assert manage(models, "rollback") == 0
    assert answering(models) == "image-2"  # that of the folder before it had a list
    assert manage(models, "rollback") == 1
    assert "nothing to go back to" in capsys.readouterr().err
    history = read_history(models)
    assert [change.what for change in history] == [
        *("found", "activate", "activate", "rollback", "rollback")
    ]
    assert (history[1].who, history[1].why, history[1].name) == ("ann", "a trial", "image-1")
    assert [change.undid for change in history[3:]] == [2, 1]
    capsys.readouterr()
    assert manage(models, "history") == 0
    assert "a trial" in capsys.readouterr().out


def test_a_list_that_was_edited_by_hand_is_found(models: Path) -> None:
    manage(models, "activate", "image-1")
    write_list(models, ActiveList({"image": read_list(models).bundles["image"]}))  # type: ignore[union-attr]
    manage(models, "activate", "image-2")
    assert [change.what for change in read_history(models)] == [
        *("found", "activate", "found", "activate")
    ]


def test_what_was_changed_is_passed_over_by_a_rollback(models: Path) -> None:
    for name in ("image-1", "image-2", "image-1"):
        manage(models, "activate", name)
    folder = models / "image-2"
    (folder / "model.onnx").write_bytes(b"other")

    def check(bundle: Bundle) -> None:
        bundle.verify()

    with pytest.raises(ModelError, match="nothing to go back to"):
        roll_back(models, who="", why="", check=check)
    assert answering(models) == "image-1"


@pytest.mark.parametrize("damage", ["edit", "insert", "cut", "reorder"])
def test_a_history_that_was_changed_is_refused(models: Path, damage: str) -> None:
    manage(models, "activate", "image-1")
    manage(models, "activate", "image-2")
    path = models / HISTORY
    lines = path.read_bytes().splitlines(keepends=True)
    changed = {
        "edit": [lines[0].replace(b"found", b"fount"), *lines[1:]],
        "insert": [lines[0], *lines],
        "cut": lines[1:],
        "reorder": lines[::-1],
    }
    path.write_bytes(b"".join(changed[damage]))
    with pytest.raises(DeepfakeError, match="not as it was written"):
        read_history(models)
    assert manage(models, "activate", "image-1") == 1
    assert answering(models) == "image-2"


def test_half_a_line_of_a_killed_process_is_cut_off(models: Path) -> None:
    manage(models, "activate", "image-1")
    with (models / HISTORY).open("ab") as file:
        file.write(b'{"list":')
    assert len(read_history(models)) == 2
    manage(models, "activate", "image-2")
    assert len(read_history(models)) == 3


def test_a_full_disk_leaves_the_chain_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "chain"
    with chain.adding(path) as (_, add):
        add({"what": "one"})
    monkeypatch.setattr(chain.os, "write", lambda descriptor, raw: 3)
    with chain.adding(path) as (_, add), pytest.raises(DeepfakeError, match="disk is full"):
        add({"what": "two"})
    assert [line["what"] for line in chain.read_chain(path)] == ["one"]


def test_a_bundle_that_does_not_give_its_golden_scores_is_not_activated(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manage(models, "activate", "image-1")
    bundle = Bundle.read(models / "image-2")
    shutil.copy(models / "frame-1" / "golden.npz", models / "other.npz")
    other = make_bundle(models / "work" / "image-2", preprocess=bundle.preprocess, gain=-4.0)
    shutil.copy(other.folder / "model.onnx", bundle.folder / "model.onnx")
    values = json.loads((bundle.folder / "bundle.json").read_text())
    values["files"]["model.onnx"] = dict(other.files["model.onnx"])
    (bundle.folder / "bundle.json").write_text(json.dumps(values))
    sign(bundle.folder)  # by whoever holds a trusted key
    assert manage(models, "activate", "image-2") == 1
    assert "does not give the recorded golden scores" in capsys.readouterr().err
    assert answering(models) == "image-1"


def test_quarantine_brings_back_what_answered_before(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manage(models, "activate", "image-1")
    manage(models, "activate", "image-2")
    assert manage(models, "quarantine", "image-2") == 2  # without a reason
    assert manage(models, "quarantine", "image-2", "--why", "leaked") == 0
    assert answering(models) == "image-1"
    assert manage(models, "activate", "image-2") == 1
    assert "is revoked (leaked)" in capsys.readouterr().err
    assert manage(models, "rollback") == 1  # which would bring it back
    assert answering(models) == "image-1"


def test_quarantine_without_a_predecessor_suspends_the_slot(models: Path) -> None:
    shutil.rmtree(models / "image-1")
    manage(models, "activate", "image-2")
    assert manage(models, "quarantine", "image-2", "--why", "leaked") == 0
    with Detector(Settings(models_folder=models)) as detector:
        report = detector.detect(image_bytes(scene()))
        assert "image" not in report.versions
        assert report.verdict is Verdict.INCONCLUSIVE
        assert [reason.code for reason in report.reasons] == [Code.MODEL_SUSPENDED]
        assert any("Suspended" in warning for warning in report.warnings)


def test_activation_ends_a_suspension(models: Path) -> None:
    manage(models, "activate", "image-1")
    suspend(models, "image", who="", why="odd scores")
    assert "image" not in read_bundles(models)
    manage(models, "activate", "image-1")
    assert answering(models) == "image-1"


def test_reports_name_the_sha256_that_they_rest_on(models: Path) -> None:
    with Detector(Settings(models_folder=models)) as detector:
        report = detector.detect(image_bytes(scene()))
    assert report.bundles["image"] == read_bundles(models)["image"].sha256
    assert report.to_dict()["bundles"] == dict(report.bundles)


def test_diff_shows_limits_and_golden_scores(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bundle(
        models / "image-3", preprocess=Bundle.read(models / "image-1").preprocess, gain=-4.0
    )
    assert manage(models, "diff", "image-1", "image-3") == 0
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if "golden input of image-1" in line)
    assert "synthetic" in row
    assert "authentic" in row
    assert manage(models, "diff", "image-1") == 2


def test_a_folder_that_cannot_be_written_is_told(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (models / HISTORY).mkdir()
    assert manage(models, "activate", "image-1") == 2
    assert "cannot be used" in capsys.readouterr().err


def test_every_change_is_in_the_audit_log(models: Path, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    for arguments in (["activate", "image-1"], ["quarantine", "image-2", "--why", "leaked"]):
        assert manage(models, *arguments, "--audit", str(log)) == 0
    assert manage(models, "activate", "image-1", "--audit-keys", str(tmp_path)) == 2
    assert main(["audit", "verify", str(log)]) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["what"], line["about"]) for line in lines if "what" in line] == [
        ("models_activate", "image-1"),
        ("models_quarantine", "image-2"),
    ]


def test_unlisted_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not found"):
        roll_back(tmp_path / "absent", who="", why="", check=everything)
