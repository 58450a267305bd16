"""Many files, an event loop, and the end of a detector."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deepfake.analyzers.image import Image
from deepfake.detector import Detector
from deepfake.errors import (
    BackendError,
    DeepfakeError,
    FailedSource,
    InternalError,
    SettingsError,
    TimeLimit,
)
from deepfake.settings import Settings
from deepfake.types import Evidence, Kind, Report
from tests.faulty import BUG_PIXELS, Endless, Faulty
from tests.media_files import image_bytes, scene, speech, wav_bytes

GOOD, BUG = image_bytes(scene()), image_bytes(scene(BUG_PIXELS, 8))


@pytest.fixture
def endless() -> Endless:
    return Endless()


@pytest.fixture
def waiting(known_models: Path, endless: Endless) -> Iterator[Detector]:
    """A detector that is never done with some files."""
    with Detector(Settings(models_folder=known_models), analyzers=(endless,)) as detector:
        yield detector


def test_a_short_sound_and_a_bug_take_no_other_file_along(
    known_models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(models_folder=known_models)
    sources = [GOOD, BUG, wav_bytes(speech(2.0)[:100]), b"text", BUG, GOOD]
    with Detector(settings, analyzers=(Faulty(),)) as detector:
        results = list(detector.detect_many(sources, workers=2))
        with pytest.raises(ZeroDivisionError):
            detector.detect(BUG)
        with pytest.raises(ZeroDivisionError):
            asyncio.run(detector.detect_async(BUG))
    codes = [result.code if isinstance(result, DeepfakeError) else "" for result in results]
    assert codes == ["", "internal", "", "unsupported", "internal", ""]
    assert "ZeroDivisionError" in str(results[1])
    assert results[1] is not results[4]
    assert [record.name for record in caplog.records] == ["deepfake"] * 2
    assert "in analyze" in caplog.text
    for error in (results[1], results[4]):
        assert isinstance(error, InternalError)
        assert f"id {error.fault_id}" in str(error)
        assert f"id {error.fault_id}" in caplog.text


def test_errors_say_which_source_they_are_about(known_detector: Detector, tmp_path: Path) -> None:
    bad = tmp_path / "bad\n.png"
    bad.write_bytes(b"text")
    sources: list[Any] = [GOOD, bad, str(bad), b"text", io.BytesIO(b"text"), 5]
    results = list(known_detector.detect_many(sources))
    errors = [result for result in results if isinstance(result, DeepfakeError)]
    shown = str(tmp_path / "bad") + "\\n.png"
    assert [error.source for error in errors] == [
        FailedSource(shown, 1),
        FailedSource(shown, 2),
        FailedSource("<bytes>", 3),
        FailedSource("<stream>", 4),
        FailedSource("<int>", 5),
    ]
    assert DeepfakeError("alone").source is None


def test_each_of_many_files_has_its_own_time(waiting: Detector) -> None:
    results = list(waiting.detect_many([GOOD, BUG, GOOD], workers=1, file_seconds=4.0))
    assert [type(result) for result in results] == [Report, TimeLimit, Report]
    for seconds in (0, -1.0, float("nan")):
        with pytest.raises(SettingsError, match="file_seconds"):
            waiting.detect_many([GOOD], file_seconds=seconds)


def test_a_caller_that_has_seen_enough_does_not_wait(waiting: Detector, endless: Endless) -> None:
    results = waiting.detect_many([GOOD, BUG, *[GOOD] * 9], workers=2)
    assert isinstance(next(results), Report)
    results.close()  # type: ignore[attr-defined]
    assert endless.begun.is_set() == endless.ended.is_set()


def test_a_cancelled_task_ends_its_examination(waiting: Detector, endless: Endless) -> None:
    async def cancel() -> None:
        task = asyncio.create_task(waiting.detect_async(BUG))
        await asyncio.to_thread(endless.begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(endless.ended.wait, 60)

    asyncio.run(cancel())
    assert isinstance(asyncio.run(waiting.detect_async(GOOD)), Report)


def test_async_takes_what_the_plain_call_takes(waiting: Detector) -> None:
    seen: list[tuple[float, str]] = []
    report = asyncio.run(
        waiting.detect_async(
            speech(1.0),
            name="voice",
            sample_rate=16000,
            progress=lambda share, text: seen.append((share, text)),
            deadline=time.monotonic() + 600,
        )
    )
    assert (report.path, report.media.sample_rate) == ("voice", 16000)
    assert [text for _, text in seen] == ["opening", "endless", "done"]
    with pytest.raises(TimeLimit):
        asyncio.run(waiting.detect_async(BUG, deadline=time.monotonic() + 0.5))


class Untouched(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise AssertionError("it was opened")


def test_a_closed_detector_answers_nothing(known_models: Path) -> None:
    detector = Detector(Settings(models_folder=known_models))
    detector.close()
    detector.close()
    with pytest.raises(BackendError, match="make a new Detector"):
        detector.detect(Untouched())
    with pytest.raises(BackendError, match="make a new Detector"):
        asyncio.run(detector.detect_async(Untouched()))
    with pytest.raises(BackendError, match="make a new Detector"):
        detector.detect_many([Untouched()])


def test_a_file_is_not_judged_without_the_models_that_are_gone(known_models: Path) -> None:
    class Closing:
        name = "closing"
        kinds = frozenset({Kind.IMAGE})

        def analyze(self, media: Any, engine: Any, options: Any) -> list[Evidence]:
            engine.close()
            return []

    settings = Settings(models_folder=known_models)
    with (
        Detector(settings, analyzers=(Closing(), Image())) as detector,
        pytest.raises(BackendError, match="make a new Detector"),
    ):
        detector.detect(GOOD)


def test_a_report_tells_when_it_was_made(known_detector: Detector) -> None:
    before = datetime.now(UTC)
    report = known_detector.detect(GOOD)
    assert report.examined_at
    assert report.examined_at.endswith("Z")
    began = datetime.fromisoformat(report.examined_at)
    assert before - timedelta(seconds=1) <= began <= datetime.now(UTC)
    assert Report.from_dict(report.to_dict()).examined_at == report.examined_at
