"""Files to try the page with, made when they are first asked for."""

from __future__ import annotations

import functools
import io
import wave
from collections.abc import Callable
from typing import NamedTuple

import anyio.to_thread
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

Pixels = npt.NDArray[np.uint8]
PARAMETERS = (
    "a lake at dawn, film grain\nNegative prompt: blurry\n"
    "Steps: 28, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 640x448, Model: sample_model"
)
"""As Automatic1111 writes them into a picture."""


class Sample(NamedTuple):
    """A file, what to say of it and how it is made."""

    name: str
    kind: str
    label: str
    make: Callable[[], bytes]


def hills(*, seed: int = 3, width: int = 640, height: int = 448) -> Pixels:
    """A drawn row of hills under a sky, with grain: (height, width, 3)."""
    random = np.random.default_rng(seed)
    down = np.linspace(0, 1, height)[:, None, None]
    picture = (1 - down) * np.array([96.0, 138, 196]) + down * np.array([240.0, 208, 180])
    picture = np.repeat(picture, width, axis=1)
    y = np.arange(height)[:, None]
    for layer, colour in enumerate(((128, 142, 160), (88, 110, 114), (50, 70, 54))):
        ridge = _rough(random, 1, width)[0] * 120 + 50 * layer
        cover = np.clip(y - (height * 0.75 - 120 + ridge), 0, 1)[..., None]
        ground = np.array(colour) + 34 * (_rough(random, height, width)[..., None] - 0.5)
        picture = picture * (1 - cover) + ground * cover
    picture += random.normal(0, 3, picture.shape)
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def _rough(random: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float64]:
    """Noise of several scales in 0…1, (height, width)."""
    total = np.zeros((height, width))
    for scale in range(2, 8):
        grid = random.random((min(2**scale, height), 2**scale))
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / 2**scale
    total -= total.min()
    return np.asarray(total / total.max())


def plain_picture() -> bytes:
    """JPEG of drawn hills without any metadata."""
    out = io.BytesIO()
    Image.fromarray(hills()).save(out, "JPEG", quality=92)
    return out.getvalue()


def labelled_picture() -> bytes:
    """PNG of other hills that carries the parameters of a generator."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", PARAMETERS)
    out = io.BytesIO()
    Image.fromarray(hills(seed=8)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def hummed_sound(*, seconds: float = 4.0, sample_rate: int = 16_000) -> bytes:
    """WAV of a hummed melody of harmonics."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    notes = np.array([110.0, 130.8, 146.8, 123.5, 98.0, 110.0])
    pitch = np.interp(time, np.linspace(0, seconds, len(notes)), notes)
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    sound = sum(np.sin(k * phase) / k**1.4 for k in range(1, 20))
    sound = sound * np.abs(np.sin(np.pi * 2.5 * time)) ** 0.5
    samples = (0.5 * 32767 * sound / np.abs(sound).max()).astype("<i2")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.tobytes())
    return out.getvalue()


SAMPLES = (
    Sample("drawn-hills.jpg", "image/jpeg", "A drawn picture", plain_picture),
    Sample(
        "with-parameters.png", "image/png", "A picture that names its generator", labelled_picture
    ),
    Sample("hummed.wav", "audio/wav", "A hummed sound", hummed_sound),
)


@functools.cache
def make_sample(name: str) -> tuple[bytes, str] | None:
    """The content and the media type of a sample."""
    for sample in SAMPLES:
        if sample.name == name:
            return sample.make(), sample.kind
    return None


async def serve_samples(request: Request) -> Response:
    """The endpoint of the samples."""
    name = request.path_params["name"]
    if name not in {sample.name for sample in SAMPLES}:
        return PlainTextResponse("Not found", status_code=404)
    made = await anyio.to_thread.run_sync(make_sample, name)
    assert made is not None
    return Response(made[0], media_type=made[1])
