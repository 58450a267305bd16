"""What the tests of recipes share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shallow import shallow, traced
from tests.training.clip_material import make_picture_models


@pytest.fixture(scope="module")
def shallow_trunk() -> Iterator[None]:
    """See ``shallow``."""
    with shallow():
        yield


@pytest.fixture
def traced_graphs() -> Iterator[None]:
    """See ``traced``."""
    with traced():
        yield


@pytest.fixture(scope="session")
def picture_models(tmp_path_factory: pytest.TempPathFactory, known_models: Path) -> Path:
    """See ``make_picture_models``; with a shallow trunk, traced, and not to be changed."""
    with shallow(), traced():
        return make_picture_models(tmp_path_factory.mktemp("pictures"), known_models)
