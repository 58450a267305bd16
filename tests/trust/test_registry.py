"""Bundles that were changed, swapped, damaged, lost or slipped in: named by ``models verify``, and
refused before the first file, or warned of where they change no score.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deepfake.bundle import Bundle
from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.errors import ModelError
from deepfake.preprocess import ImagePreprocess
from deepfake.settings import Settings, shipped_models_folder
from deepfake.trust.registry import (
    ActiveList,
    Recorded,
    activate,
    digest_bundles,
    is_shipped,
    read_bundles,
    read_list,
    ship,
    shipped_bundles,
    warn_of,
    write_list,
)
from tests.bundles import copy_bundle, make_bundle, ship_models, sign
from tests.media_files import image_bytes, scene
from tests.scans import read_lines, run_scan

Damage = Callable[[Path], None]


@pytest.fixture
def models(known_models: Path, tmp_path: Path) -> Path:
    """A models folder with a list."""
    folder = Path(shutil.copytree(known_models, tmp_path / "models"))
    activate(folder, "image-1")
    return folder


@pytest.fixture
def shipped(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same folder as the one that the package ships."""
    yield ship_models(models, tmp_path, monkeypatch)
    shipped_bundles.cache_clear()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(image_bytes(scene(200, 120)))
    return path


def edit(folder: Path, *keys: str, value: Any) -> None:
    """Change one value of a ``bundle.json``."""
    path = folder / "bundle.json"
    values = inner = json.loads(path.read_text())
    for key in keys[:-1]:
        inner = inner[key]
    assert inner[keys[-1]] != value
    inner[keys[-1]] = value
    path.write_text(json.dumps(values))


def listed_in(folder: Path) -> dict[str, Recorded]:
    """What the list of ``folder`` names."""
    listed = read_list(folder)
    assert listed is not None
    return dict(listed.bundles)


def edit_calibration(models: Path) -> None:
    edit(models / "image-1", "calibration", "intercept", value=-9.0)


def edit_threshold(models: Path) -> None:
    edit(models / "image-1", "calibration", "points", "synthetic", value=0.99)


def edit_limits(models: Path) -> None:
    edit(models / "image-1", "limits", "min_side_pixels", value=10_000)


def swap_folder(models: Path) -> None:
    shutil.rmtree(models / "image-1")
    shutil.copytree(models / "frame-1", models / "image-1")


def swap_weights(models: Path) -> None:
    shutil.copy(models / "audio-1" / "model.onnx", models / "image-1" / "model.onnx")


def swap_weights_and_sha256(models: Path) -> None:
    swap_weights(models)
    content = (models / "image-1" / "model.onnx").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    edit(models / "image-1", "files", "model.onnx", "sha256", value=sha256)


def flip_byte(models: Path) -> None:
    path = models / "image-1" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lose_file(models: Path) -> None:
    (models / "image-1" / "golden.npz").unlink()


def lose_folder(models: Path) -> None:
    shutil.rmtree(models / "image-1")


def break_description(models: Path) -> None:
    (models / "image-1" / "bundle.json").write_text("{")


REFUSED: dict[Damage, str] = {
    edit_calibration: "was changed since active.json",
    edit_threshold: "was changed since active.json",
    edit_limits: "was changed since active.json",
    swap_folder: "the folder holds 'frame-1' of slot 'frame'",
    swap_weights: "file model.onnx differs from its recorded sha256",
    swap_weights_and_sha256: "was changed since active.json",
    flip_byte: "file model.onnx differs from its recorded sha256",
    lose_file: "file golden.npz cannot be read",
    lose_folder: "missing from",
    break_description: "cannot be read",
}
DAMAGES = pytest.mark.parametrize(
    ("damage", "words"), REFUSED.items(), ids=[damage.__name__ for damage in REFUSED]
)


@DAMAGES
def test_verify_names_the_bundle_and_the_fault(
    models: Path, damage: Damage, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["models", "verify", "--models", str(models)]
    assert main(command) == 0
    assert "image-1: " not in capsys.readouterr().out
    damage(models)
    assert main(command) == 1
    (fault,) = [s for s in capsys.readouterr().out.splitlines() if s.startswith("image-1: ")]
    assert words in fault


@DAMAGES
def test_nothing_is_examined_with_it(
    models: Path,
    picture: Path,
    damage: Damage,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(models)
    output, place = models.with_name("results.jsonl"), ["--models", str(models)]
    commands = [
        ["detect", "--json", str(picture)],
        ["scan", str(picture), "--output", str(output)],
        ["serve", "--port", "0"],
    ]
    for command in commands:
        assert main([*command, *place]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert words in captured.err
        assert "deepfake: bundle image-1: " in captured.err
        assert "; " in captured.err, "the remedy"
    assert not output.exists()
    with pytest.raises(ModelError, match="image-1"):
        Detector(Settings(models_folder=models))


def test_a_rogue_bundle_changes_nothing_and_is_told(
    models: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["detect", "--json", str(picture), "--models", str(models)]
    assert main(command) == 0
    before = json.loads(capsys.readouterr().out)
    preprocess = ImagePreprocess(side_pixels=32, max_windows=4)
    make_bundle(models / "image-999", preprocess=preprocess, gain=-40.0)
    assert main(command) == 0
    after = json.loads(capsys.readouterr().out)
    assert after["versions"]["image"] == "image-1"
    assert after["probability"] == before["probability"]
    (warning,) = set(after["warnings"]) - set(before["warnings"])
    assert warning == "In the models folder, but not active: image-999."
    assert main(["models", "verify", "--models", str(models)]) == 1
    text = capsys.readouterr().out
    assert "image-999: neither in active.json nor shipped" in text
    assert main(["models", "list", "--models", str(models)]) == 0
    text = capsys.readouterr().out
    (row,) = [line.split() for line in text.splitlines() if line.startswith("image-999 ")]
    assert row[-2:] == ["no", "no"]
    assert f"warning: {warning}" in text


def test_an_extra_file_is_told(
    models: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (models / "image-1" / "model.int8.onnx").write_bytes(b"anything")
    assert main(["models", "verify", "--models", str(models)]) == 1
    assert "image-1: file model.int8.onnx is not part of it" in capsys.readouterr().out
    command = ["detect", "--json", str(picture), "--models", str(models)]
    assert main(command) == 2
    assert (
        "image-1: file model.int8.onnx is not part of it: it was not signed; remove"
        in capsys.readouterr().err
    )
    assert main([*command, "--allow-unsigned"]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert [text for text in warnings if "The folder of image-1 holds files" in text]
    assert [text for text in warnings if "(--allow-unsigned); these are used: image-1 (" in text]


def test_bundles_that_are_not_shipped_are_told(models: Path, known_models: Path) -> None:
    (warning,) = warn_of(models, read_bundles(models))
    assert warning.startswith("Not shipped with this version")
    assert "audio-1, face-1, face-finder-1, frame-1, image-1, video-1" in warning
    texts = warn_of(known_models, read_bundles(known_models))
    assert texts[0] == warning
    assert "has no active.json; the newest" in texts[1]


def test_the_shipped_bundles_are_those_of_the_package() -> None:
    folder = shipped_models_folder()
    bundles = read_bundles(folder)
    assert {bundle.name: bundle.sha256 for bundle in bundles.values()} == shipped_bundles()
    assert all(map(is_shipped, bundles.values()))
    assert warn_of(folder, bundles) == []
    assert main(["models", "verify"]) == 0


def test_of_the_shipped_bundles_no_warning(shipped: Path) -> None:
    assert warn_of(shipped, read_bundles(shipped)) == []


def test_the_shipped_folder_needs_its_list(shipped: Path) -> None:
    (shipped / "active.json").unlink()
    with pytest.raises(ModelError, match=r"active\.json is missing; install the package again"):
        read_bundles(shipped)


def test_the_list_of_the_shipped_folder_lacks_no_slot(shipped: Path) -> None:
    recorded = listed_in(shipped)
    del recorded["image"]
    write_list(shipped, ActiveList(recorded))
    with pytest.raises(ModelError, match="names no bundle for image; install the package"):
        read_bundles(shipped)


def test_the_name_of_a_shipped_bundle_is_taken(shipped: Path) -> None:
    edit_calibration(shipped)
    with pytest.raises(ModelError, match="differs from the shipped one of this name"):
        activate(shipped, "image-1")
    recorded = listed_in(shipped)
    recorded["image"] = Recorded("image-1", Bundle.read(shipped / "image-1").sha256)
    write_list(shipped, ActiveList(recorded))
    with pytest.raises(
        ModelError, match=r"image-1: differs from the shipped .*; install the package"
    ):
        read_bundles(shipped)


def test_a_release_records_a_new_bundle(shipped: Path) -> None:
    new = copy_bundle(shipped / "image-1", "image-2")
    activate(shipped, "image-2")
    assert not is_shipped(new)
    ship(shipped, "image-2")
    assert is_shipped(new)
    assert set(shipped_bundles()) == {bundle.name for bundle in read_bundles(shipped).values()}
    (warning,) = warn_of(shipped, read_bundles(shipped))
    assert warning == "In the models folder, but not active: image-1."


def test_a_release_records_all_that_changed(shipped: Path) -> None:
    for name in ("image-1", "video-1"):
        edit(shipped / name, "calibration", "intercept", value=-9.0)
        sign(shipped / name)
    releases = ship(shipped, "image-1", "video-1")
    bundles = read_bundles(shipped)
    assert [release.name for release in releases] == ["image-1", "video-1"]
    assert all(is_shipped(bundles[slot]) for slot in ("image", "video"))


def test_without_a_list_the_newest_answers_until_one_is_activated(
    known_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = Path(shutil.copytree(known_models, tmp_path / "models"))
    for name in ("image-10", "image-9"):
        copy_bundle(models / "image-1", name)
    assert read_bundles(models)["image"].name == "image-10"
    assert main(["models", "activate", "image-9", "--models", str(models)]) == 0
    assert "recorded in" in capsys.readouterr().out
    bundles = read_bundles(models)
    assert bundles["image"].name == "image-9"
    assert len(bundles) == 6
    assert {record.name for record in listed_in(models).values()} == {
        bundle.name for bundle in bundles.values()
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("image-77", "cannot be read"),
        ("../models/image-1", "not named <slot>-<integer>"),
        ("image-8", "file model.onnx differs"),
        ("image-9", "the folder holds 'image-1'"),
    ],
)
def test_only_a_whole_bundle_can_be_activated(models: Path, name: str, words: str) -> None:
    copy_bundle(models / "image-1", "image-8")
    (models / "image-8" / "model.onnx").write_bytes(b"")
    shutil.copytree(models / "image-1", models / "image-9")
    before = (models / "active.json").read_text()
    with pytest.raises(ModelError, match=words):
        activate(models, name)
    assert (models / "active.json").read_text() == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"schema": "other"}',
        '{"schema": "deepfake-active/1", "bundles": {"image": {"name": "image-1"}}}',
        '{"schema": "deepfake-active/1", "bundles": {}}',
        json.dumps(
            {
                "schema": "deepfake-active/1",
                "bundles": {"image": {"name": "../image-1", "sha256": "0" * 64}},
            }
        ),
    ],
)
def test_a_damaged_list_is_refused(models: Path, picture: Path, text: str) -> None:
    (models / "active.json").write_text(text)
    with pytest.raises(ModelError, match=r"active\.json .*deepfake models activate"):
        read_bundles(models)
    assert main(["detect", str(picture), "--models", str(models)]) == 2
    assert main(["models", "verify", "--models", str(models)]) == 1


def test_one_digest_for_all_that_answer(models: Path) -> None:
    before = digest_bundles(read_bundles(models))
    assert digest_bundles(dict(reversed(read_bundles(models).items()))) == before
    edit_calibration(models)
    activate(models, "image-1")
    assert digest_bundles(read_bundles(models)) != before


def test_results_of_an_edited_bundle_count_as_absent(
    models: Path, picture: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results.jsonl"
    assert run_scan(picture, output=output, models=models).scanned == 1
    (models / "image-1" / "README.md").write_text("# image-1, a better card\n")
    sign(models / "image-1")
    assert run_scan(picture, output=output, models=models).resumed == 1
    edit_calibration(models)
    sign(models / "image-1")
    activate(models, "image-1")
    assert run_scan(picture, output=output, models=models).scanned == 1
    first, second = read_lines(output)
    assert first["versions"] == second["versions"]
    assert first["probability"] != second["probability"]


def replace_graph(models: Path, name: str) -> None:
    """A bundle of the user's own that is as it was recorded, and that no backend can load."""
    bundle = Bundle.read(models / name)
    (models / name / "model.onnx").write_bytes(b"no graph")
    facts = {"sha256": hashlib.sha256(b"no graph").hexdigest(), "precision": "fp32"}
    replace(bundle, files={**bundle.files, "model.onnx": facts}).write(bundle.folder)
    sign(bundle.folder)
    activate(models, name)


def test_what_no_backend_can_load_is_refused(
    models: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_graph(models, "image-1")
    output, place = tmp_path / "results.jsonl", ["--models", str(models)]
    commands = [
        ["detect", "--json", str(picture)],
        ["scan", str(picture), "--output", str(output)],
        ["serve", "--port", "0"],
    ]
    for command in commands:
        assert main([*command, *place]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "deepfake: bundle image-1: cannot be loaded (" in captured.err
    assert not output.exists()


def test_a_later_file_is_thought_of_before_the_first_report(
    models: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_graph(models, "audio-1")
    command = ["detect", "--json", "--models", str(models), str(picture)]
    assert main(command) == 0
    capsys.readouterr()
    assert main([*command, str(tmp_path / "speech.wav")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "bundle audio-1: cannot be loaded" in captured.err


def test_what_is_damaged_after_the_start_is_no_evidence(models: Path, picture: Path) -> None:
    with Detector(Settings(models_folder=models, threads=1)) as detector:
        flip_byte(models)
        with pytest.raises(ModelError, match=r"image-1: file model\.onnx differs"):
            detector.detect(picture)


def test_doctor_speaks_of_faults(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_calibration(models)
    assert main(["doctor", "--models", str(models)]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "bundles: 6 active, 0 of them shipped; faults in image-1" in text
    assert "bundle image-1: was changed since active.json" in text
