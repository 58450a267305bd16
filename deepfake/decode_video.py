"""Evenly spread video frames in one sequential pass, inside the decoder process.

A first pass over the packets, without decoding, learns the real length; the second decodes from
the start and converts only the frames that are wanted. Nothing is ever sought, because decoders
give wrong pictures without an error after a seek, and memory does not grow with the length.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import streams
from .decode_worker import Job
from .errors import Corrupt
from .preprocess import Pixels

KEY_FRAMES_FROM = 1_500
"""Videos with more frames are sampled from key frames alone when those lie close enough."""

_BT709_FROM_HEIGHT = 720
_MOST_THREADS = 4


def decode_frames(job: Job, *, format: str, most: int) -> dict[str, Any]:
    """Send at most ``most`` upright RGB frames with their ``seconds`` from the first frame."""
    with streams.open_streams(job, format=format) as container:
        claimed = streams.claimed_seconds(container, _video(job, container))
        span = streams.measure(job, container, _video(job, container))
    with streams.open_streams(job, format=format) as container:
        only_keys = _key_frames_suffice(job, span, most)
        sent = _send_spread(job, container, span, most, only_keys=only_keys)
    if not sent and only_keys:
        with streams.open_streams(job, format=format) as container:
            sent = _send_spread(job, container, span, most, only_keys=False)
    if not sent:
        raise Corrupt(
            f"file {job.name}: no frame of the video can be decoded",
            code="no_frames",
            hint="get the complete file, or re-encode it",
        )
    if claimed is not None and span.seconds < 0.95 * claimed - 0.5:
        job.warn(
            f"The video ends early: {span.seconds:.1f} of {claimed:.1f} seconds could be read."
        )
    return {"frames": sent}


def _video(job: Job, container: Any, *, threads: int = 1) -> Any:
    stream = streams.video_stream(container)
    streams.require_decoder(job, stream, "picture", threads=threads)
    return stream


def _spacing(job: Job, span: streams.Span, most: int) -> float:
    return min(span.seconds, job.limits.seconds) / most


def _key_frames_suffice(job: Job, span: streams.Span, most: int) -> bool:
    spacing = _spacing(job, span, most)
    return span.packets > KEY_FRAMES_FROM and 0 < span.widest_key_gap <= spacing


def _send_spread(
    job: Job, container: Any, span: streams.Span, most: int, *, only_keys: bool
) -> int:
    stream = _video(job, container, threads=min(_MOST_THREADS, len(os.sched_getaffinity(0))))
    streams.keep_only(container, stream)
    spacing = _spacing(job, span, most)
    start, sent, wanted, last = None, 0, 0.0, None
    for frame in _decode(job, container, stream, only_keys=only_keys):
        time = _frame_seconds(frame, stream, last)
        start = time if start is None else start
        last, time = time, max(0.0, time - start)
        if time > job.limits.seconds:
            job.warn(f"Only the first {job.limits.seconds:.0f} seconds were looked at.")
            break
        if time + 1e-6 >= wanted and sent < most:
            job.part(to_pixels(frame), seconds=time)
            sent += 1
            wanted = spacing * (1 + int((time + 1e-6) / spacing)) if spacing > 0 else 0.0
        if sent == most:
            break
        if job.nearly_spent():
            job.warn(f"Decoding took too long; only the first {time:.0f} seconds were looked at.")
            break
    return sent


def _decode(job: Job, container: Any, stream: Any, *, only_keys: bool) -> Iterator[Any]:
    """Frames in display order; damaged ones are left out with a warning."""
    damaged = False
    for packet in streams.packets(container, stream):
        job.progress()
        if only_keys and packet is not None and packet.size and not packet.is_keyframe:
            continue
        try:
            frames = stream.codec_context.decode(packet)
        except streams.DAMAGE:
            damaged, frames = True, []
        for frame in frames:
            if frame.is_corrupt or (only_keys and not frame.key_frame):
                damaged = True
            elif frame.width * frame.height <= job.limits.frame_pixels:
                yield frame
        if damaged:
            job.warn("Parts of the video are damaged; they were left out.")


def _frame_seconds(frame: Any, stream: Any, last: float | None) -> float:
    if frame.pts is not None and frame.time_base:
        return float(frame.pts * frame.time_base)
    rate = float(stream.average_rate or 25)
    return 0.0 if last is None else last + 1.0 / rate


def to_pixels(frame: Any) -> Pixels:
    """Upright RGB (height, width, 3) of a frame, transparency laid on white.

    Frames that name no colour matrix are BT.601 below 720 lines and BT.709 from there on, as
    players assume.
    """
    matrix = None
    if frame.colorspace == 2 and frame.format.name.startswith("yuv"):
        matrix = "ITU709" if frame.height >= _BT709_FROM_HEIGHT else "ITU601"
    if any(component.is_alpha for component in frame.format.components):
        rgba = frame.to_ndarray(format="rgba", src_colorspace=matrix)
        alpha = rgba[..., 3:].astype(np.uint16)
        mixed = rgba[..., :3] * alpha + 255 * (255 - alpha)
        pixels = ((mixed + 127) // 255).astype(np.uint8)
    else:
        pixels = frame.to_ndarray(format="rgb24", src_colorspace=matrix)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))
