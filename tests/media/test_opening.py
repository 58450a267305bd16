"""What is read out of sound files, pictures and videos, by pixel and sample values."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from deepfake.errors import MediaError, SettingsError, TooLarge, UnsupportedMedia
from deepfake.media.opening import open_media
from deepfake.settings import Limits
from deepfake.types import Kind
from tests import media_files as make

TRANSPARENT = "The picture is partly transparent; it was laid on white."
CORNERS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]


def corners(pixels: Any) -> list[tuple[int, ...]]:
    """The colours near the four corners, row by row."""
    height, width = pixels.shape[:2]
    places = [(y, x) for y in (6, height - 7) for x in (6, width - 7)]
    return [tuple(int(value) for value in pixels[place]) for place in places]


def assert_corners(pixels: Any, expected: list[tuple[int, ...]], *, within: int = 4) -> None:
    assert np.abs(np.subtract(corners(pixels), expected)).max() <= within, corners(pixels)


@pytest.mark.parametrize(
    "format", ["jpeg", "png", "webp", "avif", "gif", "tiff", "bmp"], ids=lambda word: word
)
def test_image_formats(format: str) -> None:
    options = {"quality": 95} if format in ("jpeg", "webp", "avif") else {}
    content = make.image_bytes(make.quadrants(), format, **options)
    with open_media(content) as media:
        assert media.info.kind is Kind.IMAGE
        assert media.info.format == format
        assert (media.info.width, media.info.height) == (64, 48)
        assert media.info.sha256 == hashlib.sha256(content).hexdigest()
        assert media.info.bytes == len(content)
        assert media.image().dtype == np.uint8
        assert media.image() is media.image()
        assert_corners(media.image(), CORNERS)
        assert media.warnings == []


@pytest.mark.parametrize(
    ("format", "codec", "rate", "word"),
    [
        ("wav", "pcm_s16le", 16000, "wav"),
        ("wav", "pcm_u8", 8000, "wav"),
        ("wav", "pcm_s24le", 44100, "wav"),
        ("wav", "pcm_f64le", 48000, "wav"),
        ("flac", "flac", 22050, "flac"),
        ("mp3", "libmp3lame", 44100, "mp3"),
        ("ogg", "libopus", 48000, "ogg"),
        ("ogg", "flac", 16000, "ogg"),
        ("ipod", "aac", 44100, "m4a"),
        ("mp4", "aac", 44100, "m4a"),
        ("adts", "aac", 44100, "aac"),
        ("webm", "libopus", 48000, "webm"),
        ("matroska", "pcm_s16be", 16000, "mkv"),
    ],
)
def test_sound_formats(format: str, codec: str, rate: int, word: str) -> None:
    samples = make.tone(2.0, sample_rate=rate, hertz=500)
    content = make.sound_bytes(samples, sample_rate=rate, format=format, codec=codec)
    with open_media(content) as media:
        info = media.info
        assert (info.kind, info.format) == (Kind.AUDIO, word)
        assert (info.sample_rate, info.has_audio) == (rate, True)
        assert info.seconds == pytest.approx(2.0, abs=0.05)
        sound = media.audio(sample_rate=16000, max_seconds=60)
        assert media.warnings == []
    assert sound.dtype == np.float32
    assert len(sound) == pytest.approx(32000, abs=1000)
    middle = sound[8000:24000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert int(spectrum.argmax()) == pytest.approx(500, abs=1)
    assert float(np.sqrt(2 * np.mean(middle**2))) == pytest.approx(0.5, abs=0.04)


def test_sound_of_lossless_files_is_exact() -> None:
    samples = make.speech(1.0)
    with open_media(make.wav_bytes(samples)) as media:
        sound = media.audio(sample_rate=16000, max_seconds=10)
    assert np.abs(sound - samples).max() < 2 / 32767


def test_stereo_becomes_the_mean() -> None:
    left, right = make.tone(0.5, hertz=300), make.tone(0.5, hertz=300, level=0.1)
    with open_media(make.wav_bytes(np.stack([left, right], axis=1))) as media:
        sound = media.audio(sample_rate=16000, max_seconds=10)
    assert np.abs(sound - (left + right) / 2).max() < 1e-3


@pytest.mark.parametrize(
    ("channels", "format", "codec", "options"),
    [
        (12, "mov", "pcm_s16le", {}),
        (24, "matroska", "pcm_f32le", {}),
        (12, "matroska", "libopus", {"mapping_family": "255"}),
        (64, "mov", "pcm_s16le", {}),
    ],
)
def test_more_channels_than_a_frame_has_planes_for(
    channels: int, format: str, codec: str, options: dict[str, str]
) -> None:
    table = np.tile(make.tone(1.0, sample_rate=48000)[:, None], (1, channels))
    content = make.sound_bytes(
        table, sample_rate=48000, format=format, codec=codec, options=options
    )
    with open_media(content) as media:
        sound = media.audio(sample_rate=48000, max_seconds=10)
        assert media.warnings == []
    assert np.abs(sound[4800:43200]).max() == pytest.approx(0.5, abs=0.02)


def test_samples_that_are_no_numbers_are_mended_in_every_channel() -> None:
    table = np.tile(make.tone(1.0)[:, None], (1, 12))
    table[100:200, 11] = np.nan
    with open_media(make.sound_bytes(table, format="matroska", codec="pcm_f32le")) as media:
        sound = media.audio(sample_rate=16000, max_seconds=10)
        assert "not numbers" in media.warnings[0]
    assert np.abs(sound[100:200] - table[100:200, 0] * 11 / 12).max() < 1e-6


def test_the_number_of_channels_is_bounded() -> None:
    content = make.wav_bytes(np.zeros((100, 65)))
    with open_media(content) as media, pytest.raises(UnsupportedMedia, match="65 channels"):
        media.audio(sample_rate=16000, max_seconds=10)


def test_channels_of_opposite_sign_hide_no_voice() -> None:
    hidden, heard = make.speech(2.0), make.tone(2.0, level=0.02)
    table = np.stack([heard + hidden, heard - hidden], axis=1)
    sources: list[Any] = [make.wav_bytes(table), table]
    for source in sources:
        rate = 16000 if isinstance(source, np.ndarray) else None
        with open_media(source, sample_rate=rate) as media:
            sound = media.audio(sample_rate=16000, max_seconds=10)
            assert [text for text in media.warnings if "cancel each other" in text]
        assert np.corrcoef(sound, hidden)[0, 1] ** 2 > 0.9


def test_mp3_with_tags_and_without() -> None:
    samples = make.tone(1.0, sample_rate=44100)
    options = {"sample_rate": 44100, "format": "mp3", "codec": "libmp3lame"}
    tagged = make.sound_bytes(samples, metadata={"title": "x" * 70_000}, **options)
    assert tagged.startswith(b"ID3")
    bare = tagged[tagged.index(b"\xff\xfb") :]
    for content in (tagged, bare, bytes(1000) + bare, bare[100:]):
        with open_media(content) as media:
            assert media.info.format == "mp3"
            assert len(media.audio(sample_rate=8000, max_seconds=5)) > 7900


def test_sound_longer_than_asked_for() -> None:
    with open_media(make.wav_bytes(make.tone(3.0))) as media:
        assert len(media.audio(sample_rate=8000, max_seconds=1.5)) == 12000
        assert media.warnings == ["Only the first 1.5 seconds of the sound were looked at."]
        assert len(media.audio(sample_rate=8000, max_seconds=3)) == 24000
        assert len(media.warnings) == 1


@pytest.mark.parametrize("format", list(make.VIDEO_CODECS))
def test_video_formats(format: str) -> None:
    frames = [make.quadrants(96, 64)] * 50
    sound = make.tone(2.0, sample_rate=48000)
    with open_media(make.video_bytes(frames, format=format, sound=sound)) as media:
        info = media.info
        assert info.kind is Kind.VIDEO
        assert info.format == {"matroska": "mkv"}.get(format, format)
        assert (info.width, info.height, info.has_audio) == (96, 64, True)
        assert (info.frame_rate, info.sample_rate) == (25.0, 48000)
        assert info.seconds == pytest.approx(2.0, abs=0.1)
        taken = list(media.frames(most=8))
        assert len(media.audio(sample_rate=16000, max_seconds=10)) == pytest.approx(32000, abs=900)
        assert media.warnings == []
    times = [frame.seconds for frame in taken]
    assert len(times) == 8
    assert times[0] == 0.0
    assert np.allclose(np.diff(times), 0.25, atol=0.06)
    for frame in taken:
        assert_corners(frame.pixels, CORNERS, within=12)


def test_fewer_frames_than_asked_for_gives_all() -> None:
    with open_media(make.video_bytes([make.scene()] * 7)) as media:
        times = [frame.seconds for frame in media.frames(most=100)]
    assert times == pytest.approx([index / 25 for index in range(7)])


@pytest.mark.parametrize("format", ["mp4", "matroska"])
def test_variable_frame_rate_keeps_times(format: str) -> None:
    seconds = [0.0, 0.1, 0.2, 0.3, 1.0, 1.1, 3.0, 3.04, 3.08, 4.0]
    frames = [np.full((48, 64, 3), 20 * index, np.uint8) for index in range(10)]
    with open_media(make.video_bytes(frames, format=format, seconds=seconds)) as media:
        taken = list(media.frames(most=4))
        every = list(media.frames(most=1000))
    assert [frame.seconds for frame in taken] == pytest.approx([0.0, 1.1, 3.0, 3.04])
    assert [frame.seconds for frame in every] == pytest.approx(seconds)
    for index, frame in enumerate(every):
        assert float(frame.pixels.mean()) == pytest.approx(20 * index, abs=3)


def test_long_videos_are_sampled_from_key_frames_that_lie_close_enough() -> None:
    scenes = [make.scene(32, 32, seed=seed) for seed in range(8)]
    for interval, step in ((25, 1.0), (250, 0.04)):
        options = {"preset": "ultrafast", "g": str(interval), "keyint_min": str(interval)}
        movie = make.video_bytes((scenes[i // 50 % 8] for i in range(1600)), options=options)
        with open_media(movie) as media:
            frames = list(media.frames(most=20))
            assert media.warnings == []
        assert len(frames) == 20
        for index, frame in enumerate(frames):
            assert -0.001 < frame.seconds - index * 3.2 < step + 0.001
            assert frame.seconds % step == pytest.approx(0, abs=1e-6) or step < 1
            scene = scenes[round(frame.seconds * 25) // 50 % 8]
            assert np.abs(frame.pixels.astype(int) - scene).mean() < 12


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_video_rotation(rotation: int) -> None:
    content = make.video_bytes([make.quadrants()] * 5, rotation=rotation)
    upright = np.rot90(make.quadrants(), rotation // 90)
    with open_media(content) as media:
        (frame,) = media.frames(most=1)
        assert frame.pixels.shape == upright.shape
        assert (media.info.height, media.info.width) == upright.shape[:2]
    assert np.abs(np.subtract(corners(frame.pixels), corners(upright))).max() < 12


def test_unknown_duration_is_measured() -> None:
    options = {"live": "1"}
    content = make.video_bytes([make.scene()] * 50, format="webm", container_options=options)
    with open_media(content) as media:
        assert media.info.seconds == pytest.approx(2.0, abs=0.1)
        times = [frame.seconds for frame in media.frames(most=5)]
    assert times == pytest.approx([0.0, 0.4, 0.8, 1.2, 1.6], abs=0.041)


def test_animated_gif_is_a_video_and_single_is_a_picture() -> None:
    frames = [make.scene(seed=seed) for seed in range(12)]
    with open_media(make.gif_bytes(frames, milliseconds=[50] * 6 + [200] * 6)) as media:
        assert (media.info.kind, media.info.has_audio) == (Kind.VIDEO, False)
        assert media.info.seconds == pytest.approx(1.5, abs=0.01)
        times = [frame.seconds for frame in media.frames(most=100)]
        assert times[:8] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5])
        with pytest.raises(MediaError) as caught:
            media.image()
        assert caught.value.code == "wrong_kind"
    with open_media(make.gif_bytes(frames[:1])) as media:
        assert media.info.kind is Kind.IMAGE
        assert media.image().shape == (64, 96, 3)


def test_hd_without_a_colour_matrix_is_bt709() -> None:
    """A saturated green differs by tens of levels between the two matrices."""
    green = np.zeros((720, 64, 3), np.uint8)
    green[..., 1] = 255
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 720, "yuv420p"
        frame = av.VideoFrame.from_ndarray(green, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.colorspace = 2
        for index in range(3):
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_media(buffer.getvalue()) as media:
        (first,) = media.frames(most=1)
    assert np.abs(first.pixels[300, 30].astype(int) - (0, 255, 0)).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    turned = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: np.rot90(p, 2),
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: np.rot90(p, 2).swapaxes(0, 1),
        8: lambda p: np.rot90(p, -1),
    }
    stored = np.ascontiguousarray(turned[orientation](make.quadrants()))
    for format in ("png", "tiff", "avif", "webp"):
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"lossless": True} if format == "webp" else {}
        content = make.image_bytes(stored, format, exif=exif, **options)
        with open_media(content) as media:
            assert (media.info.width, media.info.height) == (64, 48), format
            assert_corners(media.image(), CORNERS)


@pytest.mark.parametrize("quarter_turns", [0, 1])
def test_heif(quarter_turns: int) -> None:
    content = make.heif_bytes(make.quadrants(), quarter_turns=quarter_turns)
    upright = np.rot90(make.quadrants(), quarter_turns)
    with open_media(content) as media:
        assert (media.info.kind, media.info.format) == (Kind.IMAGE, "heif")
        assert (media.info.height, media.info.width) == upright.shape[:2]
        assert media.image().shape == upright.shape
        assert_corners(media.image(), corners(upright), within=8)
        assert media.warnings == []


def test_alpha_is_laid_on_white_and_said_only_when_used() -> None:
    image = Image.fromarray(make.quadrants()).convert("RGBA")
    with open_media(make.image_bytes(image)) as media:
        assert_corners(media.image(), CORNERS)
        assert media.warnings == []
    image.putalpha(128)
    for mode in ("RGBA", "LA"):
        with open_media(make.image_bytes(image.convert(mode))) as media:
            assert media.image()[6, 6, 1] == pytest.approx(127 if mode == "RGBA" else 165, abs=1)
            assert media.warnings == [TRANSPARENT]


def test_transparent_colours() -> None:
    image = Image.fromarray(make.quadrants())
    with open_media(make.image_bytes(image, transparency=(255, 0, 0))) as media:
        assert_corners(media.image(), [(255, 255, 255), *CORNERS[1:]])
    palette = image.quantize(4)
    red = palette.getpixel((2, 2))
    with open_media(make.image_bytes(palette, transparency=red)) as media:
        assert_corners(media.image(), [(255, 255, 255), *CORNERS[1:]])
        assert media.warnings == [TRANSPARENT]


@pytest.mark.parametrize("format", ["jpeg", "tiff"])
def test_cmyk(format: str) -> None:
    image = Image.fromarray(make.quadrants()).convert("CMYK")
    options = {"quality": 98} if format == "jpeg" else {}
    with open_media(make.image_bytes(image, format, **options)) as media:
        assert_corners(media.image(), CORNERS, within=8)


@pytest.mark.parametrize("mode", ["P", "1", "L"])
def test_palette_bilevel_and_grey(mode: str) -> None:
    image = Image.fromarray(make.quadrants()).convert("L").convert(mode)
    with open_media(make.image_bytes(image)) as media:
        expected = np.asarray(image.convert("RGB"))
        assert (media.image() == expected).all()


@pytest.mark.parametrize("format", ["png", "tiff"])
def test_sixteen_bit_grey_is_scaled(format: str) -> None:
    deep = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    with open_media(make.image_bytes(Image.fromarray(deep), format)) as media:
        assert np.abs(media.image()[..., 1] - deep / 257).max() <= 0.5


@pytest.mark.parametrize("extension", [".png", ".tiff"])
def test_sixteen_bit_colour_is_scaled(extension: str) -> None:
    deep = make.scene().astype(np.uint16) * 257
    _, content = cv2.imencode(extension, deep[..., ::-1])
    with open_media(content.tobytes()) as media:
        assert np.abs(media.image().astype(int) - make.scene()).max() <= 1


def test_floating_point_tiff() -> None:
    values = np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(48, 64)
    values[0, 0] = np.nan
    with open_media(make.image_bytes(Image.fromarray(values), "tiff")) as media:
        assert np.abs(media.image()[..., 0] - np.nan_to_num(values) * 255).max() <= 0.5
        assert "not numbers" in media.warnings[0]


def swapped_profile() -> bytes:
    """A colour profile in which the first channel is green and the second red."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace("sRGB".encode("utf-16-be"), "Odd1".encode("utf-16-be"))
    profile = profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ")
    return profile.replace(b"????", b"gXYZ")


def test_colour_profile_is_applied() -> None:
    content = make.image_bytes(make.quadrants(), icc_profile=swapped_profile())
    with open_media(content) as media:
        assert_corners(media.image(), [CORNERS[1], CORNERS[0], *CORNERS[2:]], within=6)
        assert media.warnings == []


@pytest.mark.parametrize("profile", ["garbage", "lab"])
def test_colour_profile_that_does_not_fit_is_ignored(profile: str) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    icc = lab if profile == "lab" else b"garbage" * 100
    with open_media(make.image_bytes(make.quadrants(), icc_profile=icc)) as media:
        assert_corners(media.image(), CORNERS)
        assert "colour profile" in media.warnings[0]


@pytest.mark.parametrize("format", ["mpo", "tiff", "webp", "png"])
def test_only_the_first_of_several_pictures(format: str) -> None:
    first, second = Image.fromarray(make.quadrants()), Image.new("RGB", (64, 48))
    options = {"save_all": True, "append_images": [second], "quality": 95}
    with open_media(make.image_bytes(first, format, **options)) as media:
        assert_corners(media.image(), CORNERS, within=8)
        assert "only the first" in media.warnings[0]


def test_sources_agree(tmp_path: Path) -> None:
    content = make.image_bytes(make.scene())
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with path.open("rb") as file:
        sources = [str(path), path, content, bytearray(content), memoryview(content), file]
        opened = [open_media(source) for source in sources]
    for media in opened:
        with media:
            assert media.info == opened[0].info
            assert (media.image() == make.scene()).all()
    assert [media.name for media in opened[2:]] == ["<bytes>"] * 3 + ["<stream>"]


def test_name_of_another_format_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "photo.JPG"
    path.write_bytes(make.image_bytes(make.scene()))
    with open_media(path) as media:
        assert media.warnings == ["The name ends in .JPG, but the content is PNG."]
    with open_media(path, name="photo.unknown") as media:
        assert media.warnings == []
        assert media.name == "photo.unknown"


def test_sound_only_mp4_is_audio() -> None:
    content = make.sound_bytes(
        make.tone(1.0, sample_rate=44100), sample_rate=44100, format="mp4", codec="aac"
    )
    with open_media(content, name="voice.mp4") as media:
        assert (media.info.kind, media.info.format) == (Kind.AUDIO, "m4a")
        assert media.warnings == []
        with pytest.raises(MediaError):
            next(media.frames(most=1))


def test_the_brand_of_a_sound_hides_no_picture() -> None:
    movie = make.video_bytes([make.scene()] * 10, sound=make.tone(0.4, sample_rate=48000))
    for brand in (b"M4A ", b"M4B ", b"M4P "):
        with open_media(movie[:8] + brand + movie[12:]) as media:
            assert (media.info.kind, media.info.format) == (Kind.VIDEO, "mp4")
            assert (media.info.width, media.info.has_audio) == (96, True)
            assert len(list(media.frames(most=2))) == 2


def test_tracks_that_are_left_out_are_told() -> None:
    one = make.video_bytes([make.scene()] * 10, sound=make.tone(0.4, sample_rate=48000))
    with open_media(one) as media:
        assert (media.has_other_tracks, media.warnings) == (False, [])
    with open_media(make.tracks_bytes(default=1)) as media:
        assert media.has_other_tracks
        assert [text.split(";")[0] for text in media.warnings] == [
            "The file has 2 picture tracks",
            "The file has 2 sound tracks",
        ]
        assert media.info.width == 96


def test_array_of_pixels() -> None:
    for channels in (1, 3, 4):
        pixels = np.dstack([make.scene(), np.full((64, 96), 255, np.uint8)])[..., :channels]
        with open_media(np.squeeze(pixels)) as media:
            assert (media.info.kind, media.info.format) == (Kind.IMAGE, "array")
            assert (media.info.width, media.info.height) == (96, 64)
            assert (media.image() == pixels[..., :3]).all()
            assert media.image().shape == (64, 96, 3)
            assert media.info.sha256 == hashlib.sha256(np.squeeze(pixels).tobytes()).hexdigest()
            assert (media.metadata(), media.manifest(), media.warnings) == ({}, {}, [])


def test_array_of_samples() -> None:
    samples = np.stack([make.tone(1.0, sample_rate=32000)] * 2, axis=1).astype(np.float64)
    samples[5, 0] = np.nan
    with open_media(samples, sample_rate=32000) as media:
        assert (media.info.kind, media.info.sample_rate) == (Kind.AUDIO, 32000)
        assert media.info.seconds == 1.0
        assert "not numbers" in media.warnings[0]
        sound = media.audio(sample_rate=32000, max_seconds=9)
        assert np.abs(sound[6:] - samples[6:, 0]).max() < 1e-6
        assert len(media.audio(sample_rate=16000, max_seconds=9)) == 16000


def test_arrays_that_are_no_media() -> None:
    with pytest.raises(SettingsError, match="sample_rate"):
        open_media(make.tone())
    for array in (
        np.zeros((4, 4), np.int64),
        np.zeros((2, 2, 2), np.uint8),
        np.zeros((0, 3, 3), "u1"),
    ):
        with pytest.raises(UnsupportedMedia):
            open_media(array)
    with pytest.raises(TooLarge):
        open_media(np.zeros((100, 100, 3), np.uint8), limits=Limits(image_pixels=9999))
    with pytest.raises(SettingsError, match="cannot be opened"):
        open_media(3.5)  # type: ignore[arg-type]


def test_closing() -> None:
    media = open_media(make.image_bytes(make.scene()))
    pixels = media.image()
    media.close()
    media.close()
    assert media.image() is pixels
    with pytest.raises(SettingsError, match="closed"):
        media.metadata()


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(make.image_bytes(make.scene()))
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with open_media(good) as media:
        media.image()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with open_media(good) as media:
            media.image()
        with pytest.raises(MediaError):
            open_media(bad)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_importing_loads_no_decoder() -> None:
    code = (
        "import sys, deepfake.media.opening\n"
        "print([m for m in ('PIL', 'av', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
