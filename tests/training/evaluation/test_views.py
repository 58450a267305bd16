from __future__ import annotations

import io

import av
import cv2
import numpy as np
import pytest
from deepfake_training import perturb
from deepfake_training.evaluation.views import VIEWS, find_views, read_names

from deepfake.errors import SettingsError
from deepfake.media.opening import open_media
from deepfake.types import Kind
from tests.media_files import image_bytes, scene, speech, video_bytes, wav_bytes


def decode(content: bytes) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def test_names_are_known_and_in_order() -> None:
    assert read_names("web, as-is") == ["as-is", "web"]
    assert read_names("all")[0] == "as-is"
    assert find_views(Kind.AUDIO, read_names("all")) == ["as-is", "web", "messenger", "telephone"]
    assert find_views(Kind.IMAGE, ["screenshot", "telephone"]) == ["screenshot"]
    with pytest.raises(SettingsError, match="telegram"):
        read_names("as-is,telegram")


def test_pictures_become_the_files_that_circulate() -> None:
    pixels = scene(1500, 900)
    with open_media(image_bytes(pixels)) as media:
        made = {name: view.make(media) for name, view in VIEWS[Kind.IMAGE].items()}
        assert made["web"] == VIEWS[Kind.IMAGE]["web"].make(media)
    assert made["web"].startswith(b"\xff\xd8")
    web = decode(made["web"])
    assert web.shape == (461, 768, 3)
    assert np.abs(web.astype(int) - perturb.web(pixels)).mean() < 1.0
    assert decode(made["messenger"]).shape == (768, 1280, 3)
    page = decode(made["screenshot"])
    assert page.shape[1] == 1080
    shown = page[120 : 120 + 648]
    small = cv2.resize(pixels, (1080, 648), interpolation=cv2.INTER_LINEAR)
    assert np.abs(shown.astype(int) - small).mean() < 1.0


def test_sounds_keep_their_length_and_lose_their_band() -> None:
    with open_media(wav_bytes(speech(1.5, sample_rate=16000), sample_rate=16000)) as media:
        for name, view in VIEWS[Kind.AUDIO].items():
            with open_media(view.make(media)) as coded:
                samples = coded.audio(sample_rate=16000, max_seconds=60)
            assert len(samples) == pytest.approx(24000, abs=2), name
            if name == "telephone":
                power = np.abs(np.fft.rfft(samples)) ** 2
                assert power[6750:].sum() < 1e-3 * power.sum()  # above 4.5 kHz


def test_clips_are_coded_again_with_their_sound() -> None:
    frames = [scene(96, 640, seed=index) for index in range(20)]
    content = video_bytes(frames, rate=25, sound=speech(0.8, sample_rate=48000))
    with open_media(content) as media:
        made = {name: view.make(media) for name, view in VIEWS[Kind.VIDEO].items()}
    facts = {}
    for name, coded in made.items():
        with av.open(io.BytesIO(coded)) as container:
            stream = container.streams.video[0]
            assert container.streams.audio, name
            facts[name] = (stream.height, sum(1 for _ in container.decode(stream)))
    assert facts == {"web": (640, 20), "messenger": (360, 20), "12fps": (640, 10)}
    assert len(made["messenger"]) < len(made["web"]) < len(made["12fps"])
