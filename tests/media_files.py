"""Small real media made on the spot, for every test that needs some."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from examples.samples import speech as synthesise

Pixels = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]

VIDEO_CODECS = {
    "mp4": ("libx264", "aac"),
    "mov": ("libx264", "aac"),
    "webm": ("libvpx", "libopus"),
    "matroska": ("libx264", "flac"),
    "avi": ("mpeg4", "mp3"),
    "mpegts": ("libx264", "aac"),
}


def scene(width: int = 96, height: int = 64, *, seed: int = 0, noise: float = 4.0) -> Pixels:
    """A photograph-like picture: smooth shapes, edges and sensor noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    base = np.stack([x / max(1, width - 1), y / max(1, height - 1), 1 - x / max(1, width)], axis=2)
    for _ in range(4):
        cx, cy = rng.uniform(0, width), rng.uniform(0, height)
        radius = rng.uniform(0.1, 0.3) * min(width, height)
        inside = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
        base[inside] = base[inside] * 0.4 + rng.uniform(0, 0.6, 3)
    pixels = 255 * base + rng.normal(0, noise, base.shape)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def quadrants(width: int = 64, height: int = 48) -> Pixels:
    """Red, green / blue, white from the top left: shows turns, mirrors and colours at a glance."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 255, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    pixels[height // 2 :, width // 2 :] = (255, 255, 255)
    return pixels


def image_bytes(image: Pixels | Image.Image, format: str = "png", **options: Any) -> bytes:
    """A picture as a file; ``options`` go to Pillow's writer."""
    made = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    made.save(buffer, format, **options)
    return buffer.getvalue()


def gif_bytes(frames: Sequence[Pixels], *, milliseconds: int | list[int] = 100) -> bytes:
    """A GIF, animated when there is more than one frame."""
    first, *rest = [Image.fromarray(frame).quantize(64) for frame in frames]
    return image_bytes(
        first, "gif", save_all=True, append_images=rest, duration=milliseconds, loop=0
    )


def speech(seconds: float = 4.0, *, sample_rate: int = 16_000, seed: int = 2) -> Samples:
    """That of the examples, synthesised once a process: it takes longer than to judge it."""
    return _speech(seconds, sample_rate, seed).copy()


@cache
def _speech(seconds: float, sample_rate: int, seed: int) -> Samples:
    return synthesise(seconds, sample_rate=sample_rate, seed=seed)


def tone(
    seconds: float = 1.0, *, sample_rate: int = 16000, hertz: float = 440.0, level: float = 0.5
) -> Samples:
    """A sine (samples,)."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    return (level * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def wav_bytes(samples: npt.NDArray[Any], *, sample_rate: int = 16000) -> bytes:
    """16-bit WAV of float samples in -1…1, (samples,) or (samples, channels)."""
    table = samples if samples.ndim == 2 else samples[:, None]
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(table.shape[1])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.rint(np.clip(table, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def float_wav_bytes(samples: npt.NDArray[Any], *, sample_rate: int = 16000) -> bytes:
    """32-bit floating-point WAV, which may hold anything, such as samples that are not numbers."""
    data = samples.astype("<f4").tobytes()
    form = (
        np.array([3, 1], "<u2").tobytes()
        + np.array([sample_rate, 4 * sample_rate], "<u4").tobytes()
    )
    form += np.array([4, 32], "<u2").tobytes()
    body = b"WAVEfmt " + len(form).to_bytes(4, "little") + form
    body += b"data" + len(data).to_bytes(4, "little") + data
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def sound_bytes(
    samples: npt.NDArray[Any],
    *,
    sample_rate: int = 16000,
    format: str = "wav",
    codec: str = "pcm_s16le",
    metadata: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> bytes:
    """Sound in any FFmpeg container, such as ("mp3", "libmp3lame") or ("ipod", "aac")."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
        container.metadata.update(metadata or {})
        layout = sound_frame(samples[:0], sample_rate).layout
        stream = container.add_stream(codec, rate=sample_rate, layout=layout, options=options)
        _write_sound(container, stream, samples, sample_rate)
    return buffer.getvalue()


def video_bytes(
    frames: Iterable[Pixels],
    *,
    rate: int = 25,
    format: str = "mp4",
    codec: str | None = None,
    seconds: Sequence[float] | None = None,
    sound: Samples | None = None,
    sample_rate: int = 48000,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
) -> bytes:
    """A video. ``seconds`` gives frames their own times (variable frame rate)."""
    picture_codec, sound_codec = VIDEO_CODECS[format]
    iterator = iter(frames)
    first = next(iterator)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format, options=container_options or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec or picture_codec, rate=rate, options=options or {})
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000 if seconds else rate)
        if rotation:
            stream.set_display_rotation(rotation)
        voice = None
        if sound is not None:
            voice = container.add_stream(sound_codec, rate=sample_rate, layout="mono")
        for index, pixels in enumerate(_chain(first, iterator)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = round(1000 * seconds[index]) if seconds else index
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice is not None and sound is not None:
            _write_sound(container, voice, sound, sample_rate)
    return buffer.getvalue()


def tracks_bytes(*, default: int, format: str = "matroska") -> bytes:
    """Two pictures, 64 and 96 pixels wide, and two sounds; ``default`` is the number of each that
    players choose.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
        pictures = [container.add_stream("libx264", rate=25) for _ in range(2)]
        voices = [container.add_stream("aac", rate=48000, layout="mono") for _ in range(2)]
        for pair in (pictures, voices):
            pair[1 - default].disposition = av.stream.Disposition(0)
            pair[default].disposition = av.stream.Disposition.default
        for stream, width in zip(pictures, (64, 96), strict=True):
            stream.width, stream.height, stream.pix_fmt = width, 64, "yuv420p"
        for stream in pictures:
            for index in range(10):
                pixels = scene(stream.width, seed=index % 4)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts = index
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        for voice in voices:
            _write_sound(container, voice, tone(0.4, sample_rate=48000), 48000)
    return buffer.getvalue()


def _chain(first: Pixels, rest: Iterable[Pixels]) -> Iterable[Pixels]:
    yield first
    yield from rest


def _write_sound(container: Any, stream: Any, samples: npt.NDArray[Any], sample_rate: int) -> None:
    container.mux(stream.encode(sound_frame(samples, sample_rate)))
    container.mux(stream.encode(None))


def sound_frame(samples: npt.NDArray[Any], sample_rate: int) -> Any:
    """Float samples, (samples,) or (samples, channels), as one frame for an encoder."""
    channels = samples.shape[1] if samples.ndim == 2 else 1
    layout = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
    packed = np.ascontiguousarray(samples.reshape(1, -1), dtype=np.float32)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, Fraction(1, sample_rate)
    return frame


def heif_bytes(pixels: Pixels, *, quarter_turns: int = 0) -> bytes:
    """A HEIC picture (ISO/IEC 23008-12), to be turned counter-clockwise when shown."""
    height, width = pixels.shape[:2]
    options = {
        "x265-params": "log-level=none:keyint=1:range=full:colormatrix=smpte170m",
        "crf": "4",
    }
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx265", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.codec_tag = "hvc1"
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format="yuv420p", dst_colorspace="ITU601", dst_color_range="JPEG"
        )
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    movie = buffer.getvalue()
    configuration, sample = _find_box(movie, b"hvcC"), _find_box(movie, b"mdat")

    def number(value: int, size: int = 4) -> bytes:
        return value.to_bytes(size, "big")

    brands = _box(b"ftyp", b"heic", number(0), b"mif1heic")
    properties = [_box(b"hvcC", configuration), _full_box(b"ispe", number(width), number(height))]
    if quarter_turns:
        properties.append(_box(b"irot", number(quarter_turns, 1)))
    links = b"".join(number(0x80 | index + 1, 1) for index in range(len(properties)))
    association = number(1) + number(1, 2) + number(len(properties), 1) + links

    def meta(offset: int) -> bytes:
        item = _full_box(b"infe", number(1, 2), number(0, 2), b"hvc1\0", version=2)
        place = number(0x4400, 2) + number(1, 2) + number(1, 2) + number(0, 2) + number(1, 2)
        return _full_box(
            b"meta",
            _full_box(b"hdlr", number(0), b"pict", bytes(13)),
            _full_box(b"pitm", number(1, 2)),
            _full_box(b"iinf", number(1, 2), item),
            _box(b"iprp", _box(b"ipco", *properties), _full_box(b"ipma", association)),
            _full_box(b"iloc", place, number(offset), number(len(sample))),
        )

    offset = len(brands) + len(meta(0)) + 8
    return brands + meta(offset) + _box(b"mdat", sample)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return (8 + len(body)).to_bytes(4, "big") + kind + body


def _full_box(kind: bytes, *parts: bytes, version: int = 0) -> bytes:
    return _box(kind, bytes([version, 0, 0, 0]), *parts)


def _find_box(data: bytes, kind: bytes) -> bytes:
    at = data.index(kind)
    return data[at + 4 : at - 4 + int.from_bytes(data[at - 4 : at], "big")]
