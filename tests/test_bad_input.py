"""Hostile, damaged and unusual input: one clear error with a remedy, or a report with warnings."""

from __future__ import annotations

import contextlib
import io
import os
import random
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from deepfake.errors import Corrupt, MediaError, SettingsError, TooLarge, UnsupportedMedia
from deepfake.media.opening import open_media
from deepfake.media.process import POOL
from deepfake.media.sniff import sniff
from deepfake.settings import Limits
from deepfake.types import Kind
from tests import media_files as make

MIB = 1024**2
SMALL = Limits(decode_memory_bytes=640 * MIB)
"""Enough for the decoders themselves and small files, so that a bomb is felt."""


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100_000), 9)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        png_chunk(*part) for part in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    )


def png_with_text(size: int) -> bytes:
    content = make.image_bytes(make.scene())
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(size), 9))
    return content[:33] + text + content[33:]


def read_everything(content: bytes, *, limits: Limits = SMALL) -> list[str]:
    """Decode all of a file and give its warnings."""
    with open_media(content, limits=limits) as media:
        if media.info.kind is Kind.IMAGE:
            media.image()
        if media.info.kind is Kind.VIDEO:
            for _ in media.frames(most=16):
                pass
        if media.info.has_audio:
            media.audio(sample_rate=16000, max_seconds=60)
        return media.warnings


JPEG = make.image_bytes(make.scene(400, 300), "jpeg")
PNG = make.image_bytes(make.scene(400, 300))
WAV = make.wav_bytes(make.tone(1.0))
MOVIE = make.video_bytes(
    [make.scene(160, 120, seed=seed) for seed in range(50)],
    options={"g": "10"},
    container_options={"moov_size": "20000"},
)

UNREADABLE = {
    "empty": (b"", UnsupportedMedia, "empty"),
    "one byte": (b"\xff", UnsupportedMedia, "unknown format"),
    "random bytes": (random.Random(1).randbytes(5000), UnsupportedMedia, "unknown format"),
    "text": (b"This is not a picture at all.\n" * 9, UnsupportedMedia, "is text"),
    "pdf": (b"%PDF-1.7\n" + bytes(50), UnsupportedMedia, "PDF"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", UnsupportedMedia, "SVG"),
    "playlist": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", UnsupportedMedia, "text"),
    "jpeg header only": (JPEG[:300], Corrupt, "picture"),
    "jpeg magic only": (b"\xff\xd8\xff\xe0" + bytes(100), Corrupt, "picture"),
    "png header only": (PNG[:60], Corrupt, "picture"),
    "webp of zeros": (b"RIFF\x40\0\0\0WEBPVP8 " + bytes(50), Corrupt, "picture"),
    "heif of zeros": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), Corrupt, "picture"),
    "gif of zeros": (b"GIF89a" + bytes(30), MediaError, "picture"),
    "tiff loop": (b"II*\0\x08\0\0\0\0\0\x08\0\0\0" + bytes(20), Corrupt, "picture"),
    "mp4 without moov": (MOVIE[: MOVIE.index(b"moov") - 4] + bytes(90), Corrupt, "moov"),
    "mp4 of zeros": (b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(5000), Corrupt, "moov"),
    "mkv of zeros": (b"\x1a\x45\xdf\xa3" + bytes(5000), Corrupt, "decoded"),
    "ogg of zeros": (b"OggS" + bytes(5000), Corrupt, "decoded"),
    "flac of zeros": (b"fLaC" + bytes(5000), MediaError, "decoded"),
    "wav without data": (WAV[:36], MediaError, "file"),
    "wav without samples": (make.wav_bytes(make.tone(0.0)), Corrupt, "no samples"),
    "zero-length mp3": (b"ID3\x04\0\0\0\0\0\x0a" + bytes(10), MediaError, "file"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_content(case: str) -> None:
    content, kind, words = UNREADABLE[case]
    with pytest.raises(kind) as caught:
        read_everything(content)
    assert words in str(caught.value)
    assert str(caught.value).startswith("file <bytes>: ")
    assert caught.value.hint
    assert "\n" not in str(caught.value)


TRUNCATED = {
    "jpeg": (JPEG[: len(JPEG) // 2], "damaged or cut off"),
    "png": (PNG[: len(PNG) // 2], "damaged or cut off"),
    "wav": (WAV[: len(WAV) // 2], "ends before"),
    "mp4": (MOVIE[: len(MOVIE) * 3 // 4], "ends early"),
    "wav of 4 GB": (WAV[:40] + struct.pack("<I", 0xFFFFFFF0) + WAV[44:], "ends before"),
    "png checksum": (PNG[:-30] + bytes(4) + PNG[-26:], "damaged or cut off"),
}


@pytest.mark.parametrize("case", TRUNCATED)
def test_truncated_files_give_what_is_readable(case: str) -> None:
    content, words = TRUNCATED[case]
    warnings = read_everything(content)
    assert any(words in warning for warning in warnings), warnings


def test_truncated_picture_keeps_its_readable_rows() -> None:
    for content in (TRUNCATED["jpeg"][0], TRUNCATED["png"][0]):
        with open_media(content) as media:
            pixels = media.image()
            assert (media.info.height, media.info.width) == pixels.shape[:2]
        assert 100 < len(pixels) < 200
        difference = np.abs(pixels[:-16].astype(int) - make.scene(400, 300)[: len(pixels) - 16])
        assert difference.mean() < 6


def test_truncated_video_keeps_its_frames() -> None:
    with open_media(TRUNCATED["mp4"][0]) as media:
        frames = list(media.frames(most=50))
    assert 20 <= len(frames) < 45
    for frame in frames:
        original = make.scene(160, 120, seed=round(frame.seconds * 25))
        assert np.abs(frame.pixels.astype(int) - original).mean() < 8


def test_damage_in_the_middle_of_a_video() -> None:
    content = bytearray(MOVIE)
    middle = (len(MOVIE) + 20000) // 2
    content[middle : middle + 3000] = random.Random(2).randbytes(3000)
    with open_media(bytes(content)) as media:
        frames = list(media.frames(most=100))
        assert any("damaged" in warning for warning in media.warnings)
    assert 25 <= len(frames) < 50
    assert frames[-1].seconds > 1.8


def test_wav_that_claims_four_gigabytes() -> None:
    with open_media(TRUNCATED["wav of 4 GB"][0]) as media:
        assert media.info.seconds == pytest.approx(1.0, abs=0.01)
        assert len(media.audio(sample_rate=16000, max_seconds=600)) == 16000


def test_picture_bomb_is_refused_before_decoding() -> None:
    began = time.monotonic()
    with pytest.raises(TooLarge, match="30000×30000"):
        open_media(png_bomb(30_000, 30_000), limits=SMALL)
    assert time.monotonic() - began < 10


def test_picture_bomb_within_the_pixel_limit_meets_the_memory_limit() -> None:
    limits = Limits(decode_memory_bytes=640 * MIB, image_pixels=10**9)
    media = open_media(png_bomb(30_000, 30_000), limits=limits)
    with media, pytest.raises(TooLarge, match="640 MiB"):
        media.image()
    assert read_everything(PNG) == []


def test_frame_bomb() -> None:
    with pytest.raises(TooLarge, match="160×120"):
        open_media(MOVIE, limits=Limits(frame_pixels=160 * 120 - 1))


def test_zip_bomb_in_a_text_chunk() -> None:
    assert read_everything(png_with_text(10_000)) == []
    warnings = read_everything(png_with_text(100 * MIB))
    assert warnings == ["A text block of the picture is larger than allowed; it was left out."]


def test_many_small_text_bombs() -> None:
    content = make.image_bytes(make.scene())
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(7 * MIB), 9))
    with pytest.raises(TooLarge, match="text blocks"):
        read_everything(content[:33] + 200 * text + content[33:])


def test_gif_with_ten_thousand_frames() -> None:
    head = make.gif_bytes([make.scene(64, 48)])
    screen = 13 + 3 * 2 ** ((head[10] & 7) + 1)
    control = b"\x21\xf9\x04\x00\x02\x00\x00\x00"
    at = head.index(b"\x2c", screen)
    picture = head[at:-1]
    content = head[:screen] + (control + picture) * 10_000 + b";"
    began = time.monotonic()
    with open_media(content, limits=SMALL) as media:
        assert media.info.kind is Kind.VIDEO
        assert media.info.seconds == pytest.approx(200, abs=1)
        times = [frame.seconds for frame in media.frames(most=32)]
    assert len(times) == 32
    assert times[-1] == pytest.approx(200 * 31 / 32, abs=0.1)
    assert time.monotonic() - began < 60
    assert peak_memory_bytes() < SMALL.decode_memory_bytes


def peak_memory_bytes() -> int:
    """The most resident memory of the children that are idle now."""
    peaks = [0]
    for decoder in POOL._idle:
        status = Path(f"/proc/{decoder.process.pid}/status").read_text()
        peaks += [int(line.split()[1]) * 1024 for line in status.splitlines() if "VmHWM" in line]
    return max(peaks)


def test_memory_does_not_grow_with_the_length_of_a_video() -> None:
    def movie(count: int) -> bytes:
        pictures = [make.scene(320, 240, seed=seed) for seed in range(4)]
        return make.video_bytes(
            (pictures[index // 50 % 4] for index in range(count)), options={"preset": "ultrafast"}
        )

    peaks = []
    for count in (100, 1500):
        POOL.close()
        with open_media(movie(count)) as media:
            assert sum(1 for _ in media.frames(most=20)) == 20
        peaks.append(peak_memory_bytes())
    assert 0 < peaks[1] < peaks[0] + 16 * MIB


def test_samples_that_are_not_numbers() -> None:
    samples = make.tone(1.0)
    samples[1000:1100] = np.nan
    samples[2000], samples[3000] = np.inf, -np.inf
    for rate in (16000, 8000):
        with open_media(make.float_wav_bytes(samples)) as media:
            sound = media.audio(sample_rate=rate, max_seconds=60)
            assert "not numbers" in media.warnings[0]
        assert np.isfinite(sound).all()
        assert float(np.abs(sound).max()) < 0.8
        assert float(np.abs(sound[rate // 2 :]).max()) == pytest.approx(0.5, abs=0.02)


def test_one_pixel_picture() -> None:
    for format in ("png", "jpeg", "gif", "bmp", "tiff", "webp"):
        with open_media(make.image_bytes(np.full((1, 1, 3), 200, np.uint8), format)) as media:
            assert media.image().shape == (1, 1, 3)
            assert np.abs(media.image().astype(int) - 200).max() <= 2
            assert media.warnings == []


def test_sound_that_is_too_long_or_has_too_many_streams() -> None:
    with pytest.raises(TooLarge, match="3 seconds"):
        open_media(make.wav_bytes(make.tone(3.0)), limits=Limits(seconds=2))
    with pytest.raises(TooLarge, match="streams"):
        open_media(
            make.video_bytes([make.scene()] * 3, sound=make.tone(0.2, sample_rate=48000)),
            limits=Limits(streams=1),
        )


def test_file_size_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    limits = Limits(file_bytes=len(PNG) - 1)
    with path.open("rb") as file:
        for source in (path, PNG, file):
            with pytest.raises(TooLarge, match="bytes"):
                open_media(source, limits=limits)
    open_media(path, limits=Limits(file_bytes=len(PNG))).close()


NAMES = [
    b"new\nline.png",
    b"quote'\".png",
    b"not-utf8-\xff\xfe.png",
    b"-rf.png",
    b"--help",
    b"$(reboot);`id`.png",
    b"\x1b[31mred.png",
    "right\u202egnp.png".encode(),
    b"spa ce %s {0}.png",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_odd_file_names(name: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = os.fsdecode(name)
    Path(path).write_bytes(PNG)
    with open_media(path) as media:
        assert media.image().shape == (300, 400, 3)
        assert media.name.isprintable()
        media.name.encode("utf-8")
    Path(path).write_bytes(b"nothing")
    with pytest.raises(UnsupportedMedia) as caught:
        open_media(path)
    assert str(caught.value).isprintable()


def test_names_that_cannot_be_paths() -> None:
    for path in ("nul\0byte.png", "\ud800.png", "x" * 5000):
        with pytest.raises(MediaError) as caught:
            open_media(path)
        assert caught.value.code == "unreadable"
        assert str(caught.value).isprintable()


@pytest.fixture
def odd_places(tmp_path: Path) -> Iterator[dict[str, Path]]:
    places = {
        word: tmp_path / word for word in ("folder", "fifo", "loop", "missing", "inside", "socket")
    }
    places["folder"].mkdir()
    os.mkfifo(places["fifo"])
    places["loop"].symlink_to(places["loop"])
    (tmp_path / "file").write_bytes(PNG)
    places["inside"] = tmp_path / "file" / "x"
    places["device"] = Path("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket must be short
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
        yield places


@pytest.mark.parametrize(
    ("word", "code", "text"),
    [
        ("folder", "not_a_file", "a folder"),
        ("fifo", "not_a_file", "a named pipe"),
        ("socket", "not_a_file", "a socket"),
        ("device", "not_a_file", "a device"),
        ("loop", "unreadable", "symbolic links"),
        ("missing", "not_found", "does not exist"),
        ("inside", "not_found", "does not exist"),
    ],
)
def test_places_that_hold_no_file(
    odd_places: dict[str, Path], word: str, code: str, text: str
) -> None:
    with pytest.raises(MediaError, match=text) as caught:
        open_media(odd_places[word])
    assert caught.value.code == code
    assert caught.value.hint


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(PNG)
    path.chmod(0)
    if os.geteuid() == 0:

        def refuse(*args: object, **options: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)  # the superuser may read everything
    with pytest.raises(MediaError, match="may not be read") as caught:
        open_media(path)
    assert caught.value.code == "unreadable"


def test_file_objects_that_give_no_bytes() -> None:
    with pytest.raises(SettingsError, match="binary mode"):
        open_media(io.StringIO("text"))  # type: ignore[arg-type]
    closed = io.BytesIO(PNG)
    closed.close()
    with pytest.raises(MediaError, match="cannot be read"):
        open_media(closed)


def test_damaged_bytes_anywhere_never_escape() -> None:
    """Random damage ends in pixels, samples or a ``MediaError``, nothing else."""
    rng = random.Random(3)
    seeds = [JPEG, PNG, make.image_bytes(make.scene(), "webp"), MOVIE[:40_000], WAV]
    seeds += [
        make.image_bytes(make.scene(), "tiff"),
        make.gif_bytes([make.scene(), make.scene(seed=1)]),
        make.sound_bytes(make.tone(0.5), format="flac", codec="flac"),
    ]
    for seed in seeds:
        for _ in range(3):
            content = bytearray(seed)
            for _ in range(20):
                content[rng.randrange(len(content))] = rng.randrange(256)
            with contextlib.suppress(MediaError):
                read_everything(bytes(content))


def test_text_of_pictures_with_unreadable_metadata() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "x" * 100)
    content = bytearray(make.image_bytes(Image.fromarray(make.scene()), pnginfo=info))
    at = content.index(b"tEXt")
    content[at + 12] ^= 0xFF
    warnings = read_everything(bytes(content))
    assert len(warnings) <= 1


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"RIFF\0\0\0\0WAVEfmt ", "wav"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "wav"),
        (b"RIFF\0\0\0\0AVI LIST", "avi"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "mov"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "avif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "heif"),
        (b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42", "m4a"),
        (b"\0\0\0\x08wide\0\0\x10\0mdat", "mov"),
        (b"BM\x9a\0\0\0\0\0\0\0\x7a\0\0\0\x6c\0\0\0", "bmp"),
        (b"BMW is a car maker, not a bitmap", None),
        (b"\xff\xfb\x90\x64" + bytes(413) + b"\xff\xfb\x90\x64", "mp3"),
        (b"\xff\xfb\x90\x64" + bytes(413) + b"\0\0\0\0", None),
        (b"", None),
    ],
)
def test_sniffing(head: bytes, word: str | None) -> None:
    assert sniff(head) == word
