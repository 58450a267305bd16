from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gradio")

import gradio as gr
from deepfake_app.examination import Examiner
from deepfake_app.limits import PageLimits
from deepfake_app.page import (
    accepted_types,
    api_handler,
    build,
    leave_handler,
    page_handler,
    render_chooser,
    stop_handler,
)
from deepfake_app.samples import SAMPLES
from deepfake_app.stops import Stops
from deepfake_app.storage import Uploads

from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.settings import DetectOptions, Limits, Settings
from deepfake.types import Evidence, Kind
from tests.app.media import DEFAULTS, sent
from tests.media_files import image_bytes, scene, speech, video_bytes, wav_bytes

Examine = Callable[..., str]


class Visitor:
    """What the handlers read of a gradio request."""

    def __init__(self, session_hash: str) -> None:
        self.session_hash = session_hash


class Broken:
    """An analyzer with a fault, which tells what it should not and tries to forge a log line."""

    name = "broken"
    kinds = frozenset(Kind)

    def analyze(self, *_: object) -> list[Evidence]:
        raise RuntimeError("/secret/place\n2026-01-01 ERROR forged \x1b[31m<script>")


class Waiting:
    """An analyzer that goes on until it is told to stop."""

    name = "waiting"
    kinds = frozenset(Kind)

    def __init__(self) -> None:
        self.begun = threading.Event()

    def analyze(self, media: Any, *_: object) -> list[Evidence]:
        self.begun.set()
        while True:
            media.watch.step("waiting", 0.5)


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path, PageLimits())


def examiner_of(detector: Detector, uploads: Uploads, **limits: Any) -> Examiner:
    return Examiner(detector=detector, uploads=uploads, limits=PageLimits(**limits))


@pytest.fixture
def examine(known_detector: Detector, uploads: Uploads) -> Examine:
    handler = page_handler(examiner_of(known_detector, uploads), Stops())

    def examine(files: list[Any] | None, *values: Any) -> str:
        *_, (pace, page) = handler(files, Visitor("a"), *values)
        assert pace == ""
        assert list(uploads.folder.iterdir()) == []
        assert uploads.bytes == 0
        return str(page)

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
    assert main(["serve", "--models", str(known_detector.settings.models_folder)]) == 2
    assert 'pip install "deepfake[app]"' in capsys.readouterr().err


def test_every_option_has_a_labelled_control(known_detector: Detector, uploads: Uploads) -> None:
    async def make() -> Any:  # within a loop gradio makes none of its own
        return build(known_detector, uploads=uploads, stops=Stops(), limits=PageLimits())

    page = asyncio.run(make())
    config = page.get_config_file()
    labels = {component["props"].get("label"): component for component in config["components"]}
    for option in fields(DetectOptions):
        control = labels[option.name.replace("_", " ").capitalize()]["props"]
        assert option.metadata["help"].lower() in control["info"].lower()
        if choices := option.metadata.get("choices"):
            assert [value for _, value in control["choices"]] == list(choices)
        elif not isinstance(option.default, bool):
            assert control["minimum"] == option.metadata["minimum"]
            assert control["maximum"] == option.metadata["maximum"]
    assert not page.analytics_enabled
    named = [it["api_name"] for it in config["dependencies"] if it["api_visibility"] == "public"]
    assert named == ["detect"]


def test_files_of_every_format_can_be_chosen_and_examples_tried() -> None:
    accepted = set(accepted_types().split(","))
    assert {".jpg", ".heic", ".wav", ".opus", ".mp4", ".webm", "image/png", "video/mp4"} <= accepted
    assert not {".pdf", ".exe", "application/pdf"} & accepted
    chooser = render_chooser(PageLimits(files=7))
    assert "multiple" in chooser
    assert "up to 7 at once" in chooser
    assert chooser.count("data-example=") == len(SAMPLES) >= 3


def test_a_picture_gives_a_report_with_its_heat_map(examine: Examine, uploads: Uploads) -> None:
    page = examine([sent(uploads, image_bytes(scene()), "<b>photo</b>.png")], *DEFAULTS)
    report = saved(page)
    assert report["kind"] == "image"
    assert report["path"] == "b>.png"
    image = next(item for item in report["evidence"] if item["source"] == "image")
    assert f"Score {image['score']:.2f}" in page
    assert page.count("data:image/jpeg;base64,") == 2
    assert "df-batch" not in page


def test_the_heat_map_can_be_left_out(examine: Examine, uploads: Uploads) -> None:
    page = examine([sent(uploads, image_bytes(scene()), "a.png")], False, *DEFAULTS[1:])
    assert "data:image" not in page
    assert saved(page)["kind"] == "image"


def test_a_recording_gives_a_timeline(examine: Examine, uploads: Uploads) -> None:
    page = examine([sent(uploads, wav_bytes(speech(3.0)), "voice.wav")], *DEFAULTS)
    audio = next(item for item in saved(page)["evidence"] if item["source"] == "audio")
    assert page.count("df-dot") == len(audio["timelines"][0]["scores"]) > 2


def test_a_video_gives_its_timelines_and_frames(examine: Examine, uploads: Uploads) -> None:
    frames = [scene(seed=number) for number in range(8)]
    content = video_bytes(frames, rate=4, sound=speech(2.0, sample_rate=48000))
    page = examine([sent(uploads, content, "clip.mp4")], *DEFAULTS)
    single = [item for item in saved(page)["evidence"] if len(item["timelines"]) == 1]
    assert page.count('<figure class="df-timeline">') == len(single) >= 1
    second = next(h["second"] for item in saved(page)["evidence"] for h in item["heatmaps"])
    captions = re.findall(r"<figcaption>(\d:\d\d\.\d[^<]*)</figcaption>", page)
    assert f"0:{second:04.1f}" in [caption.partition(" ")[0] for caption in captions]
    assert all("frames 0." in caption for caption in captions)
    assert page.count('download="frame-') == len(captions)


def test_several_files_give_a_list_that_grows(known_detector: Detector, uploads: Uploads) -> None:
    handler = page_handler(examiner_of(known_detector, uploads), Stops())
    files = [
        sent(uploads, image_bytes(scene(seed=1)), "one.png"),
        sent(uploads, b"no picture", "<i>two.jpg"),
        {"name": "three.mp4", "error": 413},
        sent(uploads, wav_bytes(speech(3.0)), "four.wav"),
    ]
    pages = [page for _, page in handler(files, Visitor("a"), *DEFAULTS) if isinstance(page, str)]
    for before, after in pairwise(pages):
        assert after.startswith(before)  # so that gradio sends only what is new
    assert [page.count('<details class="df-result') for page in pages] == [0, 1, 2, 3, 4]
    last = pages[-1]
    rows = re.findall(r"<summary>.*?df-result-word\">([^<]+).*?df-result-name\">([^<]+)<", last)
    assert [name for _, name in rows] == ["one.png", "&lt;i&gt;two.jpg", "three.mp4", "four.wav"]
    assert rows[1][0] == rows[2][0] == "Not examined"
    assert "larger than the 512 MiB" in last
    ids = re.findall(r'id="([^"]+)"', last)
    assert len(ids) == len(set(ids)) == 2
    assert list(uploads.folder.iterdir()) == []


def test_more_files_than_allowed_are_left_out_and_deleted(
    known_detector: Detector, uploads: Uploads
) -> None:
    handler = page_handler(examiner_of(known_detector, uploads, files=2), Stops())
    files = [sent(uploads, b"no picture", f"{number}.jpg") for number in range(3)]
    *_, (_, page) = handler(files, Visitor("a"), *DEFAULTS)
    assert page.count("df-result-name") == 2
    assert list(uploads.folder.iterdir()) == []


def waiting_handlers(
    known_models: Path, uploads: Uploads
) -> tuple[Waiting, Stops, Callable[..., Iterator[Any]]]:
    waiting, stops = Waiting(), Stops()
    detector = Detector(Settings(models_folder=known_models, threads=1), analyzers=(waiting,))
    return waiting, stops, page_handler(examiner_of(detector, uploads), stops)


def test_a_visitor_sees_the_pace_and_stops_only_what_is_theirs(
    known_models: Path, uploads: Uploads
) -> None:
    waiting, stops, handler = waiting_handlers(known_models, uploads)
    work = handler([sent(uploads, image_bytes(scene()), "a.png")], Visitor("mine"), *DEFAULTS)
    next(work)
    pace, page = next(work)
    assert "<progress" in pace
    assert re.search(r"\d+% · .* · \d+ s so far", pace)
    assert not isinstance(page, str)  # the results stay as they are
    assert waiting.begun.wait(10)
    stop_handler(stops)(Visitor("theirs"))  # type: ignore[arg-type]
    assert "<progress" in next(work)[0]
    stop_handler(stops)(Visitor("mine"))  # type: ignore[arg-type]
    *_, (pace, page) = work
    assert pace == ""
    assert "Stopped" in page
    assert list(uploads.folder.iterdir()) == []
    assert stops._events == {}


def test_reports_that_were_made_stay_after_a_stop(known_models: Path, uploads: Uploads) -> None:
    waiting, stops, handler = waiting_handlers(known_models, uploads)
    files = [sent(uploads, content, "a.png") for content in (b"no", image_bytes(scene()), b"no")]
    work = handler(files, Visitor("mine"), *DEFAULTS)
    for _ in work:
        if waiting.begun.is_set():
            break
    stop_handler(stops)(Visitor("mine"))  # type: ignore[arg-type]
    *_, (_, page) = work
    assert page.count("df-result-name") == 1
    assert "Stopped" in page
    assert list(uploads.folder.iterdir()) == []


def test_nothing_goes_on_for_a_visitor_who_has_left(known_models: Path, uploads: Uploads) -> None:
    _, stops, handler = waiting_handlers(known_models, uploads)
    queued = sent(uploads, b"x", "b.png")["path"]
    uploads.belong_to("mine", [queued])
    work = handler([sent(uploads, image_bytes(scene()), "a.png")], Visitor("mine"), *DEFAULTS)
    next(work)
    next(work)
    work.close()  # type: ignore[attr-defined]
    assert stops._events == {}
    leave_handler(stops, uploads)(Visitor("mine"))  # type: ignore[arg-type]
    assert list(uploads.folder.iterdir()) == []


def test_an_examination_has_an_end(known_models: Path, uploads: Uploads) -> None:
    detector = Detector(Settings(models_folder=known_models, threads=1), analyzers=(Waiting(),))
    handler = page_handler(examiner_of(detector, uploads, file_seconds=0.3), Stops())
    file = sent(uploads, image_bytes(scene()), "a.png")
    *_, (_, page) = handler([file], Visitor("a"), *DEFAULTS)
    assert "takes longer than the 0.3 seconds that the page gives a file" in page
    assert "time_limit" in page
    assert list(uploads.folder.iterdir()) == []


def test_a_bad_file_gives_a_message_and_is_deleted(examine: Examine, uploads: Uploads) -> None:
    page = examine([sent(uploads, b"no picture", "<script>x.jpg")], *DEFAULTS)
    assert 'role="alert"' in page
    assert "unsupported" in page
    assert "<script" not in page
    assert "Traceback" not in page


def test_a_large_picture_is_refused_in_the_words_of_a_visitor(
    known_models: Path, uploads: Uploads
) -> None:
    limits = Limits(image_pixels=120_000)
    detector = Detector(Settings(models_folder=known_models, threads=1, limits=limits))
    handler = page_handler(examiner_of(detector, uploads), Stops())
    file = sent(uploads, image_bytes(np.zeros((400, 500, 3), np.uint8)), "a.png")
    *_, (_, page) = handler([file], Visitor("a"), *DEFAULTS)
    assert "this picture has 0.2 megapixels (500×400), and 0.12 are taken" in page
    assert "shrink the picture" in page
    assert "Limits" not in page


def test_a_fault_is_one_sentence_and_an_entry_in_the_log(
    known_models: Path, uploads: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    detector = Detector(Settings(models_folder=known_models, threads=1), analyzers=(Broken(),))
    examiner = examiner_of(detector, uploads)
    file = sent(uploads, image_bytes(scene()), "a.png")
    with caplog.at_level(logging.ERROR, logger="deepfake"):
        *_, (_, page) = page_handler(examiner, Stops())([file], Visitor("a"), *DEFAULTS)
    found = re.search(r"number <strong>([0-9a-f]{8})</strong>", page)
    assert found
    for secret in ("RuntimeError", "secret", "Traceback", "script"):
        assert secret not in page
    logged = caplog.text
    assert f"id {found[1]}" in logged
    assert "RuntimeError" in logged
    assert "Traceback" in logged
    assert "\x1b" not in logged
    lines = caplog.records[0].getMessage().splitlines()[1:]
    assert len(lines) > 3
    assert all(line.startswith(f"{found[1]} | ") for line in lines)
    assert list(uploads.folder.iterdir()) == []

    with pytest.raises(gr.Error, match=r"in its log it has the id [0-9a-f]{8}'?$"):
        api_handler(examiner)(
            {"path": sent(uploads, image_bytes(scene()), "a.png")["path"]}, *DEFAULTS
        )
    assert list(uploads.folder.iterdir()) == []


def test_a_wrong_option_is_refused_before_anything_is_kept(
    examine: Examine, uploads: Uploads
) -> None:
    file = sent(uploads, image_bytes(scene()), "a.png")
    page = examine([file], True, True, 5, 32, 600, False, "auto")
    assert "Option prior 5.0: out of range" in page


@pytest.mark.parametrize("nothing", [None, [], ["text"], [3]])
def test_no_file_gives_a_message(examine: Examine, nothing: Any) -> None:
    assert "no_file" in examine(nothing, *DEFAULTS)


@pytest.mark.parametrize(
    ("status", "words"),
    [(413, "larger than"), (507, "no room"), (503, "no room"), (408, "too slowly"), (0, "could")],
)
def test_what_could_not_be_sent_is_said(examine: Examine, status: int, words: str) -> None:
    assert words in examine([{"name": "a.png", "error": status}], *DEFAULTS)


def test_an_upload_that_was_stopped_is_said_so(examine: Examine) -> None:
    assert "Stopped" in examine([{"name": "a.png", "error": -1}], *DEFAULTS)


def test_hostile_metadata_stays_text(examine: Examine, uploads: Uploads) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Software", "Midjourney <script>alert(1)</script> **bold**")
    content = image_bytes(scene(), pnginfo=info)
    page = examine([sent(uploads, content, "a.png")], *DEFAULTS)
    metadata = next(item for item in saved(page)["evidence"] if item["source"] == "metadata")
    assert "<script" in json.dumps(metadata)
    assert "<script" not in page
    assert "Midjourney &lt;script&gt;alert(1)&lt;/script&gt; **bold**" in page


def test_the_api_answers_json_and_deletes_too(known_detector: Detector, uploads: Uploads) -> None:
    detect = api_handler(examiner_of(known_detector, uploads))
    file = sent(uploads, wav_bytes(speech()), "a.wav")
    report = json.loads(detect({"path": file["path"], "orig_name": "a.wav"}, *DEFAULTS))
    assert report["kind"] == "audio"
    assert report["path"] == "a.wav"
    assert list(uploads.folder.iterdir()) == []
