"""What all tests share: models whose scores are known, and how long properties are searched.

``DEEPFAKE_PROPERTIES=search python -m pytest tests/properties`` tries a thousand random examples
in place of the same few.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from deepfake.settings import Settings
from deepfake.trust.registry import shipped_bundles
from tests.bundles import keys_of_tests, make_models

if TYPE_CHECKING:
    from deepfake.detector import Detector

hypothesis.settings.register_profile("quick", max_examples=30, deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", max_examples=1000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("DEEPFAKE_PROPERTIES", "quick"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that started the tests in the background ignores it, which every child would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def denormal_numbers() -> Iterator[None]:
    """Training flushes them to zero in its process; other tests need them."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(autouse=True)
def list_of_shipped_bundles() -> Iterator[None]:
    """It is read once a process; what a test put in its place is not for the next one."""
    yield
    shipped_bundles.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def user_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder of the user with nothing in it, so that no test depends on one; a folder of
    configuration likewise, and the keys that sign the bundles of the tests are trusted.
    """
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("DEEPFAKE_TRUSTED_KEYS", str(keys_of_tests()))
        patch.delenv("DEEPFAKE_ALLOW_UNSIGNED", raising=False)
        yield folder


@pytest.fixture(scope="session")
def known_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder whose scores can be computed by hand (see ``tests/bundles.py``)."""
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def known_detector(known_models: Path) -> Iterator[Detector]:
    from deepfake.detector import Detector

    with Detector(Settings(models_folder=known_models, threads=1)) as detector:
        yield detector
