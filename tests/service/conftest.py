from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("gradio")

from deepfake.detector import Detector
from deepfake.settings import Settings
from tests.faulty import Endless, Faulty
from tests.service.serving import Client, serviced


@pytest.fixture
def client(known_detector: Detector, tmp_path: Path) -> Iterator[Client]:
    with serviced(known_detector, tmp_path / "service") as client:
        yield client


@pytest.fixture
def endless() -> Endless:
    return Endless()


@pytest.fixture
def detector(known_models: Path, endless: Endless) -> Iterator[Detector]:
    """One that examines in no time, but never the pictures of 13 pixels that ``endless`` meets."""
    settings = Settings(models_folder=known_models, threads=1)
    with Detector(settings, analyzers=(endless,)) as detector:
        yield detector


@pytest.fixture
def faulty_detector(known_models: Path) -> Iterator[Detector]:
    """One with a bug that pictures of 13 pixels meet."""
    with Detector(
        Settings(models_folder=known_models, threads=1), analyzers=(Faulty(),)
    ) as detector:
        yield detector
