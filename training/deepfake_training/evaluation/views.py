"""What becomes of a file on its way to the judge, written as a file again.

Media of strangers are decoded in the confined child process, as the detector does it, and encoded
here. A view is the same for the same file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

from deepfake.errors import SettingsError
from deepfake.media.opening import Media, wav_bytes
from deepfake.preprocess import Pixels
from deepfake.types import Kind

from .. import perturb

AS_IS = "as-is"
MOST_FRAMES = 100_000
_PTS_PER_SECOND = 90_000


@dataclass(frozen=True, kw_only=True)
class View:
    """``make`` gives the content of the new file, whose name ends in ``suffix``."""

    says: str
    suffix: str
    make: Callable[[Media], bytes]


def find_views(kind: Kind, names: Sequence[str]) -> list[str]:
    """Those of ``names`` that files of a kind have, the file as it is among them."""
    return [name for name in names if name == AS_IS or name in VIEWS[kind]]


def read_names(text: str) -> list[str]:
    """The views of a comma-separated list; ``all`` stands for every one.

    Raises ``SettingsError`` for a name that no kind of file has.
    """
    known = [AS_IS, *dict.fromkeys(name for views in VIEWS.values() for name in views)]
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in (*known, "all"):
            raise SettingsError(f"view {name!r}: unknown", hint=f"known: all, {', '.join(known)}")
    return known if "all" in names else [name for name in known if name in names]


def _jpeg(pixels: Pixels, *, quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    return stream.getvalue()


def _web(media: Media) -> bytes:
    return _jpeg(perturb.limit_side(media.image(), side=768), quality=60)


def _send_picture(media: Media) -> bytes:
    sent = perturb.jpeg(perturb.limit_side(media.image(), side=1280), quality=75)
    return _jpeg(sent, quality=75)


def _screenshot(media: Media) -> bytes:
    page = cv2.cvtColor(perturb.screenshot(media.image()), cv2.COLOR_RGB2BGR)
    content: bytes = cv2.imencode(".png", page)[1].tobytes()
    return content


def _code_sound(view: str) -> Callable[[Media], bytes]:
    def make(media: Media) -> bytes:
        rate = perturb.SAMPLE_RATE
        samples = media.audio(sample_rate=rate, max_seconds=media.limits.seconds)
        coded = perturb.AUDIO_VIEWS[view](samples)
        return wav_bytes(np.clip(coded, -1, 1), sample_rate=rate)

    return make


def code_clip(
    *,
    crf: int,
    most_height: int = 1080,
    most_rate: float = 60.0,
    sound_bit_rate: int = 64_000,
    change: Callable[[Pixels], Pixels] = lambda pixels: pixels,
    speed: float = 1.0,
    tags: Mapping[str, str] | None = None,
) -> Callable[[Media], bytes]:
    """The picture as H.264, no higher and no more often than asked, the sound as AAC, mono. Every
    frame meets ``change``; a ``speed`` above 1 shows them sooner and plays the sound faster;
    ``tags`` are metadata of the container.
    """

    def make(media: Media) -> bytes:
        thinned = _thin(media, most_rate)
        frames = ((seconds / speed, change(pixels)) for seconds, pixels in thinned)
        seconds, pixels = next(frames)
        target = io.BytesIO()
        with av.open(
            target, "w", format="mp4", options={"movflags": "use_metadata_tags"} if tags else {}
        ) as sink:
            sink.metadata.update(tags or {})
            height = min(most_height, pixels.shape[0])
            width = round(pixels.shape[1] * height / pixels.shape[0])
            stream: Any = sink.add_stream("libx264", rate=Fraction(round(min(most_rate, 25))))
            stream.width, stream.height = max(2, width - width % 2), max(2, height - height % 2)
            stream.codec_context.time_base = Fraction(1, _PTS_PER_SECOND)
            stream.pix_fmt, stream.thread_count = "yuv420p", 1
            stream.options = {"crf": str(crf), "preset": "veryfast"}
            voice: Any = None
            if media.info.has_audio:
                voice = sink.add_stream("aac", rate=48_000, layout="mono")
                voice.bit_rate = sound_bit_rate
            last = -1
            while True:
                place = max(last + 1, round(seconds * _PTS_PER_SECOND))
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                small = frame.reformat(stream.width, stream.height, "yuv420p")
                small.pts, small.time_base = place, stream.codec_context.time_base
                sink.mux(stream.encode(small))
                last = place
                found = next(frames, None)
                if found is None:
                    break
                seconds, pixels = found
            sink.mux(stream.encode(None))
            if voice is not None:
                _add_sound(sink, voice, media, speed=speed)
        return target.getvalue()

    return make


def _thin(media: Media, most_rate: float) -> Iterator[tuple[float, Pixels]]:
    """The frames of a clip with their seconds, at most ``most_rate`` of them a second."""
    wanted = 0.0
    for frame in media.frames(most=MOST_FRAMES):
        if frame.seconds + 1e-6 >= wanted:
            yield frame.seconds, frame.pixels
            wanted = max(wanted + 1 / most_rate, frame.seconds)


def _add_sound(sink: Any, stream: Any, media: Media, *, speed: float) -> None:
    samples = media.audio(sample_rate=48_000, max_seconds=media.limits.seconds)
    if speed != 1:
        samples = perturb.change_speed(samples, factor=speed)
    frame = av.AudioFrame.from_ndarray(np.clip(samples, -1, 1)[None], format="flt", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
    for packet in (*stream.encode(frame), *stream.encode(None)):
        sink.mux(packet)


VIEWS: Mapping[Kind, Mapping[str, View]] = {
    Kind.IMAGE: {
        "web": View(says="long side at most 768 pixels, JPEG 60", suffix=".jpg", make=_web),
        "messenger": View(
            says="long side at most 1280 pixels, JPEG 75 twice", suffix=".jpg", make=_send_picture
        ),
        "screenshot": View(
            says="on a page of a screen 1080 pixels wide, PNG", suffix=".png", make=_screenshot
        ),
    },
    Kind.AUDIO: {
        "web": View(
            says="MP3 at 64 kbit/s, 16 kHz, mono", suffix=".wav", make=_code_sound("mp3_64k")
        ),
        "messenger": View(
            says="Opus at 16 kbit/s, mono", suffix=".wav", make=_code_sound("opus_16k")
        ),
        "telephone": View(
            says="300–3400 Hz, µ-law at 8 kHz", suffix=".wav", make=_code_sound("mulaw_8k")
        ),
    },
    Kind.VIDEO: {
        "web": View(says="H.264 at CRF 32", suffix=".mp4", make=code_clip(crf=32)),
        "messenger": View(
            says="360 lines, H.264 at CRF 40",
            suffix=".mp4",
            make=code_clip(crf=40, most_height=360),
        ),
        "12fps": View(
            says="12 frames a second, H.264 at CRF 23",
            suffix=".mp4",
            make=code_clip(crf=23, most_rate=12),
        ),
    },
}
"""The views of each kind of file beside the file as it is. Sounds are stored as WAV again after
their codec, which changes nothing that a detector hears.
"""
