from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from deepfake_service.service import Service
from deepfake_service.store import users

from deepfake.detector import Detector
from tests.service.pages.visiting import Browser
from tests.service.serving import serviced


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords that are hashed in no time; how they are hashed in earnest is tested elsewhere."""
    quick = partial(PasswordHasher, time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(users, "PasswordHasher", quick)


@pytest.fixture
def service(detector: Detector, tmp_path: Path) -> Iterator[Service]:
    with serviced(detector, tmp_path / "service", thumbnails=True) as client:
        yield client.service


@pytest.fixture
def browser(service: Service) -> Browser:
    return Browser(service)
