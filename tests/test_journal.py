from __future__ import annotations

from pathlib import Path

import pytest

from deepfake.errors import SettingsError
from deepfake.executors import Job, error_line
from deepfake.journal import Journal, read_results
from deepfake.settings import DetectOptions, Settings

from .media_files import image_bytes, scene
from .scans import read_lines, run_scan


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    root.mkdir()
    for number in range(3):
        (root / f"{number}.png").write_bytes(image_bytes(scene(seed=number)))
    return root


def journal(path: Path) -> Journal:
    return Journal(path, versions={"deepfake": "0"}, job=Job(Settings(), DetectOptions()))


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
    with pytest.raises(SettingsError, match="cannot be read as one of a scan"):
        list(read_results(output))
