from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deepfake_service.service import Service

from deepfake.detector import Detector
from tests.service.pages.visiting import Browser
from tests.service.serving import serviced


@pytest.fixture
def service(detector: Detector, tmp_path: Path) -> Iterator[Service]:
    with serviced(detector, tmp_path / "service", thumbnails=True) as client:
        yield client.service


@pytest.fixture
def browser(service: Service) -> Browser:
    return Browser(service)
