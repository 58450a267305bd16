from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

import gradio as gr

import app
from app.page import api_handler, page_handler, stop_handler
from app.stops import Stops
from deepfake.cli import main
from deepfake.detector import Detector
from deepfake.errors import MissingDependency
from deepfake.settings import DetectOptions, Settings

from ..faulty import BUG_PIXELS, Faulty
from ..media_files import image_bytes, scene, speech, video_bytes, wav_bytes
from .media import DEFAULTS, sent

Examine = Callable[..., tuple[str, Any, Any]]


class Visitor:
    """What the handlers read of a gradio request."""

    def __init__(self, session_hash: str) -> None:
        self.session_hash = session_hash


@pytest.fixture
def examine(known_detector: Detector) -> Examine:
    handler = page_handler(known_detector, Stops())

    def examine(file: Any, *values: Any) -> tuple[str, Any, Any]:
        return handler(file, Visitor("a"), lambda share, desc: None, *values)

    return examine


def saved(page: str) -> dict[str, Any]:
    found = re.search(r'href="data:application/json;base64,([^"]+)"', page)
    assert found, page
    report: dict[str, Any] = json.loads(base64.b64decode(found[1]))
    return report


def test_import_app_does_not_import_gradio() -> None:
    code = "import sys, app; sys.exit('gradio' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_gradio_is_answered_with_the_extra(
    known_detector: Detector,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "gradio" else find_spec(name)
    )
    with pytest.raises(MissingDependency, match=r"deepfake\[app\]"):
        app.build(known_detector)
    assert main(["serve", "--models", str(known_detector.settings.models_folder)]) == 2
    assert 'pip install "deepfake[app]"' in capsys.readouterr().err


def test_every_option_has_a_labelled_control(known_detector: Detector) -> None:
    async def build() -> Any:  # within a loop gradio makes none of its own
        return app.build(known_detector)

    page = asyncio.run(build())
    config = page.get_config_file()
    labels = {component["props"].get("label"): component for component in config["components"]}
    for option in fields(DetectOptions):
        control = labels[option.name.replace("_", " ").capitalize()]["props"]
        assert option.metadata["help"].lower() in control["info"].lower()
        if not isinstance(option.default, bool):
            assert control["minimum"] == option.metadata["minimum"]
            assert control["maximum"] == option.metadata["maximum"]
    assert not page.analytics_enabled
    named = [it["api_name"] for it in config["dependencies"] if it["api_visibility"] == "public"]
    assert named == ["detect"]


def test_a_picture_gives_a_report_with_its_heat_map(examine: Examine, tmp_path: Path) -> None:
    file = sent(tmp_path, image_bytes(scene()), "<b>photo</b>.png")
    page, drop_zone, _ = examine(file, *DEFAULTS)
    assert drop_zone is None
    report = saved(page)
    assert report["kind"] == "image"
    assert report["path"] == "b>.png"
    image = next(item for item in report["evidence"] if item["source"] == "image")
    assert f"Score {image['score']:.2f}" in page
    assert page.count("data:image/jpeg;base64,") == 2
    assert list(tmp_path.iterdir()) == []


def test_the_heat_map_can_be_left_out(examine: Examine, tmp_path: Path) -> None:
    page, *_ = examine(sent(tmp_path, image_bytes(scene()), "a.png"), False, *DEFAULTS[1:])
    assert "data:image" not in page
    assert saved(page)["kind"] == "image"


def test_a_recording_gives_a_timeline(examine: Examine, tmp_path: Path) -> None:
    page, *_ = examine(sent(tmp_path, wav_bytes(speech(3.0)), "voice.wav"), *DEFAULTS)
    audio = next(item for item in saved(page)["evidence"] if item["source"] == "audio")
    assert page.count("df-dot") == len(audio["timelines"][0]["scores"]) > 2
    assert list(tmp_path.iterdir()) == []


def test_a_video_gives_its_timelines_and_tiles(examine: Examine, tmp_path: Path) -> None:
    frames = [scene(seed=number) for number in range(8)]
    content = video_bytes(frames, rate=4, sound=speech(2.0, sample_rate=48000))
    page, _, gallery = examine(sent(tmp_path, content, "clip.mp4"), *DEFAULTS)
    single = [item for item in saved(page)["evidence"] if len(item["timelines"]) == 1]
    assert page.count('<figure class="df-timeline">') == len(single) >= 1
    assert "data:image" not in page
    second = next(h["second"] for item in saved(page)["evidence"] for h in item["heatmaps"])
    assert gallery["visible"]
    pixels, captions = zip(*gallery["value"], strict=True)
    assert {tile.shape for tile in pixels} == {(64, 96, 3)}
    assert f"0:{second:04.1f}" in [caption.partition(" ")[0] for caption in captions]
    assert all("frames 0." in caption for caption in captions)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_leaves_the_gallery_away(examine: Examine, tmp_path: Path) -> None:
    *_, gallery = examine(sent(tmp_path, image_bytes(scene()), "a.png"), *DEFAULTS)
    assert not gallery["visible"]
    assert not gallery["value"]


def test_a_visitor_stops_only_what_is_theirs(known_detector: Detector, tmp_path: Path) -> None:
    stops = Stops()
    handler, stop = page_handler(known_detector, stops), stop_handler(stops)
    seen: list[str] = []

    def stop_at(session: str) -> Callable[..., None]:
        def progress(share: float, desc: str) -> None:
            seen.append(desc)
            if desc == "metadata":
                stop(Visitor(session))

        return progress

    def examine(progress: Callable[..., None]) -> str:
        file = sent(tmp_path, image_bytes(scene()), "a.png")
        page, drop_zone, gallery = handler(file, Visitor("mine"), progress, *DEFAULTS)
        assert drop_zone is None
        assert not gallery["visible"]
        assert list(tmp_path.iterdir()) == []
        return page

    assert "Stopped" in examine(stop_at("mine"))
    assert seen[-1] == "metadata"
    assert saved(examine(stop_at("theirs")))["kind"] == "image"
    assert seen[-1] == "done"
    assert stops._events == {}


def test_a_bad_file_gives_a_message_and_is_deleted(examine: Examine, tmp_path: Path) -> None:
    page, drop_zone, _ = examine(sent(tmp_path, b"no picture", "<script>x.jpg"), *DEFAULTS)
    assert drop_zone is None
    assert 'role="alert"' in page
    assert "unsupported" in page
    assert "<script" not in page
    assert "Traceback" not in page
    assert list(tmp_path.iterdir()) == []


def test_a_file_over_its_time_gives_a_message(known_models: Path, tmp_path: Path) -> None:
    settings = Settings(models_folder=known_models, threads=1, file_seconds=1e-6)
    with Detector(settings) as detector:
        upload = sent(tmp_path, image_bytes(scene()), "late.png")
        handler = page_handler(detector, Stops())
        page, _, _ = handler(upload, Visitor("a"), lambda share, desc: None, *DEFAULTS)
        assert 'role="alert"' in page
        assert "time limit" in page
        with pytest.raises(gr.Error, match="time limit"):
            api_handler(detector)(sent(tmp_path, wav_bytes(speech()), "a.wav"), *DEFAULTS)


def test_a_wrong_option_keeps_the_upload(examine: Examine, tmp_path: Path) -> None:
    file = sent(tmp_path, image_bytes(scene()), "a.png")
    page, drop_zone, _ = examine(file, True, True, 5, 32, 600)
    assert "Option prior 5.0: out of range" in page
    assert drop_zone is not None
    assert Path(file["path"]).exists()


def test_a_bug_gives_a_message_and_deletes_the_file(
    known_models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import gradio

    content = image_bytes(scene(BUG_PIXELS, 8))
    with Detector(Settings(models_folder=known_models), analyzers=(Faulty(),)) as detector:
        handler = page_handler(detector, Stops())
        file = sent(tmp_path, content, "<b>.png")
        page, drop_zone, _ = handler(file, Visitor("a"), lambda share, desc: None, *DEFAULTS)
        assert drop_zone is None
        assert 'role="alert"' in page
        assert "<code>internal</code>" in page
        assert "<b>.png" not in page
        with pytest.raises(gradio.Error, match="report it"):
            api_handler(detector)(sent(tmp_path, content, "a.png"), *DEFAULTS)
    assert list(tmp_path.iterdir()) == []
    assert [record.name for record in caplog.records] == ["deepfake"] * 2


def test_a_bug_in_drawing_leaves_the_report(
    examine: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("app.page.draw_pictures", draw)
    page, *_ = examine(sent(tmp_path, image_bytes(scene()), "a.png"), *DEFAULTS)
    assert saved(page)["kind"] == "image"
    assert "could not be drawn" in page


def test_no_file_gives_a_message(examine: Examine) -> None:
    page, *_ = examine(None, *DEFAULTS)
    assert "choose a file first" in page


def test_hostile_metadata_stays_text(examine: Examine, tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Software", "Midjourney <script>alert(1)</script> **bold**")
    content = image_bytes(scene(), pnginfo=info)
    page, *_ = examine(sent(tmp_path, content, "a.png"), *DEFAULTS)
    metadata = next(item for item in saved(page)["evidence"] if item["source"] == "metadata")
    assert "<script" in json.dumps(metadata)
    assert "<script" not in page
    assert "Midjourney &lt;script&gt;alert(1)&lt;/script&gt; **bold**" in page


def test_the_api_answers_json_and_deletes_too(known_detector: Detector, tmp_path: Path) -> None:
    detect = api_handler(known_detector)
    report = json.loads(detect(sent(tmp_path, wav_bytes(speech()), "a.wav"), *DEFAULTS))
    assert report["kind"] == "audio"
    assert list(tmp_path.iterdir()) == []
