"""The commands that reach the training package: one parser, lazily, with the extra named."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from deepfake_training import runs
from deepfake_training.records import write_records

from deepfake.commands import training
from deepfake.commands.cli import main
from tests.training.test_metrics import make_records

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["calibrate"],
            ["--files", "genuine/SOURCE", "a copy of it", "deepfake models activate"],
        ),
        (["quantise"], ["--most-files", "0.002", "synthetic/SYSTEM"]),
        (["recipe"], ["training/configs/image-3.toml", "ship", "goes on where it was"]),
        (["recipe", "make"], ["--data", "--weights", "--runs"]),
        (["recipe", "localise"], ["pointing", "--composites"]),
        (
            ["recipe", "ablate"],
            ["audio-3-large.toml", "without pairs", "--quick", "recordings judged"],
        ),
    ],
)
def test_help_teaches(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in words)
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("name", "recipe"),
    [("image-3-large", "image-3"), ("audio-3-large", "audio-3-large"), ("mine-1", None)],
)
def test_a_bundle_is_signed_with_the_recipe_that_made_it(
    name: str, recipe: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CONFIGS.parents[1])
    found = training.find_recipe(name)
    assert (found and found.stem) == recipe


def test_nothing_of_the_training_is_imported_before_it_is_needed() -> None:
    code = "import sys, deepfake.commands.cli as c; c.build_parser(); "
    code += "print([m for m in ('deepfake_training', 'torch', 'sklearn') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.import_module

    def lack(name: str, package: str | None = None) -> Any:
        if name.startswith("deepfake_training"):
            raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn.linear_model")
        return real(name, package)

    monkeypatch.setattr(training.importlib, "import_module", lack)
    assert main(["calibrate", "models/image-3", "--files", str(tmp_path)]) == 2
    assert 'sklearn: not installed; run: pip install "deepfake[train]"' in capsys.readouterr().err


def test_a_misspelt_recipe_is_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (CONFIGS / "image-3.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(text.replace("workers", "worker"), encoding="utf-8")
    command = ["recipe", "make", str(tmp_path / "mine.toml"), "--data", "d", "--weights", "w"]
    assert main([*command, "--runs", str(tmp_path / "runs")]) == 2
    assert "recipe mine.toml: unknown key worker; did you mean workers?" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_run_is_told_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "audio-3"
    output.mkdir()
    command = ["recipe", "evaluate", str(CONFIGS / "audio-3.toml"), "--runs", str(tmp_path)]
    assert main(command) == 2
    assert "out_of_fold.jsonl" in capsys.readouterr().err
    write_records(output / "out_of_fold.jsonl", make_records(files=30))
    assert main(command) == 0
    assert "| clean | system0 | 30 |" in capsys.readouterr().out
    assert {"metrics.json", "roc.png", "reliability.png"} <= {p.name for p in output.iterdir()}


def test_a_stopped_run_says_how_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "evaluate_run", stop)
    command = ["recipe", "evaluate", str(CONFIGS / "audio-3.toml"), "--runs", str(tmp_path)]
    assert main(command) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
