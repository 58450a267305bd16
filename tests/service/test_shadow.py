"""A candidate judges beside the active bundle; only the table of ``models shadow`` tells of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.settings import Settings
from deepfake.trust.registry import activate, read_bundles
from deepfake.trust.shadow import RESULTS, compare, read_shadow
from tests.bundles import make_bundle
from tests.media_files import image_bytes, scene
from tests.scans import read_lines
from tests.service.serving import serviced
from tests.waiting import until

BRIGHT = image_bytes(scene(96, 64) // 6 + 210)


@pytest.fixture
def models(known_models: Path, tmp_path: Path) -> Path:
    """A models folder with a candidate that says the opposite."""
    folder = Path(shutil.copytree(known_models, tmp_path / "models"))
    activate(folder, "image-1")
    preprocess = read_bundles(folder)["image"].preprocess
    make_bundle(folder / "image-2", preprocess=preprocess, gain=-4.0)
    return folder


def test_a_candidate_judges_in_the_shadow(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "service"
    where = ["--models", str(models), "--data", str(folder)]
    with (
        Detector(Settings(models_folder=models, threads=1)) as detector,
        serviced(detector, folder) as client,
    ):
        before = client.send("/v1/detect", BRIGHT).json()["report"]
        assert main(["models", "shadow", "image-2", "--share", "1", *where]) == 0
        assert "no file was judged" in capsys.readouterr().out

        def judged() -> bool:
            report = client.send("/v1/detect", BRIGHT).json()["report"]
            assert report["versions"] == before["versions"]
            assert report["probability"] == before["probability"]
            return (folder / RESULTS).exists()

        until(judged)
        until(lambda: not any((folder / "shadow").iterdir()))
        assert main(["models", "shadow", *where]) == 0
        shown = capsys.readouterr().out
        assert "0.0 %" in next(line for line in shown.splitlines() if "same word" in line)
        found = compare(folder / RESULTS, read_bundles(models)["image"].sha256)
        assert found is None  # which is not the candidate
        (sha256,) = {line["candidate"] for line in read_lines(folder / RESULTS)}
        found = compare(folder / RESULTS, sha256)
        assert found is not None
        assert found.flips == found.files
        assert found.drift < -0.8
        assert found.distance == 1.0
        assert {key for line in read_lines(folder / RESULTS) for key in line} == {
            *("candidate", "active", "kind", "error", "scores", "words", "seconds")
        }
        assert main(["models", "shadow", "--off", *where]) == 0
        assert read_shadow(models) is None


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["image-2", "--share", "0"], "share 0: out of range"),
        (["image-1"], "nothing to be compared with"),
        (["image-9"], "cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    models: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    assert main(["models", "shadow", *arguments, "--models", str(models)]) in (1, 2)
    assert why in capsys.readouterr().err
    assert read_shadow(models) is None
