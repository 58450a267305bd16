"""Progress that never falls, and examinations that end soon after they are no longer wanted."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from deepfake.detector import Detector
from deepfake.errors import Cancelled, DeepfakeError
from deepfake.media.opening import open_media
from deepfake.media.process import POOL
from deepfake.progress import Watch
from deepfake.settings import Settings
from deepfake.show import console as console_module
from deepfake.show.console import FileProgress
from deepfake.types import Evidence, Kind
from tests.media_files import image_bytes, scene, speech, video_bytes, wav_bytes

SOON_SECONDS = 1.0


@pytest.fixture(scope="module")
def long_video() -> bytes:
    """One that takes many seconds to decode in full."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 360, 640, 3), dtype=np.uint8)
    options = {"preset": "ultrafast", "tune": "zerolatency", "g": "1000"}
    return video_bytes((noise[index % 16] for index in range(400)), rate=4, options=options)


def test_steps_are_mapped_into_their_part_and_never_fall() -> None:
    seen: list[tuple[float, str]] = []
    watch = Watch(lambda share, text: seen.append((share, text)))
    watch.step("a", 0.1)
    with watch.part(0.2, 0.6):
        watch.step("b", 0.5)
        with watch.part(0.5, 1.0):
            watch.step("c", 0.5)
        watch.step("d", 0.0)
        watch.step("e", 7.0)
    watch.step("f", 0.3)
    assert [text for _, text in seen] == list("abcdef")
    assert [share for share, _ in seen] == pytest.approx([0.1, 0.4, 0.5, 0.5, 0.6, 0.6])


def test_a_cancelled_watch_raises_at_every_step() -> None:
    cancel = threading.Event()
    watch = Watch(cancel=cancel)
    watch.step("goes on", 0.5)
    cancel.set()
    for act in (watch.check, lambda: watch.step("ends", 0.6)):
        with pytest.raises(Cancelled) as caught:
            act()
        assert caught.value.code == "cancelled"


@pytest.mark.parametrize(
    "content",
    [image_bytes(scene()), wav_bytes(speech(2.0)), video_bytes([scene()] * 10)],
    ids=["image", "audio", "video"],
)
def test_a_detection_reports_progress_up_to_the_end(
    known_detector: Detector, content: bytes
) -> None:
    seen: list[tuple[float, str]] = []
    known_detector.detect(content, progress=lambda share, text: seen.append((share, text)))
    shares = [share for share, _ in seen]
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert shares == sorted(shares)
    assert {"provenance", "metadata"} <= {text for _, text in seen}
    assert len(set(shares)) >= 4


def test_cancelling_before_the_start_reads_nothing(known_detector: Detector) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        known_detector.detect("/nowhere", cancel=cancel)


@pytest.mark.parametrize("way", ["frames", "bursts"])
def test_decoding_ends_soon_and_with_it_the_child(long_video: bytes, way: str) -> None:
    cancel = threading.Event()
    with open_media(long_video, watch=Watch(cancel=cancel)) as media:
        # the last of two places lies behind everything that must be decoded first
        frames: Any = (
            media.frames(most=2)
            if way == "frames"
            else media.bursts(most=2, frames=1, step_seconds=1.0)
        )
        next(frames)
        children = [child for child in POOL._living if child not in POOL._idle]
        assert children
        threading.Timer(0.2, cancel.set).start()
        began = time.monotonic()
        with pytest.raises(Cancelled):
            list(frames)
        assert 0.1 < time.monotonic() - began < SOON_SECONDS
    assert not [child for child in children if child.process.poll() is None]


def test_closing_the_media_ends_what_still_decodes(long_video: bytes) -> None:
    media = open_media(long_video)
    frames = media.frames(most=100)
    next(frames)
    (child,) = [child for child in POOL._living if child not in POOL._idle]
    media.close()
    assert child.process.poll() is not None
    with pytest.raises(DeepfakeError, match="closed"):
        next(frames)


def test_cancelling_is_not_failed_evidence(known_models: Path, long_video: bytes) -> None:
    cancel, reached = threading.Event(), threading.Event()

    class Careless:
        """One that takes every deliberate error for failed evidence."""

        name = "careless"
        kinds = frozenset({Kind.VIDEO})

        def analyze(self, media: Any, engine: object, options: object) -> list[Evidence]:
            reached.set()
            try:
                list(media.frames(most=2))
            except DeepfakeError:
                return []
            raise AssertionError("was not stopped")

    threading.Thread(target=lambda: (reached.wait(), time.sleep(0.1), cancel.set())).start()
    settings = Settings(models_folder=known_models)
    with Detector(settings, analyzers=(Careless(),)) as detector, pytest.raises(Cancelled):
        detector.detect(long_video, cancel=cancel)


def test_ctrl_c_ends_a_detection_with_130(
    tmp_path: Path, known_models: Path, long_video: bytes
) -> None:
    path = tmp_path / "long.mp4"
    path.write_bytes(long_video)
    command = [sys.executable, "-m", "deepfake", "detect", "--models", str(known_models)]
    command += ["--max-frames", "2000", *[str(path)] * 20]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert b"long.mp4" in process.stdout.readline()
        children = wait_for(lambda: children_of(process.pid))
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert time.monotonic() - began < 5 * SOON_SECONDS
        assert process.stderr.read() == b"deepfake: stopped\n"
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def children_of(parent: int) -> list[int]:
    return [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and _parent(path) == parent
    ]


def _parent(path: Path) -> int | None:
    try:
        return int(path.joinpath("stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def wait_for(find: Callable[[], list[int]]) -> list[int]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if found := find():
            return found
        time.sleep(0.05)
    raise TimeoutError


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_comes_late_and_only_on_a_terminal(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, markup=False, width=100)
    with FileProgress("a.mp4", console) as progress:
        progress(0.1, "opening")
    assert output.getvalue() == ""
    monkeypatch.setattr(console_module, "PATIENCE_SECONDS", 0.0)
    with FileProgress("\x1b[2J[red]a.mp4", console) as progress:
        progress(0.5, "looking for faces")
    shown = output.getvalue()
    assert ("50%" in shown) is terminal
    assert ("looking for faces" in shown) is terminal
    assert "[2J[red]a.mp4" in shown or not terminal
    assert "\x1b[2J" not in shown
