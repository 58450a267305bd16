"""The operations of the decoding child, run in this process: what they answer here is what comes
out of the child, and a debugger or a measurement of coverage can follow them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from deepfake.errors import Corrupt, MediaError, TooLarge, UnsupportedMedia
from deepfake.media.opening import open_media
from deepfake.media.worker import _OPERATIONS, find_operation
from deepfake.settings import Limits
from tests import media_files as make
from tests.decoding import Answer, run_operation

SCENE = make.scene()
SOUND = make.tone(1.0, sample_rate=48000)
PICTURES = {
    "jpeg": make.image_bytes(SCENE, "jpeg", comment=b"made here"),
    "png": make.image_bytes(SCENE),
    "webp": make.image_bytes(SCENE, "webp"),
    "avif": make.image_bytes(SCENE, "avif"),
    "tiff": make.image_bytes(SCENE, "tiff"),
    "bmp": make.image_bytes(SCENE, "bmp"),
    "gif": make.gif_bytes([SCENE]),
    "heif": make.heif_bytes(SCENE, quarter_turns=1),
}
SOUNDS = {
    "wav": make.wav_bytes(SOUND, sample_rate=48000),
    "flac": make.sound_bytes(SOUND, sample_rate=48000, format="flac", codec="flac"),
    "mp3": make.sound_bytes(SOUND, sample_rate=48000, format="mp3", codec="libmp3lame"),
    "ogg": make.sound_bytes(SOUND, sample_rate=48000, format="ogg", codec="libopus"),
    "m4a": make.sound_bytes(SOUND, sample_rate=48000, format="ipod", codec="aac"),
}
SCENES = [make.scene(seed=seed) for seed in range(25)]
VIDEOS = {
    "mp4": make.video_bytes(SCENES, sound=SOUND),
    "webm": make.video_bytes(SCENES, sound=SOUND, format="webm"),
    "mkv": make.video_bytes(SCENES, sound=SOUND, format="matroska"),
    "avi": make.video_bytes(SCENES, sound=SOUND, format="avi"),
    "mpegts": make.video_bytes(SCENES, sound=SOUND, format="mpegts"),
    "gif": make.gif_bytes(SCENES[:8]),
}
EVERY = [*PICTURES.items(), *SOUNDS.items(), *VIDEOS.items()]
BURSTS = {"most": 2, "frames": 3, "step_seconds": 0.08}


@pytest.fixture(autouse=True)
def pillow_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child lives with the limits that it set, this process must not."""
    for owner, name in (
        (Image, "MAX_IMAGE_PIXELS"),
        (ImageFile, "LOAD_TRUNCATED_IMAGES"),
        (PngImagePlugin, "MAX_TEXT_CHUNK"),
        (PngImagePlugin, "MAX_TEXT_MEMORY"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))


def run(operation: str, content: bytes, **values: Any) -> Answer:
    return run_operation(find_operation(operation), content, **values)


@pytest.mark.parametrize(("format", "content"), EVERY, ids=[name for name, _ in EVERY])
def test_what_a_file_is_and_says(format: str, content: bytes) -> None:
    answer = run("probe", content)
    with open_media(content) as media:
        facts = {name: getattr(media.info, name) for name in answer.values}
        assert answer.values == facts
        assert answer.values["format"] == format
        assert media.warnings == answer.warnings == []
        assert run("metadata", content, format=format).values["result"] == media.metadata()
        manifest = run("manifest", content, format=format, trust_anchors=None)
        assert manifest.values["result"] == media.manifest()


@pytest.mark.parametrize("format", PICTURES)
@pytest.mark.parametrize("painted", [False, True])
def test_pictures(format: str, painted: bool) -> None:
    shared = np.zeros(SCENE.size, np.uint8) if painted else None
    answer = run("image", PICTURES[format], format=format, shared=shared)
    (pixels,) = answer.arrays
    assert shared is None or np.shares_memory(pixels, shared)
    with open_media(PICTURES[format]) as media:
        np.testing.assert_array_equal(pixels, media.image())


@pytest.mark.parametrize("format", VIDEOS)
def test_frames_and_bursts(format: str) -> None:
    content = VIDEOS[format]
    frames = run("frames", content, format=format, most=6)
    bursts = run("bursts", content, format=format, spans=[], **BURSTS)
    with open_media(content) as media:
        for part, frame in zip(frames.parts, media.frames(most=6), strict=True):
            assert part.message["values"]["seconds"] == frame.seconds
            np.testing.assert_array_equal(part.array, frame.pixels)
        for part, frame in zip(bursts.parts, media.bursts(**BURSTS), strict=True):
            assert part.message["values"] == {"burst": frame.burst, "seconds": frame.seconds}
            np.testing.assert_array_equal(part.array, frame.pixels)
    assert frames.values == {"frames": len(frames.parts)}
    count = 1 + bursts.parts[-1].message["values"]["burst"]
    assert bursts.values == {"bursts": count, "limited": False}


@pytest.mark.parametrize("format", [*SOUNDS, *(name for name in VIDEOS if name != "gif")])
def test_sound(format: str) -> None:
    content = SOUNDS.get(format) or VIDEOS[format]
    answer = run("audio", content, format=format, sample_rate=16000, max_seconds=0.75)
    with open_media(content) as media:
        expected = media.audio(sample_rate=16000, max_seconds=0.75)
        assert media.warnings == answer.warnings
    np.testing.assert_array_equal(np.concatenate(answer.arrays), expected)
    assert answer.values == {"samples": len(expected)}


@pytest.mark.parametrize(
    ("operation", "content", "values", "error", "words"),
    [
        ("probe", b"words and words and words", {}, UnsupportedMedia, "the content is text"),
        ("probe", bytes(400), {}, UnsupportedMedia, "of an unknown format"),
        ("probe", PICTURES["png"][:12], {}, Corrupt, "cannot be decoded"),
        ("image", PICTURES["png"][:60], {"format": "png"}, Corrupt, "cannot be decoded"),
        ("image", PICTURES["jpeg"][:300], {"format": "jpeg"}, Corrupt, "cannot be decoded"),
        ("frames", VIDEOS["mp4"][:2000], {"format": "mp4", "most": 4}, Corrupt, "moov"),
        ("frames", VIDEOS["mkv"][:900], {"format": "mkv", "most": 4}, Corrupt, "no frame"),
        (
            "audio",
            VIDEOS["gif"],
            {"format": "gif", "sample_rate": 16000, "max_seconds": 1.0},
            Corrupt,
            "has no sound",
        ),
    ],
)
def test_what_cannot_be_read(
    operation: str, content: bytes, values: dict[str, Any], error: type[MediaError], words: str
) -> None:
    with pytest.raises(error, match=words):
        run(operation, content, **values)


@pytest.mark.parametrize(
    ("content", "limits"),
    [
        (PICTURES["png"], Limits(image_pixels=6143)),
        (VIDEOS["mp4"], Limits(frame_pixels=6143)),
        (VIDEOS["webm"], Limits(seconds=0.5)),
        (SOUNDS["wav"], Limits(seconds=0.5)),
    ],
)
def test_what_is_too_large(content: bytes, limits: Limits) -> None:
    with pytest.raises(TooLarge, match=r"Limits\."):
        run("probe", content, limits=limits)


def test_a_cut_picture_gives_what_is_there() -> None:
    answer = run("image", PICTURES["jpeg"][: len(PICTURES["jpeg"]) * 2 // 3], format="jpeg")
    (pixels,) = answer.arrays
    assert 8 < len(pixels) < len(SCENE)
    assert answer.warnings == [
        "The picture is damaged or cut off; only its readable part was looked at."
    ]


def test_every_operation_is_found_and_no_other() -> None:
    for name in _OPERATIONS:
        assert callable(find_operation(name))
    for name in ("os", "probe.__globals__", ""):
        with pytest.raises(KeyError):
            find_operation(name)


def test_the_operations_lie_in_the_package() -> None:
    package = Path(find_operation.__code__.co_filename).parent.parent
    for name in _OPERATIONS:
        assert package in Path(find_operation(name).__code__.co_filename).parents
