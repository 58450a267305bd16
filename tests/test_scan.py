from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deepfake.errors import SettingsError
from deepfake.scan import find_files, read_results, scan, write_csv
from deepfake.settings import DetectOptions, Settings

from .media_files import image_bytes, scene, speech, wav_bytes

FAST = DetectOptions(stability=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Good files, a bad one, one that is no media, and names that hurt."""
    root = tmp_path / "media"
    (root / "deep" / "er").mkdir(parents=True)
    picture = image_bytes(scene(), "jpeg")
    for name in ("a.jpg", "new\nline.jpg", "-dash.jpg", "quo'te\".jpg", "deep/er/b.png"):
        (root / name).write_bytes(picture)
    Path(os.fsdecode(os.fsencode(root) + b"/not-utf8-\xff.jpg")).write_bytes(picture)
    (root / "speech.wav").write_bytes(wav_bytes(speech(2.0)))
    (root / "broken.jpg").write_bytes(b"this is text")
    (root / "notes.txt").write_text("not media")
    return root


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_file_is_journalled_once(
    folder: Path, tmp_path: Path, known_models: Path, workers: int
) -> None:
    output = tmp_path / "results.jsonl"
    settings = Settings(models_folder=known_models)
    summary = scan([folder], output=output, settings=settings, options=FAST, workers=workers)
    assert (summary.scanned, summary.resumed, summary.interrupted) == (9, 0, False)
    assert summary.failed == 1
    assert summary.outcomes["not_media"] == 1
    found = [str(line["path"]) for line in lines(output)]
    assert sorted(found) == sorted(map(str, find_files([folder])))
    again = scan([folder], output=output, settings=settings, options=FAST, workers=workers)
    assert (again.scanned, again.resumed) == (0, 9)
    assert again.outcomes == summary.outcomes
    assert len(lines(output)) == 9


def test_changed_and_new_files_are_examined_again(
    folder: Path, tmp_path: Path, known_models: Path
) -> None:
    output = tmp_path / "results.jsonl"
    settings = Settings(models_folder=known_models)
    scan([folder], output=output, settings=settings, options=FAST, workers=1)
    (folder / "a.jpg").write_bytes(image_bytes(scene(seed=9), "jpeg", quality=50))
    (folder / "new.png").write_bytes(image_bytes(scene(seed=3)))
    summary = scan([folder], output=output, settings=settings, options=FAST, workers=1)
    assert (summary.scanned, summary.resumed) == (2, 8)
    assert len(list(read_results(output))) == 10


def test_torn_last_line_is_cut_off(folder: Path, tmp_path: Path, known_models: Path) -> None:
    output = tmp_path / "results.jsonl"
    settings = Settings(models_folder=known_models)
    scan([folder], output=output, settings=settings, options=FAST, workers=1)
    whole = output.read_bytes()
    output.write_bytes(whole[:-40])
    summary = scan([folder], output=output, settings=settings, options=FAST, workers=1)
    assert (summary.scanned, summary.resumed) == (1, 8)
    assert len(lines(output)) == 9


@pytest.mark.parametrize(
    "content",
    ["do not lose me\n", "no newline at the end", '{"name": "other"}', '{"path": "a"}', '{"x": 1'],
)
def test_foreign_results_file_is_not_overwritten(
    folder: Path, tmp_path: Path, known_models: Path, content: str
) -> None:
    output = tmp_path / "important.txt"
    output.write_text(content)
    with pytest.raises(SettingsError, match="not of a scan"):
        scan([folder], output=output, settings=Settings(models_folder=known_models))
    assert output.read_text() == content


def test_results_in_the_scanned_folder_and_a_folder_named_twice(
    folder: Path, known_models: Path
) -> None:
    output = folder / "results.jsonl"
    settings = Settings(models_folder=known_models)
    for scanned in (9, 0):
        summary = scan([folder, folder], output=output, settings=settings, options=FAST, workers=1)
        assert summary.scanned == scanned
    assert len(lines(output)) == 9


@pytest.mark.parametrize("kept", [5, 60, -1])
def test_only_a_torn_first_line_is_scanned_anew(
    folder: Path, tmp_path: Path, known_models: Path, kept: int
) -> None:
    output = tmp_path / "results.jsonl"
    settings = Settings(models_folder=known_models)
    scan([folder / "a.jpg"], output=output, settings=settings, options=FAST, workers=1)
    output.write_bytes(output.read_bytes()[:kept])
    if kept == 5:  # too little to know whose it is
        with pytest.raises(SettingsError, match="not of a scan"):
            scan([folder / "a.jpg"], output=output, settings=settings, options=FAST, workers=1)
        return
    summary = scan([folder / "a.jpg"], output=output, settings=settings, options=FAST, workers=1)
    assert summary.scanned == 1
    assert len(lines(output)) == 1


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        scan([tmp_path / "nowhere"], output=tmp_path / "r.jsonl")


def test_special_files_do_not_stop_a_scan(tmp_path: Path, known_models: Path) -> None:
    root = tmp_path / "odd"
    root.mkdir()
    (root / "good.png").write_bytes(image_bytes(scene()))
    (root / "loop.jpg").symlink_to("loop.jpg")
    (root / "gone.jpg").symlink_to("nothing.jpg")
    (root / "circle").symlink_to(root, target_is_directory=True)
    os.mkfifo(root / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket.jpg"))
        summary = scan(
            [root],
            output=tmp_path / "r.jsonl",
            settings=Settings(models_folder=known_models),
            options=FAST,
            workers=1,
        )
    assert summary.failed == 4
    assert summary.scanned == 5 + (root / "circle").is_file()


def test_csv_keeps_names_and_disarms_formulas(
    folder: Path, tmp_path: Path, known_models: Path
) -> None:
    output, table = tmp_path / "r.jsonl", tmp_path / "r.csv"
    os.chdir(folder)
    Path("=cmd.jpg").write_bytes(image_bytes(scene(), "jpeg"))
    scan(
        [Path("=cmd.jpg"), folder],
        output=output,
        settings=Settings(models_folder=known_models),
        options=FAST,
        workers=1,
    )
    write_csv(output, table)
    with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["verdict"] for row in rows} >= {"failed", "not_media"}
    names = [row["path"] for row in rows]
    assert "'=cmd.jpg" in names
    assert str(folder / "new\nline.jpg") in names
    assert any(b"\xff" in os.fsencode(name) for name in names)


@pytest.mark.timeout(200)
def test_ctrl_c_and_again_scores_each_file_once(tmp_path: Path, known_models: Path) -> None:
    root, output = tmp_path / "many", tmp_path / "results.jsonl"
    root.mkdir()
    content = image_bytes(scene(), "jpeg")
    for number in range(1000):
        (root / f"{number:04}.jpg").write_bytes(content)
    command = [sys.executable, "-m", "deepfake", "scan", str(root), "--output", str(output)]
    command += ["--models", str(known_models), "--workers", "2", "--no-stability"]
    first = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if output.exists() and output.read_bytes().count(b"\n") >= 100:
            break
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGINT)
    _, message = first.communicate(timeout=60)
    assert first.returncode == 130, message
    assert b"goes on from here" in message
    stopped = len(lines(output))
    assert 100 <= stopped < 1000
    second = subprocess.run(command, capture_output=True, timeout=150, check=False)
    assert second.returncode == 0, second.stderr
    paths = [str(line["path"]) for line in lines(output)]
    assert len(paths) == len(set(paths)) == 1000
