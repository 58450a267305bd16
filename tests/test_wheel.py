"""The wheel, installed by itself, beside files of a user that have the names of our folders."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from deepfake.version import VERSION
from examples.samples import write_samples

ROOT = Path(__file__).parent.parent
OURS = {"deepfake", "deepfake_app", "deepfake_service", "deepfake_training"}
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
THEIRS = "raise SystemExit('this file is the user\\'s')\n"


class Place:
    """A folder of a user, and an environment in which the wheel is installed."""

    def __init__(self, folder: Path, environment: Path) -> None:
        self.folder, self.programs = folder, environment / "bin"
        self.environment = {**CLEAN, "XDG_DATA_HOME": str(folder / "data")}

    def command(self, *arguments: str) -> list[str]:
        return [str(self.programs / "deepfake"), *arguments]

    def run(self, *arguments: str) -> str:
        return self.start(self.command(*arguments))

    def python(self, *arguments: str) -> str:
        return self.start([str(self.programs / "python"), *arguments])

    def start(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the project, beside which a full tier lies that is to stay behind."""
    folder, project = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("project")
    for name in ("deepfake", "app", "training", "models"):
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, project / name, ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project / name)
    large = project / "models" / "image-99-large"
    large.mkdir()
    (large / "model.safetensors").write_bytes(b"large")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", folder, project], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def place(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=False)
    install = [sys.executable, "-m", "pip", "--python", environment, "install", "--quiet"]
    subprocess.run([*install, "--no-deps", "--no-index", wheel], check=True, capture_output=True)
    # The dependencies are those of this environment. A folder that is named in a .pth file is only
    # searched, so the editable installation of the checkout in it stays without effect.
    own = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    folder = tmp_path_factory.mktemp("user")
    (folder / "models").mkdir()
    (folder / "models" / "mine.txt").write_text("no bundle")
    for name in ("app.py", "training.py", "benchmarks.py", "examples.py"):
        (folder / name).write_text(THEIRS)
    write_samples(folder / "samples")
    return Place(folder, environment)


def test_it_holds_our_packages_alone_and_the_models(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == OURS
    assert "deepfake/shipped_models/active.json" in names
    assert "deepfake/trust/shipped.json" in names
    assert "deepfake/trust/c2pa_trust_list/anchors.pem" in names
    assert "deepfake_app/page.css" in names
    assert "deepfake_service/migrations/versions/first.py" in names
    assert not [name for name in names if "-large/" in name]


def test_what_runs_is_what_was_installed(place: Place) -> None:
    code = "import deepfake, deepfake_app, deepfake_training as t; print(deepfake.__file__)"
    assert Path(place.python("-c", code).strip()).is_relative_to(place.programs.parent)
    assert place.run("--version").strip() == f"deepfake {VERSION}"


@pytest.mark.slow
def test_files_are_examined_with_the_models_inside(place: Place) -> None:
    line = json.loads(place.run("detect", "--json", "--effort=quick", "samples/camera.jpg"))
    assert line["versions"]["image"].startswith("image-")
    assert line["warnings"] == []
    (place.folder / "few").mkdir()
    (place.folder / "samples" / "sdxl.png").rename(place.folder / "few" / "sdxl.png")
    place.run("scan", "few", "--output", "results.jsonl", "--csv", "table.csv", "--workers=1")
    assert (place.folder / "table.csv").exists()
    assert "image-" in place.run("models", "verify")
    assert place.run("models", "list")
    assert place.run("doctor")
    place.run("models", "export", "face-finder-1", "--format", "onnx", "--output", "edge")
    assert (place.folder / "edge" / "face-finder-1.onnx").exists()


@pytest.mark.slow
def test_the_full_tier_of_this_release_is_installed_beside_them(place: Place) -> None:
    (large,) = (ROOT / "models").glob("image-*-large")
    assert "missing" in place.run("models", "list")
    assert f"installed {large.name}" in place.run("models", "install", str(large))
    detect = ("detect", "--json", "--effort=full", "samples/camera.jpg")
    line = json.loads(place.run(*detect))
    (image,) = (one for one in line["evidence"] if one["source"] == "image")
    assert image["details"]["tier"] == "full"
    assert image["bundle"] == line["versions"]["image-large"] == large.name
    assert line["warnings"] == []


@pytest.fixture
def served(place: Place) -> Iterator[str]:
    process = subprocess.Popen(
        place.command("serve", "--port", "0"),
        cwd=place.folder,
        env=place.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert address is not None
        yield address[0]
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_the_page_opens_and_the_interface_answers(served: str) -> None:
    with urlopen(served) as answer:
        assert "gradio" in answer.read().decode()
    with urlopen(f"{served}/v1/models") as answer:
        assert json.load(answer)["models"]


def test_training_tells_its_commands(place: Place) -> None:
    assert "training/configs" in place.python("-m", "deepfake", "recipe", "--help")
