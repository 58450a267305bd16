"""Other models are activated while a scan runs: no file is lost, no line mixes the two, and the
next scan examines what the former ones said again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deepfake.commands.cli import main
from deepfake.errors import ModelError
from deepfake.scan.executors import LocalExecutor, Task, Worker, WorkerSetup
from deepfake.scan.scan import Summary
from deepfake.settings import DetectOptions, Settings
from deepfake.trust.registry import activate, digest_bundles, read_bundles
from tests.bundles import copy_bundle
from tests.media_files import image_bytes, scene
from tests.scans import Inline, read_lines, run_scan

FILES = 8


@pytest.fixture
def models(known_models: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(known_models, tmp_path / "models"))
    copy_bundle(folder / "image-1", "image-2")
    activate(folder, "image-1")
    return folder


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number}.png").write_bytes(image_bytes(scene(40 + number, 40)))
    shutil.copy(folder / "0.png", folder / "9.png")
    return folder


def after(files: int, act: Callable[[], Any]) -> Callable[[Summary, Any], None]:
    """Progress that does something once, after so many files."""
    left = [files]

    def tell(summary: Summary, line: Any) -> None:
        left[0] -= line is not None
        if left[0] == 0:
            left[0] = -1
            act()

    return tell


@pytest.mark.parametrize("executor", [Inline, LocalExecutor])
def test_a_scan_takes_other_models_up_between_two_files(
    models: Path, media: Path, tmp_path: Path, executor: Any
) -> None:
    output = tmp_path / "results.jsonl"
    how: dict[str, Any] = {"models": models, "output": output, "executor": executor, "workers": 2}
    progress = after(3, lambda: activate(models, "image-2"))
    summary = run_scan(media, progress=progress, **how)
    lines = read_lines(output)
    assert sorted(Path(line["path"]).name for line in lines) == sorted(
        path.name for path in media.iterdir()
    )
    assert summary.failed == 0
    for line in lines:
        said = next(one["bundle"] for one in line["evidence"] if one["source"] == "image")
        assert line["versions"]["image"] == said == line["journal"]["versions"]["image"]
    former = [line for line in lines if line["versions"]["image"] == "image-1"]
    assert 3 <= len(former) < FILES
    assert summary.changes == [len(former)]
    again = run_scan(media, **how)
    assert again.scanned == len(former)
    assert again.changes == []


def test_a_late_worker_examines_nothing_with_other_models(models: Path, media: Path) -> None:
    settings = Settings(models_folder=models)
    digest = digest_bundles(read_bundles(models))
    activate(models, "image-2")
    worker = Worker(WorkerSetup(settings, DetectOptions(), models=digest))
    line = worker.examine(Task(str(media / "1.png")))
    worker.close()
    assert line["error"]["code"] == "models_changed"
    worker = Worker(replace(worker.setup, models=digest_bundles(read_bundles(models))))
    assert "error" not in worker.examine(Task(str(media / "1.png")))
    worker.close()


def test_models_that_cannot_be_used_stop_a_scan_that_goes_on_later(
    models: Path, media: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results.jsonl"
    listed = (models / "active.json").read_bytes()
    progress = after(2, lambda: (models / "active.json").write_text("{}"))
    with pytest.raises(ModelError, match=r"active\.json cannot be read"):
        run_scan(media, output=output, models=models, progress=progress)
    done = len(read_lines(output))
    assert 2 <= done < FILES
    (models / "active.json").write_bytes(listed)
    assert run_scan(media, output=output, models=models).resumed == done


def test_the_command_says_what_rests_on_the_former_models(
    models: Path,
    media: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("deepfake.scan.executors.choose_local", Inline)
    examine, done = Worker.examine, []

    def counted(worker: Worker, task: Task) -> dict[str, Any]:
        done.append(task)
        if len(done) == 3:
            activate(models, "image-2")
        return examine(worker, task)

    monkeypatch.setattr(Worker, "examine", counted)
    log = tmp_path / "audit.jsonl"
    where = ["--output", str(tmp_path / "results.jsonl"), "--models", str(models)]
    assert main(["scan", str(media), *where, "--audit", str(log)]) == 0
    assert "3 files rest on the former ones" in capsys.readouterr().err
    named = [one["bundles"]["image"]["name"] for one in read_lines(log) if "bundles" in one]
    assert named == ["image-1"] * 3 + ["image-2"] * (len(named) - 3)
