from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepfake.commands.cli import main
from deepfake.errors import SettingsError
from deepfake.scan.executors import Line
from deepfake.scan.journal import read_results
from deepfake.scan.listing import (
    LOOKAHEAD,
    Filter,
    Found,
    Lookahead,
    check_sources,
    fingerprint,
    list_sources,
    read_list,
)
from deepfake.scan.scan import Summary
from tests.media_files import image_bytes, scene
from tests.scans import bound_by_permissions, read_lines, run_scan
from tests.waiting import until


def paths(*sources: Path | str, files: Filter | None = None) -> list[str]:
    return [found.path for found in list_sources([*map(str, sources)], files or Filter())]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b/2.jpg", "b/1.JPG", "a/c/3.png", "4.wav"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "tree"


def test_folders_are_listed_in_a_stable_order(tree: Path) -> None:
    assert paths(tree) == [
        str(tree / name) for name in ("4.wav", "a/c/3.png", "b/1.JPG", "b/2.jpg")
    ]
    found = next(list_sources([str(tree / "4.wav")], Filter()))
    facts = (tree / "4.wav").stat()
    assert found.key == f"{tree / '4.wav'}|5|{facts.st_mtime_ns}"


@pytest.mark.parametrize(
    ("include", "exclude", "names"),
    [
        (["*.jpg"], [], ["1.JPG", "2.jpg"]),
        (["B/*", "*.wav"], ["*2*"], ["4.wav", "1.JPG"]),
        ([], ["a/*"], ["4.wav", "1.JPG", "2.jpg"]),
        (["tree/*"], [], []),
    ],
)
def test_globs_are_on_the_path_within_the_source(
    tree: Path, include: list[str], exclude: list[str], names: list[str]
) -> None:
    files = Filter(include=include, exclude=exclude)
    assert [Path(path).name for path in paths(tree, files=files)] == names


def test_a_file_set_apart_is_known_by_any_name(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "b")
    assert len(paths(tree, files=Filter(apart=[Path("../4.wav")]))) == 3
    assert len(paths(tree, files=Filter(apart=[Path("nowhere/4.wav")]))) == 4


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
def test_a_list_names_files_folders_and_what_is_gone(
    tree: Path, tmp_path: Path, separator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = b"odd \xff\nname.jpg" if separator == "\0" else b"odd \xff name.jpg"
    Path(os.fsdecode(odd)).write_text("odd")
    entries = ["tree/b", "", "gone.jpg", os.fsdecode(odd), str(tree / "4.wav")]
    (tmp_path / "list.txt").write_bytes(os.fsencode(separator.join(entries)))
    assert paths("list.txt") == [
        *("tree/b/1.JPG", "tree/b/2.jpg", "gone.jpg", os.fsdecode(odd), str(tree / "4.wav"))
    ]


def test_long_lists_are_read_in_pieces(tmp_path: Path) -> None:
    names = [f"{number:07}/{'x' * 90}" for number in range(5000)]
    (tmp_path / "list.txt").write_text("\n".join(names) + "\n")
    assert list(read_list(str(tmp_path / "list.txt"))) == names


def test_a_list_from_standard_input_is_scanned_as_it_comes(
    tmp_path: Path, known_models: Path
) -> None:
    (tmp_path / "a.png").write_bytes(image_bytes(scene()))
    command = [sys.executable, "-m", "deepfake", "scan", "-", "--output", "r.jsonl"]
    command += ["--models", str(known_models), "--workers", "1"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        assert process.stdin
        process.stdin.write(b"a.png\n")
        process.stdin.flush()
        results = tmp_path / "r.jsonl"
        until(lambda: results.exists() and read_lines(results))
        process.stdin.write(b"gone.png")
        process.stdin.close()
        assert process.wait(timeout=60) == 1
    assert [line["path"] for line in read_lines(tmp_path / "r.jsonl")] == ["a.png", "gone.png"]


def test_sources_are_checked_before_the_start(tmp_path: Path) -> None:
    check_sources(["-", str(tmp_path), f"file://{tmp_path}"])
    for source, words in (
        (str(tmp_path / "nowhere"), "does not exist"),
        ("nothing-known://a/b", "cannot be understood"),
        ("simplecache::memory://a", "chain"),
        ("reference://a/b", "cannot be understood"),
    ):
        if "://" in source:
            pytest.importorskip("fsspec")
        with pytest.raises(SettingsError, match=words):
            check_sources([source])


def test_a_store_that_fails_is_left_to_the_listing() -> None:
    pytest.importorskip("fsspec")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        check_sources([f"ftp://127.0.0.1:{unused.getsockname()[1]}/x.jpg"])


@pytest.fixture
def forest(tmp_path: Path) -> Path:
    """Folders a, b and c with a file each, which is no media."""
    root = tmp_path / "forest"
    for name in "abc":
        (root / name).mkdir(parents=True)
        (root / name / "notes.txt").write_text(name)
    return root


@pytest.mark.parametrize(
    "closed", [["a"], ["b"], ["c"], ["a", "b"], ["b", "c"], ["a", "b", "c"], ["."]]
)
def test_a_folder_that_may_not_be_read_is_told_wherever_it_is(
    forest: Path, tmp_path: Path, known_models: Path, closed: list[str]
) -> None:
    output, folders = tmp_path / "r.jsonl", [forest / name for name in closed]
    count = 3 if closed != ["."] else 0
    for _ in range(2):  # the second scan tries it again
        for folder in folders:
            folder.chmod(0)
        with bound_by_permissions():
            summary = run_scan(forest, output=output, models=known_models)
        for folder in folders:
            folder.chmod(0o755)
        assert summary.failed == len(closed)
        failed = [line for line in read_results(output) if "error" in line]
        told = {line["path"]: line["error"] for line in failed if "forest" in line["path"]}
        for folder in folders:
            error = told[str(folder)]
            assert error["code"] == "listing"
            assert "Permission denied); give yourself permission to read it" in error["message"]
        assert summary.outcomes["not_media"] == (count - len(closed) if count else 0)
    healed = run_scan(forest, output=output, models=known_models)
    assert (healed.failed, healed.outcomes["not_media"], healed.listed) == (0, 3, 3)
    names = {Path(line["path"]).name for line in read_results(output)}
    assert names == {"notes.txt"}  # a folder that was listed since has failed no longer
    before = output.read_bytes()
    assert run_scan(forest, output=output, models=known_models).scanned == 0
    assert output.read_bytes() == before


def test_the_exit_status_tells_of_a_folder_that_may_not_be_read(
    forest: Path, tmp_path: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["scan", str(forest), "--output", str(tmp_path / "r.jsonl"), "--workers", "1"]
    command += ["--models", str(known_models), "--csv", str(tmp_path / "r.csv")]
    (forest / "c").chmod(0)
    with bound_by_permissions():
        assert main(command) == 1
    assert "cannot be listed" in (tmp_path / "r.csv").read_text()
    (forest / "c").chmod(0o755)
    assert main(command) == 0
    assert "cannot be listed" not in (tmp_path / "r.csv").read_text()
    assert "failed" not in capsys.readouterr().out.splitlines()[-4:]


def test_a_file_that_may_not_be_read_is_tried_again(tmp_path: Path, known_models: Path) -> None:
    picture, output = tmp_path / "a.png", tmp_path / "r.jsonl"
    picture.write_bytes(image_bytes(scene()))
    picture.chmod(0)
    with bound_by_permissions():
        assert run_scan(picture, output=output, models=known_models).failed == 1
    picture.chmod(0o644)
    assert run_scan(picture, output=output, models=known_models).failed == 0


def test_a_folder_that_goes_while_it_is_looked_for_is_told(forest: Path) -> None:
    found = list_sources([str(forest)], Filter())
    assert next(found).path == str(forest / "a" / "notes.txt")
    shutil.rmtree(forest / "c")
    assert [Path(place.path).name for place in found] == ["notes.txt", "c"]


def test_a_folder_too_deep_for_a_path_is_told(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        here, before = os.open("d" * 250, os.O_RDONLY, dir_fd=here), here
        os.close(before)
    os.close(here)
    (found,) = list_sources([str(tmp_path)], Filter())
    assert found.problem is not None
    assert "File name too long" in found.problem["error"]["message"]
    shutil.rmtree(tmp_path / ("d" * 250))


def test_a_source_in_a_circle_of_links_is_told(tmp_path: Path, known_models: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    summary = run_scan(tmp_path / "loop", output=tmp_path / "r.jsonl", models=known_models)
    assert summary.failed == 1


@pytest.mark.parametrize(
    ("include", "exclude", "told"),
    [
        (["*.jpg"], [], True),
        (["a/*"], ["*.txt"], True),
        ([], ["b/*"], False),
        ([], ["B/*.jpg", "b"], True),
        ([], ["*"], False),
    ],
)
def test_only_a_folder_without_wanted_files_may_be_closed_in_silence(
    forest: Path, include: list[str], exclude: list[str], told: bool
) -> None:
    (forest / "b").chmod(0)
    files = Filter(include=include, exclude=exclude)
    with bound_by_permissions():
        problems = [found.path for found in list_sources([str(forest)], files) if found.problem]
    assert problems == ([str(forest / "b")] if told else [])


def test_watching_tells_of_a_closed_folder_once(
    forest: Path, tmp_path: Path, known_models: Path
) -> None:
    looks = itertools.count()
    (forest / "b").chmod(0)

    def stop_later(summary: Summary, line: Line | None) -> None:
        if line is None and next(looks) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with bound_by_permissions():
        summary = run_scan(
            forest,
            output=tmp_path / "r.jsonl",
            models=known_models,
            poll_seconds=0.05,
            progress=stop_later,
        )
    assert summary.failed == 1
    lines = read_lines(tmp_path / "r.jsonl")
    assert [line["path"] for line in lines if "b" in Path(line["path"]).name] == [str(forest / "b")]


def test_folders_and_files_come_in_the_order_of_a_walk(tmp_path: Path) -> None:
    for name in ("b/z", "b/a/1", "b-/2", "b.txt", "a", "c/d/e/f", "c/d.e/g", "é/x", "Z"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "tree" / "b")
    walked = []
    for folder, folders, names in os.walk(tmp_path / "tree"):
        folders.sort()
        walked += [f"{folder}/{name}" for name in sorted(names)]
    assert paths(tmp_path / "tree") == walked


def test_fingerprints_tell_files_apart_and_equal_ones_not(tmp_path: Path) -> None:
    content = bytes(range(256)) * 200
    for name, change in (("a", None), ("b", None), ("c", 0), ("d", 25_700), ("e", 51_199)):
        changed = bytearray(content)
        if change is not None:
            changed[change] ^= 1
        (tmp_path / name).write_bytes(changed)
    marks = [fingerprint(str(tmp_path / name), len(content)) for name in "abcde"]
    assert marks[0] == marks[1]
    assert len(set(marks)) == 4
    assert fingerprint("s3://a/b", 7) == fingerprint("s3://c/d", 7) != fingerprint("s3://c/d", 8)


def test_listing_runs_ahead_only_so_far_and_stops() -> None:
    drawn = itertools.count()
    ahead = Lookahead(Found(str(next(drawn)), 0, "") for _ in itertools.repeat(None))
    first = ahead.take(seconds=10)
    assert first is not None
    assert first.path == "0"
    time.sleep(0.5)
    ahead.close()
    assert LOOKAHEAD <= next(drawn) <= LOOKAHEAD + 3
    assert not ahead.complete


def test_a_listing_that_ends_says_so_and_one_that_fails_raises() -> None:
    ahead = Lookahead(iter([Found("a", 0, ""), Found("b", 0, "")]))
    taken = [ahead.take(seconds=10) for _ in range(3)]
    assert [found and found.path for found in taken] == ["a", "b", None]
    until(lambda: ahead.ended)

    def fail() -> Iterator[Found]:
        raise SettingsError("list x: gone")
        yield

    with pytest.raises(SettingsError, match="gone"):
        Lookahead(fail()).take(seconds=10)
