"""Media that are kept: which files of their folder are deleted, and for how long they are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from deepfake_service.privacy.kept import Retention

from deepfake.detector import Detector
from tests.service.serving import EVERYTHING, Client, serviced


def test_files_that_no_row_names_are_deleted_and_those_of_others_are_not(client: Client) -> None:
    client.key = client.service.keys.create(tenant="shop", scopes=EVERYTHING)
    client.service.kept.retain("shop", Retention.parse("days=7"))
    client.send("/v1/detect")
    folder = client.service.kept.folder
    (kept,) = (path for path in folder.rglob("*") if path.is_file())
    orphan = kept.with_name("0" * 32)
    others = [folder / "notes" / ("0" * 32), kept.with_name("todo.txt"), folder / "1x" / ("1" * 32)]
    for path in (orphan, *others):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    for path in (kept, orphan, *others):
        os.utime(path, (0, 0))
    client.service.forget()
    assert not orphan.exists()
    assert all(path.exists() for path in (kept, *others))


def test_a_class_that_is_longer_than_reports_are_kept_is_warned_of(
    known_detector: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serviced(known_detector, tmp_path) as client:
        for tenant, retention in (("shop", "days=90"), ("desk", "days=30"), ("old", "hold")):
            client.service.keys.create(tenant=tenant)
            client.service.kept.retain(tenant, Retention.parse(retention))
    for keep_days, warnings in ((30, 1), (90, 0)):
        caplog.clear()
        with serviced(known_detector, tmp_path, keep_days=keep_days):
            said = [it.getMessage() for it in caplog.records if "--keep-days" in it.getMessage()]
        assert len(said) == warnings
        assert all("tenant shop are to be kept for 90 days" in text for text in said)
