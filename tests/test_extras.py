"""What a missing package is answered with, against what ``pyproject.toml`` says."""

from __future__ import annotations

import ast
import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from deepfake.commands import doctor
from deepfake.commands.cli import main
from deepfake.engine import backends
from deepfake.errors import MissingDependency
from deepfake.settings import Settings

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=;, ]", requirement, maxsplit=1)[0] for requirement in requirements}


def promised() -> list[tuple[str, str, str]]:
    """Place, package and extra of each ``MissingDependency`` in the sources that names both."""
    found = []
    for path in (
        it for top in ("deepfake", "app", "training") for it in (ROOT / top).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or "MissingDependency" not in ast.dump(node.func):
                continue
            extra = node.keywords[0].value if node.keywords else ast.Constant("base")
            if isinstance(node.args[0], ast.Constant) and isinstance(extra, ast.Constant):
                place = f"{path.name}:{node.lineno}"
                found.append((place, str(node.args[0].value), str(extra.value)))
    return found


def test_every_extra_that_is_named_brings_the_package() -> None:
    wanted = promised()
    assert len(wanted) >= 10
    wanted += [("doctor", package, extra) for package, extra in doctor.PACKAGES]
    extras = PROJECT["optional-dependencies"] | {"base": PROJECT["dependencies"]}
    wrong = [item for item in wanted if item[1] not in names(extras.get(item[2], []))]
    assert wrong == []


def test_every_extra_in_the_documents_exists() -> None:
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for extra in re.findall(r"deepfake\[(\w+)\]", path.read_text(encoding="utf-8")):
            assert extra in PROJECT["optional-dependencies"], path


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        (Settings(device="cpu"), "pip install onnxruntime"),
        (Settings(backend="onnxruntime"), "pip install onnxruntime"),
        (Settings(backend="openvino"), "pip install openvino"),
        (Settings(backend="torch"), 'pip install "deepfake[gpu]"'),
        (Settings(device="cuda"), 'pip install "deepfake[gpu]"'),
    ],
)
def test_a_missing_runtime_names_its_remedy(
    settings: Settings, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "installed_backends", lambda: ())
    with pytest.raises(MissingDependency) as caught:
        backends.choose_backend(settings)
    assert caught.value.hint == f"run: {remedy}"


def test_doctor_names_the_remedy_of_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find(package: str) -> str:
        if package in ("onnxruntime", "ray"):
            raise PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(doctor, "version", find)
    main(["doctor", "--models", str(tmp_path)])
    text = capsys.readouterr().out
    assert re.search(r"missing; run: pip install onnxruntime *\n", text)
    assert 'missing; run: pip install "deepfake[cluster]"' in text
