"""``deepfake train`` from folders to a bundle that ``deepfake detect`` uses, on media made here."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from deepfake_training.own import features

from deepfake import networks
from deepfake.bundle import Bundle
from deepfake.commands.cli import main
from deepfake.trust import registry
from tests.bundles import make_models
from tests.training.own_media import create_tiny, fill, make_start, picture, sound

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "create", create_tiny)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of known bundles in place of the shipped ones, with an empty list of the release."""
    folder = make_models(tmp_path / "shipped")
    released = tmp_path / "shipped.json"
    released.write_text("{}")
    monkeypatch.setattr(registry, "SHIPPED", released)
    monkeypatch.setattr(registry, "shipped_models_folder", lambda: folder)
    registry.shipped_bundles.cache_clear()
    return folder


def start_with(shipped: Path, slot: str) -> Path:
    make_start(shipped, slot)
    registry.activate(shipped, f"{slot}-1")
    return shipped


def command(shipped: Path, slot: str, genuine: Path, synthetic: Path, *more: str) -> list[str]:
    return [
        *("train", "--slot", slot, "--genuine", str(genuine), "--synthetic", str(synthetic)),
        *("--models", str(shipped), "--threads", "1", *more),
    ]


def scores(folder: Path, models: Path, source: str, capsys: pytest.CaptureFixture[str]) -> list:
    """What the slot says of files that it never saw, by ``deepfake detect``."""
    capsys.readouterr()
    files = sorted(map(str, folder.iterdir()))
    assert main(["detect", "--json", "--models", str(models), *files]) == 0
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [
        (one["bundle"], one["score"])
        for report in reports
        for one in report["evidence"]
        if one["source"] == source
    ]


def fresh_pictures(folder: Path) -> Path:
    """Three genuine pictures, each followed by a synthetic one."""
    folder.mkdir()
    for number in range(3):
        for synthetic in (False, True):
            content = picture(900 + number, synthetic=synthetic)
            (folder / f"{number}-{int(synthetic)}.png").write_bytes(content)
    return folder


@pytest.mark.slow
def test_from_two_folders_of_pictures_to_a_report(
    shipped: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start_with(shipped, "image")
    genuine, synthetic = fill(tmp_path / "media", "image")
    (genuine / "camera" / "hostile.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(60))
    shutil.copy(genuine / "scanner" / "6.png", genuine / "scanner" / "again.png")
    output = tmp_path / "models" / "mine-1"
    line = command(shipped, "image", genuine, synthetic, "--output", str(output))

    read, count = features.read_views, 0

    def stop_after_seven(*given: object) -> object:
        nonlocal count
        count += 1
        if count == 8:
            raise KeyboardInterrupt
        return read(*given)

    monkeypatch.setattr(features, "read_views", stop_after_seven)
    assert main(line) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    assert not output.exists()
    count = -1000
    assert main(line) == 0
    assert count + 1000 == 20 - 7, "files that are known are not read again"
    captured = capsys.readouterr()
    assert "hostile.png: " in captured.err
    assert "left out: 2 files (copy of another file 1, corrupt 1)" in captured.err
    assert "the format alone tells" not in captured.err
    assert all(word in captured.out for word in ("camera", "scanner", "first", "thumbnail"))
    assert f"next: deepfake detect --models {output.parent} FILE" in captured.out

    bundle = Bundle.read(output)
    bundle.verify()
    assert bundle.slot == "image"
    assert bundle.extra_files() == []
    assert bundle.provenance["files"] == 20
    assert {path.name for path in output.iterdir()} >= {"roc.png", "reliability.png"}
    rows = [row for row in bundle.metrics["sources"] if row["view"] == "clean" and row["label"]]
    assert [row["files"] for row in rows] == [5, 5]
    assert all(row["auc"] >= 0.9 for row in rows), "what was planted is found in other sources"
    assert f"deepfake models activate image-1 --models {output.parent}" in bundle.card()
    assert "WARNING" not in bundle.card()

    fresh = fresh_pictures(tmp_path / "fresh")
    found = scores(fresh, output.parent, "image", capsys)
    assert {name for name, _ in found} == {"mine-1"}
    assert max(score for _, score in found[::2]) < 0.5 < min(score for _, score in found[1::2])

    assert main(["models", "verify", "--models", str(output.parent)]) == 0
    text = capsys.readouterr().out
    assert "mine-1" in text
    assert "audio-1" in text, "the shipped ones answer for the others"
    assert main(line) == 2
    assert "is there already; choose another number, for example mine-2" in capsys.readouterr().err
    assert main(["models", "activate", "image-1", "--models", str(output.parent)]) == 0
    assert {name for name, _ in scores(fresh, output.parent, "image", capsys)} == {"image-1"}


@pytest.mark.slow
def test_from_two_folders_of_speech_to_a_report(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_with(shipped, "audio")
    media = fill(tmp_path / "media", "audio")
    output = tmp_path / "models" / "voices-7"
    line = command(shipped, "audio", *media, "--start", "fresh", "--output", str(output))
    assert main(line) == 0
    assert "mulaw_8k" in capsys.readouterr().out
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    for rough in (False, True):
        (fresh / f"{int(rough)}.wav").write_bytes(sound(77, synthetic=rough))
    (first, dull), (second, rough_one) = scores(fresh, output.parent, "audio", capsys)
    assert (first, second) == ("voices-7", "voices-7")
    assert dull < rough_one


@pytest.mark.slow
@pytest.mark.usefixtures("traced_graphs")
def test_files_at_random_are_said_loudly(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_with(shipped, "image")
    genuine, synthetic = fill(tmp_path / "media", "image", files=6)
    output = tmp_path / "models" / "mine-1"
    line = command(shipped, "image", genuine / "camera", synthetic, "--output", str(output))
    assert main(line) == 2
    assert "genuine media of one source: " in capsys.readouterr().err
    assert main([*line, "--split", "random", "--limit", "5"]) == 0
    assert "warning: --split random: files were left out, not sources" in capsys.readouterr().out
    card = Bundle.read(output).card()
    assert card.count("**WARNING: `--split random`: files were left out, not sources") == 2
    assert "--split random --limit 5" in card


@pytest.mark.usefixtures("traced_graphs")
def test_a_detector_that_does_no_better_than_chance_is_not_written(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_with(shipped, "image")
    genuine, synthetic = fill(tmp_path / "media", "image", files=5)
    for number, source in enumerate(("camera", "scanner")):
        for path in (genuine / source).iterdir():  # red tells the one class here, the other there
            path.write_bytes(picture(int(path.stem), synthetic=bool(number)))
    for number, source in enumerate(("first", "second")):
        for path in (synthetic / source).iterdir():
            path.write_bytes(picture(int(path.stem), synthetic=not number))
    output = tmp_path / "models" / "mine-1"
    line = command(shipped, "image", genuine, synthetic, "--start", "fresh")
    assert main([*line, "--output", str(output)]) == 1
    captured = capsys.readouterr()
    assert "tells left-out sources no better than chance" in captured.err
    assert "camera" in captured.out, "the table is shown nevertheless"
    assert not output.exists()


@pytest.mark.usefixtures("traced_graphs")
def test_one_file_in_both_classes_is_refused(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_with(shipped, "image")
    genuine, synthetic = fill(tmp_path / "media", "image", files=1)
    shutil.copy(genuine / "camera" / "1.png", synthetic / "first" / "same.png")
    line = command(shipped, "image", genuine, synthetic, "--output", str(tmp_path / "m" / "mine-1"))
    assert main(line) == 2
    assert "same.png: is both a genuine and a synthetic one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine", "a bundle is called <word>-<integer>"),
        ("audio-9", "the word may be no other slot"),
        ("mine-1.5", "a bundle is called <word>-<integer>"),
    ],
)
def test_a_name_that_no_bundle_may_have(
    name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = command(tmp_path, "image", tmp_path, tmp_path, "--output", str(tmp_path / name))
    assert main(line) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--limit", "0"], ["--threads", "-1"]])
def test_a_number_that_makes_no_sense(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = command(tmp_path, "image", tmp_path, tmp_path, "--output", str(tmp_path / "mine-1"))
    assert main([*line, *more]) == 2
    assert f"option {more[0]} {more[1]}: out of range" in capsys.readouterr().err


def test_without_the_extra_its_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("deepfake_training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    line = command(tmp_path, "image", tmp_path, tmp_path, "--output", str(tmp_path / "mine-1"))
    assert main(line) == 2
    error = capsys.readouterr().err
    assert "package sklearn" in error
    assert 'pip install "deepfake[train]"' in error


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    for words in ("--genuine DIR", "--output models/mine-1", "detect --models models", "Ctrl-C"):
        assert words in text
