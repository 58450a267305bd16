"""What happens to every file of both classes alike before the head sees it.

The head never learns from a file as it is: how a file was stored (its format, its compression, its
size) would tell the classes apart wherever they were gathered differently.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import av
import numpy as np

from deepfake.media.opening import Frame
from deepfake.preprocess import Pixels

from ..perturb import AUDIO_VIEWS, PICTURE_VIEWS, draw_picture_chain

CLEAN = "clean"
LEAST_SIDE = 96
MOST_FRAMES = 720
"""Frames of a clip that a view encodes again; those of a longer one are spread over it."""


class View(NamedTuple):
    """``change`` makes it from pixels, samples or frames; None: the file as it is. The head learns
    from those that are ``learnt``; those that are ``judged`` are in the tables.
    """

    name: str
    change: Callable[[Any], Any] | None
    learnt: bool
    judged: bool


def list_views(slot: str, *, seed: int) -> list[View]:
    """The views of a slot; the clean one comes first."""
    clean = View(CLEAN, None, learnt=False, judged=True)
    if slot == "video":
        coded = {"crf_32": (32, 10_000), "crf_40_360p": (40, 360)}
        return [
            clean,
            *(
                View(n, partial(_encode, crf=c, most_height=h), True, True)
                for n, (c, h) in coded.items()
            ),
        ]
    changes = AUDIO_VIEWS if slot == "audio" else PICTURE_VIEWS
    kept = [View(n, change, True, True) for n, change in changes.items() if n != CLEAN]
    if slot == "image":
        kept += [
            View(f"history {number}", partial(_draw_history, seed=seed + number), True, False)
            for number in (1, 2)
        ]
    return [clean, *kept]


def _draw_history(pixels: Pixels, *, seed: int) -> Pixels:
    """Resizing, retouching and compression by chance, the same for the same pixels."""
    rng = np.random.default_rng((seed, zlib.crc32(np.ascontiguousarray(pixels).tobytes())))
    smallest = min(1.0, max(0.4, LEAST_SIDE / min(pixels.shape[:2])))
    return draw_picture_chain(rng, smallest=smallest)(pixels)


def _encode(frames: Iterable[Frame], *, crf: int, most_height: int) -> bytes:
    """Frames as an H.264 clip without sound. They were decoded in the child process."""
    target, stream, last = io.BytesIO(), None, -1
    with av.open(target, "w", format="mp4") as sink:
        for seconds, pixels in frames:
            if stream is None:
                height = min(most_height, pixels.shape[0])
                width = round(pixels.shape[1] * height / pixels.shape[0])
                stream = sink.add_stream("libx264", rate=25)
                stream.width, stream.height = max(2, width - width % 2), max(2, height - height % 2)
                stream.codec_context.time_base = Fraction(1, 1000)
                stream.pix_fmt, stream.options = "yuv420p", {"crf": str(crf), "preset": "veryfast"}
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            small = frame.reformat(stream.width, stream.height, "yuv420p")
            last = max(last + 1, round(1000 * seconds))
            small.pts, small.time_base = last, Fraction(1, 1000)
            sink.mux(stream.encode(small))
        if stream is not None:
            sink.mux(stream.encode(None))
    return target.getvalue()
