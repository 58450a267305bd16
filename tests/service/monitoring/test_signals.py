"""What is watched of a file beside its report."""

from __future__ import annotations

from pathlib import Path

import pytest
from deepfake_service.monitoring.signals import read_file_signals, read_signals

from tests.media_files import image_bytes, scene
from tests.reports import make_evidence, make_report
from tests.service.serving import Client


@pytest.mark.parametrize("quality", [25, 40, 50, 75, 90, 97])
def test_the_quality_of_a_jpeg_is_that_of_libjpeg(quality: int, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(image_bytes(scene(), "jpeg", quality=quality))
    found = read_file_signals(path, format="jpeg")
    assert found["JPEG quality"] == pytest.approx(quality, abs=1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8\xff\xdb",
        b"\xff\xd8\xff\xdb\x00\x43\x00" + bytes(20),
        b"\xff\xd8\xff\xdb\x00\x43\x01" + bytes(64),  # a table of chrominance alone
        b"\xff\xd8\xff\xdb\xff\xff" + b"\xff" * 5000,
    ],
)
def test_a_jpeg_without_a_whole_table_has_no_quality(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    assert read_file_signals(path, format="jpeg") == {}


def test_other_files_and_those_that_are_gone_have_none(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(image_bytes(scene(), "jpeg"))
    assert read_file_signals(path, format="png") == {}
    assert read_file_signals(tmp_path / "gone", format="jpeg") == {}


def test_how_loud_a_sound_is_is_watched() -> None:
    evidence = make_evidence("audio", score=0.1, details={"level_db": -23.5, "windows": 3})
    assert read_signals(make_report(evidence))["level_db"] == -23.5


def test_the_service_watches_the_quality_of_what_it_is_sent(client: Client) -> None:
    content = image_bytes(scene(), "jpeg", quality=60)
    assert client.send("/v1/detect", content).status_code == 200
    client.wait(client.send("/v1/jobs", content).json()["id"])
    (kept,) = client.service.monitor._kept.values()
    assert kept.stream.values["JPEG quality"] == [60.0, 60.0]
