"""Training reads its material by readers of its own, outside the decoding child: what they give
must be what a detector is given in use, and where it is not, that is named here.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from deepfake_training.audio.recordings import read_samples
from deepfake_training.face.data import read_clip
from deepfake_training.finder.labels import read_frames
from deepfake_training.image.data import decode
from deepfake_training.video.footage import read_moments
from PIL import Image

from deepfake.media.opening import open_media
from deepfake.preprocess import Pixels
from tests import media_files as make

SCENE = make.scene(101, 67)


def in_use(content: bytes) -> Pixels:
    with open_media(content) as media:
        return media.image()


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("jpeg", {"quality": 90}),
        ("jpeg", {"quality": 75, "subsampling": "4:2:0"}),
        ("jpeg", {"quality": 60, "subsampling": "4:4:4", "progressive": True}),
        ("png", {}),
        ("webp", {"quality": 80}),
        ("webp", {"lossless": True}),
    ],
)
def test_pictures_have_the_same_pixels(format: str, options: dict[str, object]) -> None:
    content = make.image_bytes(SCENE, format, **options)
    np.testing.assert_array_equal(decode(content)[0], in_use(content))


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK"])
def test_pictures_of_other_modes_too(mode: str) -> None:
    format = "tiff" if mode == "CMYK" else "png"
    content = make.image_bytes(Image.fromarray(SCENE).convert(mode), format)
    np.testing.assert_array_equal(decode(content)[0], in_use(content))


def turned() -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return make.image_bytes(SCENE, "jpeg", exif=exif)


def transparent() -> bytes:
    alpha = np.full((*SCENE.shape[:2], 1), 128, np.uint8)
    return make.image_bytes(np.concatenate([SCENE, alpha], axis=2))


def deep() -> bytes:
    levels = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    return make.image_bytes(Image.fromarray(levels))


@pytest.mark.parametrize(
    ("content", "mended"),
    [
        pytest.param(turned(), lambda pixels: np.rot90(pixels, -1), id="not turned upright"),
        pytest.param(
            transparent(),
            lambda pixels: np.rint(pixels * (128 / 255) + 255 * (127 / 255)),
            id="transparency dropped, not laid on white",
        ),
    ],
)
def test_pictures_that_training_reads_as_they_are_stored(
    content: bytes, mended: Callable[[Pixels], Pixels]
) -> None:
    """Meant: a turn moves no trace, and the material holds almost no such files. A reader that
    changes what it gives here must change it for the shipped detectors' calibration too.
    """
    stored, seen = decode(content)[0], in_use(content)
    assert stored.shape[:2] == SCENE.shape[:2]
    assert not np.array_equal(stored, seen)
    assert np.abs(mended(stored).astype(int) - seen).max() <= 1


def test_sixteen_bits_are_cut_in_training_and_scaled_in_use() -> None:
    """Known: no file of the material has more than eight bits."""
    stored, seen = decode(deep())[0], in_use(deep())
    assert seen[0, 0, 0] == 0
    assert seen[-1, -1, 0] == 255
    assert not np.array_equal(stored, seen)


def write(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("format", "codec", "rate"),
    [
        ("wav", "pcm_s16le", 16000),
        ("flac", "flac", 16000),
        ("wav", "pcm_s16le", 44100),
        ("flac", "flac", 48000),
        ("wav", "pcm_f32le", 22050),
        ("ogg", "libopus", 48000),
    ],
)
def test_sound_has_the_same_samples(tmp_path: Path, format: str, codec: str, rate: int) -> None:
    """Training keeps 16 bits: two roundings apart at most."""
    samples = make.tone(1.0, sample_rate=rate, hertz=700, level=0.4)
    content = make.sound_bytes(samples, sample_rate=rate, format=format, codec=codec)
    stored = read_samples(write(tmp_path, content)).astype(np.float32) / np.float32(32768)
    with open_media(content) as media:
        seen = media.audio(sample_rate=16000, max_seconds=10)
    assert abs(len(stored) - len(seen)) <= 1
    shared = min(len(stored), len(seen))
    assert np.abs(stored[:shared] - seen[:shared]).max() <= 2 / 32768


def test_stereo_differs_by_a_gain_at_most(tmp_path: Path) -> None:
    """Meant: windows are brought to one level before a network hears them."""
    both = np.stack([make.tone(0.5, hertz=300), make.tone(0.5, hertz=900, level=0.2)], axis=1)
    content = make.wav_bytes(both)
    stored = read_samples(write(tmp_path, content)).astype(np.float64)
    with open_media(content) as media:
        seen = media.audio(sample_rate=16000, max_seconds=10).astype(np.float64)
    gain = float(stored @ seen / (seen @ seen))
    assert np.abs(stored - gain * seen).max() <= 2e-4 * np.abs(stored).max()


FRAMES = [make.scene(64, 48, seed=seed) for seed in range(20)]


def hd_without_a_matrix() -> bytes:
    """Of 720 lines and tagged with no colour matrix: BT.709, as players assume."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 720, "yuv420p"
        for seed in range(3):
            pixels = make.scene(64, 720, seed=seed)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


VIDEOS = {
    "mp4": lambda: make.video_bytes(FRAMES),
    "webm": lambda: make.video_bytes(FRAMES, format="webm"),
    "turned": lambda: make.video_bytes(FRAMES, rotation=90),
    "hd": hd_without_a_matrix,
}


@pytest.mark.parametrize("kind", VIDEOS)
def test_frames_have_the_same_pixels(tmp_path: Path, kind: str) -> None:
    content = VIDEOS[kind]()
    with open_media(content) as media:
        seen = [frame.pixels for frame in media.frames(most=99)]
    count = len(seen)
    path = write(tmp_path, content)
    by_reader = {
        "face": [pixels for _, pixels in read_clip(str(path), frames=range(count))],
        "finder": list(read_frames(path, count=count)),
        "video": read_moments(content, step_seconds=0.04, most_seconds=count * 0.04 - 0.06),
    }
    for name, stored in by_reader.items():
        assert len(stored) >= count - 1, name
        for pixels, expected in zip(stored, seen, strict=False):
            np.testing.assert_array_equal(pixels, expected, err_msg=name)
