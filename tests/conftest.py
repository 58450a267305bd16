from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deepfake.settings import Settings
from tests.bundles import make_models

if TYPE_CHECKING:
    from deepfake.detector import Detector


@pytest.fixture(scope="session")
def known_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder whose scores can be computed by hand (see ``tests/bundles.py``)."""
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def known_detector(known_models: Path) -> Iterator[Detector]:
    from deepfake.detector import Detector

    with Detector(Settings(models_folder=known_models, threads=1)) as detector:
        yield detector
