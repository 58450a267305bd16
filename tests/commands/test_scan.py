from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from deepfake.commands.cli import build_parser, main
from deepfake.commands.scan import Bar, choose_executor
from deepfake.errors import MissingDependency, SettingsError
from deepfake.scan.executors import choose_local
from deepfake.scan.scan import Summary
from tests.media_files import image_bytes, scene
from tests.scans import read_lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    root.mkdir()
    for number in range(2):
        (root / f"{number}.png").write_bytes(image_bytes(scene(seed=number)))
    return root


def test_reports_of_a_scan_and_again_without_scanning(
    folder: Path, tmp_path: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    output = folder / "r.jsonl"
    command = ["scan", str(folder), "--output", str(output), "--models", str(known_models)]
    command += ["--workers", "1", "--no-stability"]
    reports = {name: folder / f"r.{name}" for name in ("csv", "parquet", "html")}
    for path in reports.values():
        command += [f"--{path.suffix[1:]}", str(path)]
    assert main([*command, "--file-seconds", "1e-6", "--output", str(tmp_path / "late")]) == 1
    late = read_lines(tmp_path / "late")
    assert {line["error"]["code"] for line in late} == {"time_limit"}
    command += ["--file-seconds", "0"]
    assert main(command) == 0
    assert "examined now" in capsys.readouterr().out
    first = {name: path.read_bytes() for name, path in reports.items()}
    for path in reports.values():
        path.unlink()
    assert main(command) == 0
    assert {name: path.read_bytes() for name, path in reports.items()} == first
    assert len(read_lines(output)) == 2
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    assert main(command) == 1
    assert "failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", "-1"], "workers"),
        (["--max-files", "0"], "max_files"),
        (["--file-seconds", "-1"], "file_seconds"),
        (["--watch", "0"], "poll_seconds"),
        (["--csv", "/nowhere/r.csv"], "no folder"),
        (["--csv", "same", "--html", "same"], "one file"),
        (["--cluster", "moon"], "unknown"),
    ],
)
def test_wrong_usage_ends_before_the_scan(
    folder: Path,
    tmp_path: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "r.jsonl"
    assert main(["scan", str(folder), "--output", str(output), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not output.exists()


def test_a_missing_package_is_named_before_the_scan(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    options = build_parser().parse_args(
        ["scan", str(folder), "--output", str(tmp_path / "r"), "--parquet", "r.parquet"]
    )
    with pytest.raises(MissingDependency, match=r"deepfake\[parquet\]"):
        options.run(options)
    real = builtins.__import__

    def refuse(name: str, *rest: object) -> object:
        if name == "fsspec":
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    options = build_parser().parse_args(["scan", "s3://box/a", "--output", str(tmp_path / "r")])
    with pytest.raises(MissingDependency, match=r"deepfake\[remote\]"):
        options.run(options)


def test_executors_by_name() -> None:
    assert choose_executor("local") is choose_local
    with pytest.raises(SettingsError, match="ray://"):
        choose_executor("slurm")


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["scan", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for words in ("examples:", "s3://", "--watch", "--html", "exit status: 0", "130", "find /"):
        assert words in text


def test_the_bar_shows_a_growing_total() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=140)
    with Bar(console) as bar:
        outcomes = Counter({"synthetic": 3, "failed": 1})
        bar(Summary(outcomes=outcomes, scanned=4, listed=10_000), None)
        bar._bar.refresh()
        assert "4 of 10,000 or more" in output.getvalue()
        bar(Summary(outcomes=outcomes, scanned=4, listed=12_000, complete=True), None)
        bar._bar.refresh()
    text = output.getvalue()
    assert "4 of 12,000 " in text
    assert "failed 1, synthetic 3" in text
