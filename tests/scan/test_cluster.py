from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deepfake.bundle import Applicability, Bundle
from deepfake.errors import ModelError, SettingsError
from deepfake.scan import cluster
from deepfake.scan.cluster import RayExecutor, compare, local_cluster, node_facts, node_settings
from deepfake.scan.executors import Executor, Line, LocalExecutor, Task, Worker, WorkerSetup
from deepfake.settings import DetectOptions, Settings, shipped_models_folder
from deepfake.trust.keys import make_pair
from tests.bundles import make_models
from tests.media_files import image_bytes, scene, speech, wav_bytes

pytest.importorskip("ray")


class WatchedWorker(Worker):
    """Adds its process to each line, and ends it under a file named so."""

    def examine(self, task: Task) -> Line:
        if Path(task.path).name == "fatal.jpg":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().examine(task) | {"process": os.getpid()}


class FaultyWorker(Worker):
    def examine(self, task: Task) -> Line:
        if Path(task.path).name == "05.jpg":
            raise ZeroDivisionError("\x1b[2J")
        return super().examine(task)


class RefusingWorker(Worker):
    def __init__(self, setup: WorkerSetup) -> None:
        raise ModelError("bundle image-1: torn", hint="restore it")


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    with local_cluster(2):
        yield
    with warnings.catch_warnings(action="ignore"):  # Ray leaves its processes to end by themselves
        gc.collect()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("media")
    for number in range(24):
        (root / f"{number:02}.jpg").write_bytes(image_bytes(scene(seed=number), "jpeg"))
    return root


@pytest.fixture
def setup(known_models: Path) -> WorkerSetup:
    return WorkerSetup(Settings(models_folder=known_models), DetectOptions(stability=False))


def tasks(folder: Path) -> Iterator[Task]:
    return (Task(str(path)) for path in sorted(folder.iterdir()))


def examine(executor: Executor, folder: Path) -> dict[str, Line]:
    """The lines by path, less the times; fails when a file is answered twice."""
    lines: dict[str, Line] = {}
    for task, line in executor.run(tasks(folder)):
        assert task.path not in lines
        line.pop("seconds_by_step", None)
        line.pop("examined_at", None)
        line.pop("seconds", None)
        lines[task.path] = line
    return lines


def test_lines_are_those_of_the_local_executor(
    ray_cluster: None, folder: Path, tmp_path: Path, setup: WorkerSetup
) -> None:
    (tmp_path / "a.jpg").write_bytes((folder / "01.jpg").read_bytes())
    (tmp_path / "b.png").write_bytes(image_bytes(scene(seed=2)))
    (tmp_path / "broken.jpg").write_bytes(b"this is text")
    (tmp_path / "speech.wav").write_bytes(wav_bytes(speech(2.0)))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/not-utf8-\xff.jpg")).write_bytes(
        (folder / "03.jpg").read_bytes()
    )
    local, remote = LocalExecutor(setup, 1), RayExecutor(setup, workers=2)
    try:
        expected = examine(local, tmp_path)
        assert examine(remote, tmp_path) == expected
        assert examine(remote, tmp_path) == expected, "the same actors, a second time"
    finally:
        local.close()
        remote.close()
    assert len(expected) == 5
    assert [line["error"]["code"] for line in expected.values() if "error" in line] == [
        "unsupported"
    ]


def test_a_killed_actor_loses_nothing(ray_cluster: None, folder: Path, setup: WorkerSetup) -> None:
    executor = RayExecutor(setup, workers=2, worker=WatchedWorker)
    answered: Counter[str] = Counter()
    killed = None
    try:
        for task, line in executor.run(tasks(folder)):
            assert "error" not in line
            answered[task.path] += 1
            if killed is None:
                killed = line["process"]
                os.kill(killed, signal.SIGKILL)  # while it works on the file that waited there
    finally:
        executor.close()
    assert answered == Counter(task.path for task in tasks(folder))


def test_a_bug_in_a_worker_is_the_failure_of_one_file(
    ray_cluster: None, folder: Path, setup: WorkerSetup, caplog: pytest.LogCaptureFixture
) -> None:
    executor = RayExecutor(setup, workers=1, worker=FaultyWorker)
    try:
        lines = examine(executor, folder)
    finally:
        executor.close()
    assert sorted(lines) == [task.path for task in tasks(folder)]
    (error,) = [line["error"] for line in lines.values() if "error" in line]
    assert error["code"] == "internal"
    assert "05.jpg" in error["message"]
    assert "ZeroDivisionError" in error["message"]
    assert error["message"].isprintable()
    assert "FaultyWorker" in caplog.text or "in examine" in caplog.text


def test_a_file_that_kills_each_of_its_actors_gets_the_blame(
    ray_cluster: None, tmp_path: Path, setup: WorkerSetup
) -> None:
    for name in ("a.jpg", "b.jpg", "fatal.jpg", "y.jpg", "z.jpg"):
        (tmp_path / name).write_bytes(image_bytes(scene(), "jpeg"))
    executor = RayExecutor(setup, workers=1, worker=WatchedWorker)
    try:
        lines = examine(executor, tmp_path)
    finally:
        executor.close()
    assert sorted(Path(path).name for path in lines) == [p.name for p in sorted(tmp_path.iterdir())]
    errors = {Path(path).name: line["error"] for path, line in lines.items() if "error" in line}
    assert list(errors) == ["fatal.jpg"]
    assert errors["fatal.jpg"]["code"] == "worker_died"
    processes = {line["process"] for line in lines.values() if "process" in line}
    assert len(processes) >= 2, "files after the fatal one were examined by another actor"


def test_a_node_with_another_version_is_refused(
    ray_cluster: None, folder: Path, setup: WorkerSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = node_facts(setup.settings) | {"deepfake": "0.0.1"}
    monkeypatch.setattr(cluster, "node_facts", lambda settings: here)
    executor = RayExecutor(setup, workers=1)
    try:
        with pytest.raises(SettingsError, match=r"has deepfake .*, this machine has 0\.0\.1; inst"):
            list(executor.run(tasks(folder)))
    finally:
        executor.close()


def test_a_worker_that_cannot_start_says_why(
    ray_cluster: None, folder: Path, setup: WorkerSetup
) -> None:
    executor = RayExecutor(setup, workers=1, worker=RefusingWorker)
    try:
        with pytest.raises(SettingsError, match=r"'local': bundle image-1: torn; restore it"):
            list(executor.run(tasks(folder)))
    finally:
        executor.close()


def test_gpus_that_are_not_there_are_not_waited_for(
    ray_cluster: None, folder: Path, setup: WorkerSetup
) -> None:
    settings = replace(setup.settings, device="cuda")
    executor = RayExecutor(replace(setup, settings=settings))
    try:
        with pytest.raises(SettingsError, match="has no GPU"):
            list(executor.run(tasks(folder)))
    finally:
        executor.close()


def test_the_command_ends_with_ctrl_c_and_leaves_no_process(
    tmp_path: Path, known_models: Path
) -> None:
    root, output = tmp_path / "many", tmp_path / "results.jsonl"
    root.mkdir()
    for number in range(200):
        (root / f"{number}.jpg").write_bytes(image_bytes(scene(seed=number), "jpeg"))
    command = [sys.executable, "-m", "deepfake", "scan", str(root), "--output", str(output)]
    command += ["--models", str(known_models), "--no-stability", "--cluster", "ray"]
    scan = subprocess.Popen(
        [*command, "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    while scan.poll() is None and (not output.exists() or output.read_bytes().count(b"\n") < 20):
        time.sleep(0.02)
    family = find_family(scan.pid)
    assert any("_Examiner" in name for name in family.values()), family
    os.killpg(scan.pid, signal.SIGINT)
    _, message = scan.communicate(timeout=60)
    assert scan.returncode == 130, message
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert 20 <= len(lines) == len({line["path"] for line in lines}) < 200
    assert not any("error" in line for line in lines)
    until = time.monotonic() + 10
    while any(map(is_alive, family)) and time.monotonic() < until:
        time.sleep(0.1)
    assert [name for process, name in family.items() if is_alive(process)] == []


def find_family(process: int) -> dict[int, str]:
    """The command lines of a process and its descendants."""
    names, unseen = {}, [process]
    while unseen:
        folder = Path("/proc", str(unseen[0]))
        with contextlib.suppress(OSError):
            names[unseen[0]] = (folder / "cmdline").read_bytes().decode(errors="replace")
            for thread in (folder / "task").iterdir():
                unseen += map(int, (thread / "children").read_text().split())
        del unseen[0]
    return names


def is_alive(process: int) -> bool:
    """Whether the process is there and no zombie, which nobody waits for in a container."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_nothing_is_started_for_no_file(
    setup: WorkerSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RayExecutor, "_connect", lambda self: pytest.fail("a cluster for nothing"))
    executor = RayExecutor(setup, workers=2)
    assert list(executor.run(iter(()))) == []
    executor.close()


def test_facts_tell_models_and_files_apart(
    known_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchors = tmp_path / "anchors.pem"
    anchors.write_bytes(b"one")
    settings = Settings(models_folder=known_models, trust_anchors=anchors)
    facts = node_facts(settings)
    compare(node_facts(settings), facts)
    anchors.write_bytes(b"two")
    with pytest.raises(SettingsError, match="has anchors"):
        compare(node_facts(settings), facts)
    with pytest.raises(SettingsError, match="has anchors none"):
        compare(node_facts(replace(settings, trust_anchors=None)), facts)
    other = make_models(tmp_path / "models", gain=2.0)
    anchors.write_bytes(b"one")
    with pytest.raises(SettingsError, match="has audio audio-1 "):
        compare(node_facts(replace(settings, models_folder=other)), facts)
    same = make_models(tmp_path / "same")
    compare(node_facts(replace(settings, models_folder=same)), facts)
    video = Bundle.read(same / "video-1")
    replace(video, limits=Applicability(min_side_pixels=99)).write(video.folder)
    with pytest.raises(SettingsError, match="has video video-1 "):
        compare(node_facts(replace(settings, models_folder=same)), facts)
    with pytest.raises(ModelError):
        node_facts(Settings(models_folder=tmp_path / "none"))


def test_facts_tell_whose_bundles_are_believed(known_models: Path, tmp_path: Path) -> None:
    models = Path(shutil.copytree(known_models, tmp_path / "models"))
    settings = Settings(models_folder=models)
    facts = node_facts(settings)
    make_pair(tmp_path / "other")
    both = replace(settings, trusted_keys=(*settings.trusted_keys, tmp_path / "other"))
    with pytest.raises(SettingsError, match="has trusted keys "):
        compare(node_facts(both), facts)
    revoked = {"schema": "deepfake-revoked/1", "keys": {"0" * 64: "stolen"}, "bundles": {}}
    (models / "revoked.json").write_text(json.dumps(revoked))
    with pytest.raises(SettingsError, match="has revoked keys "):
        compare(node_facts(settings), facts)


def test_a_node_with_damaged_weights_gets_no_file(tmp_path: Path, setup: WorkerSetup) -> None:
    models = make_models(tmp_path / "models")
    (models / "face-1" / "model.onnx").write_bytes(b"")
    damaged = replace(setup, settings=replace(setup.settings, models_folder=models))
    problem = cluster._Examiner().start(Worker, damaged, False, {})
    assert problem is not None
    assert problem[0] == "model"
    assert "face-1: file model.onnx differs" in problem[1]


def test_shipped_models_are_found_where_the_node_has_them(known_models: Path) -> None:
    elsewhere = Settings(models_folder=Path("of", "another", "machine"))
    assert node_settings(elsewhere, shipped=True).models_folder == shipped_models_folder()
    assert node_settings(elsewhere, shipped=False) == elsewhere
