from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from deepfake.errors import SettingsError
from deepfake.scan.executors import LocalExecutor, WorkerSetup
from deepfake.scan.journal import read_results
from deepfake.scan.listing import Filter, list_sources
from deepfake.scan.scan import scan
from deepfake.schema import REPORT_SCHEMA
from deepfake.settings import DetectOptions, Settings
from tests.faulty import BUG_PIXELS, Faulty
from tests.media_files import image_bytes, scene, speech, video_bytes, wav_bytes
from tests.scans import FAST, Inline, read_lines, run_scan, scored
from tests.waiting import until


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


def different_pictures(root: Path, count: int) -> Path:
    """Files of one size whose contents differ, and their pictures do not."""
    root.mkdir()
    content = image_bytes(scene(), "jpeg")
    for number in range(count):
        (root / f"{number:04}.jpg").write_bytes(content + b"%04d" % number)
    return root


def test_every_file_is_journalled_once_and_the_same_by_one_and_two_workers(
    folder: Path, tmp_path: Path, known_models: Path
) -> None:
    different_pictures(folder / "more", 6)
    seen: list[list[dict[str, Any]]] = []
    for workers in (1, 2):
        output = tmp_path / f"results{workers}.jsonl"
        settings: dict[str, Any] = {"models": known_models, "executor": LocalExecutor}
        summary = run_scan(folder, output=output, workers=workers, **settings)
        assert (summary.scanned, summary.resumed, summary.interrupted) == (15, 0, False)
        assert (summary.failed, summary.duplicates) == (1, 5)
        assert summary.outcomes["not_media"] == 1
        lines = sorted(read_lines(output), key=lambda line: str(line["path"]))
        listed = sorted(found.path for found in list_sources([str(folder)], Filter()))
        assert [line["path"] for line in lines] == listed
        again = run_scan(folder, output=output, workers=workers, **settings)
        assert (again.scanned, again.resumed) == (0, 15)
        assert again.outcomes == summary.outcomes
        assert len(read_lines(output)) == 15
        for line in lines:
            line.pop("seconds", None)
            line.pop("seconds_by_step", None)
            line.pop("examined_at", None)
        seen.append(lines)
    assert seen[0] == seen[1]


def test_changed_and_new_files_are_examined_again(
    folder: Path, tmp_path: Path, known_models: Path
) -> None:
    output = tmp_path / "results.jsonl"
    run_scan(folder, output=output, models=known_models)
    (folder / "a.jpg").write_bytes(image_bytes(scene(seed=9), "jpeg", quality=50))
    (folder / "new.png").write_bytes(image_bytes(scene(seed=3)))
    summary = run_scan(folder, output=output, models=known_models)
    assert (summary.scanned, summary.resumed) == (2, 8)
    assert len(list(read_results(output))) == 10


def test_other_options_are_other_answers(tmp_path: Path, known_models: Path) -> None:
    picture, output = tmp_path / "a.png", tmp_path / "results.jsonl"
    picture.write_bytes(image_bytes(scene()))
    probabilities = []
    for prior, scanned in ((0.5, 1), (0.01, 1), (0.01, 0)):
        options = DetectOptions(stability=False, prior=prior)
        summary = run_scan(picture, output=output, models=known_models, options=options)
        assert summary.scanned == scanned
        (line,) = read_results(output)
        probabilities.append(line["probability"])
    assert probabilities[0] > probabilities[1] == probabilities[2]


def test_another_precision_is_another_answer(tmp_path: Path, known_models: Path) -> None:
    picture, output = tmp_path / "a.png", tmp_path / "results.jsonl"
    picture.write_bytes(image_bytes(scene()))
    for precision, scanned in (("fp32", 1), ("auto", 1), ("auto", 0)):
        settings = Settings(models_folder=known_models, precision=precision)
        summary = scan([picture], output=output, settings=settings, executor=Inline)
        assert summary.scanned == scanned


def test_equal_content_is_scored_once_and_reported_each(tmp_path: Path, known_models: Path) -> None:
    root, output = different_pictures(tmp_path / "many", 3), tmp_path / "results.jsonl"
    content = (root / "0001.jpg").read_bytes()
    (root / "0001-copy.jpg").write_bytes(content)
    (root / "0001-other.png").write_bytes(content)
    summary = run_scan(root, output=output, models=known_models)
    assert (summary.scanned, summary.duplicates) == (5, 2)
    lines = {Path(line["path"]).name: line for line in read_lines(output)}
    assert len(scored(list(lines.values()))) == 3
    first = lines["0001-copy.jpg"]
    for name in ("0001.jpg", "0001-other.png"):
        copy = lines[name]
        jsonschema.validate(copy, REPORT_SCHEMA)
        assert copy["duplicate_of"] == first["path"]
        for key in ("evidence", "verdict", "examined_at"):  # when the content was examined
            assert copy[key] == first[key]
    assert lines["0001.jpg"]["warnings"] == first["warnings"]
    assert [w for w in lines["0001-other.png"]["warnings"] if "ends in .png" in w]
    (root / "late.jpg").write_bytes(content)
    later = run_scan(root, output=output, models=known_models)
    assert (later.scanned, later.resumed, later.duplicates) == (1, 5, 1)
    assert [line for _, line in Inline.answers if "duplicate" not in line] == []


class FaultyInline(Inline):
    """Examines with an analyzer that has a bug."""

    def __init__(self, setup: WorkerSetup, workers: int) -> None:
        super().__init__(setup, workers)
        self._worker.detector.analyzers += (Faulty(),)


def test_a_bug_in_one_file_is_its_own_failure(
    tmp_path: Path, known_models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, output = different_pictures(tmp_path / "many", 3), tmp_path / "results.jsonl"
    (root / "0001.jpg").write_bytes(image_bytes(scene(BUG_PIXELS, 8)))
    (root / "short.wav").write_bytes(wav_bytes(speech(2.0)[:100]))
    summary = run_scan(root, output=output, models=known_models, executor=FaultyInline)
    assert (summary.scanned, summary.failed) == (4, 1)
    (line,) = [line for line in read_lines(output) if "error" in line]
    assert (Path(line["path"]).name, line["error"]["code"]) == ("0001.jpg", "internal")
    assert "report it" in line["error"]["message"]
    assert "in analyze" in caplog.text


def test_many_copies_and_two_workers_score_each_content_once(
    tmp_path: Path, known_models: Path
) -> None:
    root, output = different_pictures(tmp_path / "many", 3), tmp_path / "results.jsonl"
    for number in range(3):
        for copy in range(10):
            content = (root / f"{number:04}.jpg").read_bytes()
            (root / f"{number:04}-{copy}.jpg").write_bytes(content)
    summary = run_scan(root, output=output, models=known_models, executor=LocalExecutor, workers=2)
    assert (summary.scanned, summary.duplicates, summary.failed) == (33, 30, 0)
    assert len(scored(read_lines(output))) == 3


def test_a_touched_file_is_no_duplicate_of_itself(tmp_path: Path, known_models: Path) -> None:
    picture, output = tmp_path / "a.png", tmp_path / "results.jsonl"
    picture.write_bytes(image_bytes(scene()))
    run_scan(picture, output=output, models=known_models)
    os.utime(picture, (1, 1))
    summary = run_scan(picture, output=output, models=known_models)
    assert (summary.scanned, summary.duplicates) == (1, 0)
    assert [line for line in read_lines(output) if "duplicate_of" in line] == []


def test_results_in_the_scanned_folder_and_a_folder_named_twice(
    folder: Path, known_models: Path
) -> None:
    output = folder / "results.jsonl"
    for scanned in (9, 0):
        summary = run_scan(folder, folder, output=output, models=known_models)
        assert (summary.scanned, summary.listed) == (scanned, 9)
    assert len(read_lines(output)) == 9


def test_selection_and_a_part_at_a_time(folder: Path, tmp_path: Path, known_models: Path) -> None:
    output = tmp_path / "results.jsonl"
    chosen: dict[str, Any] = {"include": ["*.JPG", "deep/*"], "exclude": ["*dash*", "BROKEN*"]}
    for scanned, resumed in ((2, 0), (2, 2), (1, 4), (0, 5)):
        summary = run_scan(folder, output=output, models=known_models, max_files=2, **chosen)
        assert (summary.scanned, summary.resumed) == (scanned, resumed)
    names = {Path(line["path"]).name for line in read_lines(output)}
    assert {"a.jpg", "b.png", "new\nline.jpg"} < names
    assert not names & {"-dash.jpg", "broken.jpg", "speech.wav", "notes.txt"}


@pytest.mark.parametrize("name", ["max_files", "poll_seconds", "file_seconds"])
def test_impossible_numbers_are_refused(tmp_path: Path, known_models: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        run_scan(tmp_path, output=tmp_path / "r.jsonl", models=known_models, **{name: 0})


def test_a_file_over_its_time_fails_alone(tmp_path: Path, known_models: Path) -> None:
    root, output = tmp_path / "slow", tmp_path / "results.jsonl"
    root.mkdir()
    (root / "good.png").write_bytes(image_bytes(scene()))
    with (root / "huge.mp4").open("wb") as file:
        file.truncate(4 * 1024**3)
    noise = np.random.default_rng(0).integers(0, 256, (16, 360, 640, 3), dtype=np.uint8)
    fast = {"preset": "ultrafast", "tune": "zerolatency"}
    frames = (noise[index % 16] for index in range(300))
    (root / "long.mp4").write_bytes(video_bytes(frames, rate=4, options=fast))
    run_scan(root / "good.png", output=tmp_path / "warm.jsonl", models=known_models)
    began = time.monotonic()
    summary = run_scan(root, output=output, models=known_models, file_seconds=1.5)
    assert time.monotonic() - began < 12
    lines = {Path(line["path"]).name: line for line in read_lines(output)}
    for name in ("huge.mp4", "long.mp4"):
        assert lines[name]["error"]["code"] == "time_limit"
        assert "--file-seconds" in lines[name]["error"]["message"]
    assert "error" not in lines["good.png"]
    assert (summary.scanned, summary.failed) == (3, 2)
    (root / "huge.mp4").unlink()
    for seconds, scanned in ((1.0, 0), (1.5, 0), (1.6, 1)):
        again = run_scan(root, output=output, models=known_models, file_seconds=seconds)
        assert again.scanned == scanned


def test_the_time_of_a_file_is_that_of_the_settings(tmp_path: Path, known_models: Path) -> None:
    (tmp_path / "good.png").write_bytes(image_bytes(scene()))
    output = tmp_path / "results.jsonl"
    settings = Settings(models_folder=known_models, file_seconds=1e-6)
    scan([tmp_path / "good.png"], output=output, settings=settings, executor=Inline)
    line = read_lines(output)[0]
    assert line["error"]["code"] == "time_limit"
    assert line["journal"]["file_seconds"] == 1e-6


def test_missing_source_is_named(tmp_path: Path) -> None:
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
        summary = run_scan(root, output=tmp_path / "r.jsonl", models=known_models)
    assert summary.failed == 4
    assert summary.scanned == 5


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def command_of(*arguments: str | Path, models: Path) -> list[str]:
    command = [sys.executable, "-m", "deepfake", "scan", *map(str, arguments)]
    return [*command, "--models", str(models), "--no-stability", "--workers", "2"]


def test_ctrl_c_and_again_scores_each_file_once(tmp_path: Path, known_models: Path) -> None:
    root, output = different_pictures(tmp_path / "many", 200), tmp_path / "results.jsonl"
    command = command_of(root, "--output", output, models=known_models)
    first = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    until(lambda: count_lines(output) >= 30)
    os.killpg(first.pid, signal.SIGINT)
    _, message = first.communicate(timeout=60)
    assert first.returncode == 130, message
    assert message == b"deepfake: stopped; the same command goes on from here\n"
    assert 30 <= len(read_lines(output)) < 200
    second = subprocess.run(command, capture_output=True, timeout=150, check=False)
    assert second.returncode == 0, second.stderr
    paths = [str(line["path"]) for line in read_lines(output)]
    assert len(paths) == len(set(paths)) == 200


def test_the_second_ctrl_c_ends_at_once(tmp_path: Path, known_models: Path) -> None:
    root, output = tmp_path / "long", tmp_path / "results.jsonl"
    root.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (16, 360, 640, 3), dtype=np.uint8)
    fast = {"preset": "ultrafast", "tune": "zerolatency"}
    frames = (noise[index % 16] for index in range(600))
    (root / "b.mp4").write_bytes(video_bytes(frames, rate=4, options=fast))
    (root / "a.png").write_bytes(image_bytes(scene()))
    command = command_of(
        *(root, "--output", output, "--max-frames-per-minute", "3600"), models=known_models
    )
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        until(lambda: count_lines(output) == 1)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert time.monotonic() - began < 3
        assert process.stderr
        assert process.stderr.read() == b"deepfake: stopped\n"
    assert count_lines(output) == 1


def test_watching_takes_files_that_came_and_settled(tmp_path: Path, known_models: Path) -> None:
    root, output = different_pictures(tmp_path / "inbox", 2), tmp_path / "results.jsonl"
    command = command_of(root, "--output", output, "--watch", "0.5", models=known_models)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        until(lambda: count_lines(output) == 2)
        content = image_bytes(scene(seed=5))
        with (root / "growing.png").open("wb", buffering=0) as file:
            for start in range(0, len(content), len(content) // 12):
                file.write(content[start : start + len(content) // 12])
                time.sleep(0.2)
        until(lambda: count_lines(output) == 3)
        (root / "0000.jpg").write_bytes(content[:-20] + b"x" * 20)
        until(lambda: count_lines(output) == 4)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) in (0, 1)
        assert process.stdout
        assert process.stderr
        table, message = process.stdout.read().decode(), process.stderr.read().decode()
    assert message == ""
    assert "examined now" in table
    grown = [line for line in read_lines(output) if "growing" in str(line["path"])]
    assert [line["media"]["bytes"] for line in grown] == [len(content)]


def test_the_same_file_in_a_new_state_is_counted_once(tmp_path: Path, known_models: Path) -> None:
    root, output = different_pictures(tmp_path / "many", 2), tmp_path / "results.jsonl"
    run_scan(root, output=output, models=known_models)
    (root / "0000.jpg").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    summary = run_scan(root, output=output, models=known_models)
    assert (sum(summary.outcomes.values()), summary.failed) == (2, 1)
    settings = Settings(models_folder=known_models)
    with pytest.raises(SettingsError, match="standard input"):
        scan(["-"], output=output, settings=settings, options=FAST, selection=watching())


def watching() -> Any:
    from deepfake.scan.scan import Selection

    return Selection(poll_seconds=1.0)
