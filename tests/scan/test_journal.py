from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfake.errors import SettingsError
from deepfake.scan.executors import error_line
from deepfake.scan.journal import read_results
from tests.media_files import image_bytes, scene
from tests.scans import PROPERTY, append_lines, read_lines, run_scan
from tests.scans import open_journal as journal


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    root.mkdir()
    for number in range(3):
        (root / f"{number}.png").write_bytes(image_bytes(scene(seed=number)))
    return root


def test_torn_last_line_is_cut_off(pictures: Path, tmp_path: Path, known_models: Path) -> None:
    output = tmp_path / "results.jsonl"
    run_scan(pictures, output=output, models=known_models)
    output.write_bytes(output.read_bytes()[:-40])
    summary = run_scan(pictures, output=output, models=known_models)
    assert (summary.scanned, summary.resumed) == (1, 2)
    assert len(read_lines(output)) == 3


@pytest.mark.parametrize("kept", [5, 60, -1])
def test_only_a_torn_first_line_is_scanned_anew(
    pictures: Path, tmp_path: Path, known_models: Path, kept: int
) -> None:
    output = tmp_path / "results.jsonl"
    run_scan(pictures / "0.png", output=output, models=known_models)
    output.write_bytes(output.read_bytes()[:kept])
    if kept == 5:  # too little to know whose it is
        with pytest.raises(SettingsError, match="not of a scan"):
            run_scan(pictures / "0.png", output=output, models=known_models)
        return
    assert run_scan(pictures / "0.png", output=output, models=known_models).scanned == 1
    assert len(read_lines(output)) == 1


@pytest.mark.parametrize(
    "content",
    ["do not lose me\n", "no newline at the end", '{"name": "other"}', '{"path": "a"}', '{"x": 1'],
)
def test_foreign_results_file_is_not_overwritten(
    pictures: Path, tmp_path: Path, known_models: Path, content: str
) -> None:
    output = tmp_path / "important.txt"
    output.write_text(content)
    with pytest.raises(SettingsError, match="not of a scan"):
        run_scan(pictures, output=output, models=known_models)
    assert output.read_text() == content


@pytest.mark.parametrize("output", ["/dev/null", "/", "/nowhere/results.jsonl"])
def test_results_need_a_regular_file(output: str) -> None:
    with pytest.raises(SettingsError, match="results file"), journal(Path(output)):
        pass


def test_two_scans_cannot_write_one_file(tmp_path: Path) -> None:
    output = tmp_path / "results.jsonl"
    with journal(output) as first:
        first.append(error_line("a", "corrupt", "text"), key="a|1|1")
        with pytest.raises(SettingsError, match="another scan is writing it"), journal(output):
            pass
        first.append(error_line("b", "corrupt", "text"), key="b|1|1")
    with journal(output) as again:
        assert [again.outcome(name, f"{name}|1|1") for name in "abc"] == ["failed", "failed", None]
        assert again.outcome("a", "a|1|2") is None


@pytest.mark.parametrize("code", ["network", "model"])
def test_what_may_pass_is_tried_again(tmp_path: Path, code: str) -> None:
    output = tmp_path / "results.jsonl"
    for _ in range(2):
        with journal(output) as file:
            assert file.outcome("a", "a|1|1") is None
            file.append(error_line("a", code, "text"), key="a|1|1")
            assert file.outcome("a", "a|1|1") is None


def test_a_full_disk_ends_the_scan_and_keeps_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    from deepfake.errors import DeepfakeError

    output, write = tmp_path / "results.jsonl", os.write
    with journal(output) as file:
        file.append(error_line("a", "corrupt", "text"), key="a|1|1")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda descriptor, raw: write(descriptor, raw[:9]))
            with pytest.raises(DeepfakeError, match="cannot be written"):
                file.append(error_line("b", "corrupt", "text"), key="b|1|1")
    assert [line["path"] for line in read_lines(output)] == ["a"]


def test_results_are_the_last_line_of_each_file(tmp_path: Path) -> None:
    output = tmp_path / "results.jsonl"
    with journal(output) as file:
        for path, code in (("a", "old"), ("b", "only"), ("a", "new")):
            file.append(error_line(path, code, "text"), key=f"{path}|{code}|1")
    with output.open("ab") as torn:
        torn.write(b'{"path": "c", ')
    codes = {line["path"]: line["error"]["code"] for line in read_results(output)}
    assert codes == {"a": "new", "b": "only"}
    output.write_text("something else\n")
    with pytest.raises(SettingsError, match="not of a scan"):
        list(read_results(output))
    with pytest.raises(SettingsError, match="cannot be read"):
        list(read_results(tmp_path / "nowhere"))


@pytest.mark.parametrize("damaged", [b"\0" * 100, b"x", b'{"path": "a", "ver\n', b"[" * 100_000])
def test_a_damaged_line_is_named_with_its_remedy(tmp_path: Path, damaged: bytes) -> None:
    output = tmp_path / "results.jsonl"
    with journal(output) as file:
        append_lines(file, ["a", "b", "c"])
    content = output.read_bytes()
    first = content.index(b"\n") + 1
    output.write_bytes(content[:first] + damaged + content[first:])
    for read in (lambda: list(read_results(output)), lambda: journal(output).__enter__()):
        with pytest.raises(SettingsError, match=f"line 2, at byte {first:,}, is damaged.*--repair"):
            read()
    assert output.read_bytes() == content[:first] + damaged + content[first:]


@pytest.mark.parametrize(
    "change",
    [
        {"error": "text"},
        {"error": {"code": [1], "message": "text"}},
        {"verdict": "guilty"},
        {"verdict": ["synthetic"]},
        {"sha256": "zz"},
        {"media": {"bytes": [], "format": "png"}},
        {"warnings": None},
        {"path": 7},
        {"path": "b"},
        {"journal": {"key": "a|1|1", "file_seconds": "long"}},
        {"journal": {"key": None}},
        {"journal": []},
    ],
)
def test_a_line_that_a_scan_cannot_go_on_from_is_named(
    tmp_path: Path, change: dict[str, object]
) -> None:
    output = tmp_path / "results.jsonl"
    with journal(output) as file:
        append_lines(file, ["first", "a"])
    first, second = read_lines(output)
    output.write_text("".join(json.dumps(line) + "\n" for line in (first, second | change)))
    with pytest.raises(SettingsError, match=r"line 2.*damaged"), journal(output):
        pass


NAME_CHARACTERS = st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff")


@PROPERTY
@given(
    entries=st.lists(
        st.tuples(st.text(NAME_CHARACTERS, min_size=1, max_size=6), st.integers(0, 3)), max_size=8
    ),
    cut=st.integers(0, 400),
)
def test_what_is_appended_is_read_back_up_to_a_torn_end(
    entries: list[tuple[str, int]], cut: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "r.jsonl"
        with journal(output) as file:
            for path, state in entries:
                file.append(error_line(path, "corrupt", f"{state}"), key=f"{path}|{state}|1")
        content = output.read_bytes()
        torn = max(0, len(content) - cut)
        first = content.find(b"\n")
        if 0 < torn <= min(60, first):  # too few bytes to tell whose file it is
            torn = len(content)
        output.write_bytes(content[:torn])
        whole = entries[: content[:torn].count(b"\n")]
        with journal(output) as file:
            for path, state in entries:
                done = dict(whole).get(path) == state
                assert file.outcome(path, f"{path}|{state}|1") == ("failed" if done else None)
        assert output.read_bytes() == content[: content[:torn].rfind(b"\n") + 1]
        codes = {line["path"]: line["error"]["message"] for line in read_results(output)}
        assert codes == {path: f"{state}" for path, state in dict(whole).items()}
