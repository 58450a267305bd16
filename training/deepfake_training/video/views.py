"""What happens to clips on their way to the judge: their picture coded again, without sound."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import av

CLIP_VIEWS: Mapping[str, Mapping[str, int]] = {
    "clean": {},
    "crf_23": {"crf": 23},
    "crf_32": {"crf": 32},
    "crf_40_360p": {"crf": 40, "most_height": 360},
}
"""The options of :func:`recompress_video` by view; the clean one is the file as it is."""


def view_clip(content: bytes, *, view: str) -> bytes:
    """A clip's file in one of :data:`CLIP_VIEWS`."""
    options = CLIP_VIEWS[view]
    return recompress_video(content, **options) if options else content


def recompress_video(content: bytes, *, crf: int, most_height: int = 10_000) -> bytes:
    """The first video stream encoded again as H.264 at a constant rate factor, without sound."""
    target = io.BytesIO()
    with av.open(io.BytesIO(content)) as source, av.open(target, "w", format="mp4") as sink:
        stream = source.streams.video[0]
        height = min(most_height, stream.height)
        width = round(stream.width * height / stream.height)
        coded = sink.add_stream("libx264", rate=stream.average_rate or Fraction(25))
        coded.width, coded.height = width - width % 2, height - height % 2
        coded.codec_context.time_base = stream.time_base or Fraction(1, 1000)
        coded.pix_fmt, coded.options = "yuv420p", {"crf": str(crf), "preset": "veryfast"}
        for frame in _frames(source, stream):
            small = frame.reformat(coded.width, coded.height, "yuv420p")
            small.pts, small.time_base = frame.pts, frame.time_base
            sink.mux(coded.encode(small))
        sink.mux(coded.encode(None))
    return target.getvalue()


def _frames(source: Any, stream: Any) -> Iterator[Any]:
    last = None
    for frame in source.decode(stream):
        if frame.pts is not None and frame.pts != last:  # an encoder refuses the same time twice
            last = frame.pts
            yield frame
