from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepfake.errors import SettingsError
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
from tests.media_files import image_bytes, scene
from tests.scans import read_lines, run_scan


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
        until = time.monotonic() + 60
        while not (tmp_path / "r.jsonl").exists() or not read_lines(tmp_path / "r.jsonl"):
            assert time.monotonic() < until
            time.sleep(0.05)
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
    ):
        if "://" in source:
            pytest.importorskip("fsspec")
        with pytest.raises(SettingsError, match=words):
            check_sources([source])


def test_a_folder_that_cannot_be_listed_is_a_failure(
    tree: Path, tmp_path: Path, known_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("/c"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    (found,) = [found for found in list_sources([str(tree)], Filter()) if found.problem]
    assert found.path == str(tree / "a/c")
    summary = run_scan(tree, output=tmp_path / "r.jsonl", models=known_models)
    assert (summary.failed, summary.scanned) == (4, 4)
    monkeypatch.undo()
    again = run_scan(tree, output=tmp_path / "r.jsonl", models=known_models)
    assert (again.scanned, again.resumed) == (1, 3)
    shutil.rmtree(tree)


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
    until = time.monotonic() + 10
    while not ahead.ended:
        assert time.monotonic() < until

    def fail() -> Iterator[Found]:
        raise SettingsError("list x: gone")
        yield

    with pytest.raises(SettingsError, match="gone"):
        Lookahead(fail()).take(seconds=10)
