"""Video frames in one sequential pass, inside the decoder process.

A first pass over the packets, without decoding, learns the real length; the second decodes from
the start and converts only the frames that are wanted. Nothing is ever sought, because decoders
give wrong pictures without an error after a seek, and memory does not grow with the length.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import Corrupt
from ..preprocess import Pixels
from ..reasons import Code
from . import streams
from .budget import KEYED_CODECS, Survey, frame_cost
from .job import Job

KEY_FRAMES_FROM = 300
"""Videos with more frames are sampled from key frames alone when those lie close enough."""
SKIPPING_CODECS = frozenset(["h264", "hevc"])
"""Codecs whose decoder leaves out unwanted frames that no other frame needs."""

_BT709_FROM_HEIGHT = 720
_MOST_THREADS = 4
_CLOSE_SECONDS = 1e-6


def decode_frames(job: Job, *, format: str, most: int) -> dict[str, Any]:
    """Send at most ``most`` upright RGB frames with their ``seconds`` from the first frame."""
    found = survey(job, format)
    only_keys = _key_frames_suffice(job, found.span, most)
    sent = _send_spread(job, format, found, most, only_keys=only_keys)
    if not sent and only_keys:
        sent = _send_spread(job, format, found, most, only_keys=False)
    check_end(job, sent, found)
    return {"frames": sent}


def survey(job: Job, format: str) -> Survey:
    """What a pass over the packets of the picture tells."""
    with streams.open_streams(job, format=format) as container:
        stream = _video(job, container)
        context = stream.codec_context
        pixels, codec = context.width * context.height, context.codec.canonical_name
        span = streams.measure(job, container, stream)
        return Survey(span, streams.claimed_seconds(container, stream), pixels, codec)


def check_end(job: Job, shown: int, found: Survey) -> None:
    """Raise ``Corrupt`` when no frame could be ``shown``; warn of a video that ends early."""
    span, claimed = found.span, found.claimed
    if not shown:
        raise Corrupt(
            f"file {job.name}: no frame of the video can be decoded",
            code=Code.NO_FRAMES,
            hint="get the complete file, or re-encode it",
        )
    if span.packets >= streams.MOST_PACKETS:
        job.warn(f"Only the first {span.packets:,} frames of the video were looked at.")
    elif claimed is not None and span.seconds < 0.95 * claimed - 0.5:
        job.warn(
            f"The video ends early: {span.seconds:.1f} of {claimed:.1f} seconds could be read."
        )


def _video(job: Job, container: Any, *, threads: int = 1) -> Any:
    stream = streams.video_stream(container)
    streams.require_decoder(job, stream, "picture", threads=threads)
    return stream


def _spacing(job: Job, span: streams.Span, most: int) -> float:
    return min(span.seconds, job.limits.seconds) / most


def warn_of_first_part(job: Job, seconds: float, found: Survey) -> None:
    """Tell that no more than the first ``seconds`` could be decoded within the budget."""
    job.warn(
        f"Decoding all of the video would cost too much: only the first {seconds:.3g} of "
        f"{found.span.seconds:.5g} seconds ({found.span.packets:,} frames) were decoded."
    )


def _key_frames_suffice(job: Job, span: streams.Span, most: int) -> bool:
    spacing = _spacing(job, span, most)
    return span.packets > KEY_FRAMES_FROM and 0 < span.widest_key_gap <= spacing


def _send_spread(job: Job, format: str, found: Survey, most: int, *, only_keys: bool) -> int:
    spacing, sent = _spacing(job, found.span, most), 0
    last = (most - 1) * spacing
    if not only_keys and found.cost([0.0], last) > job.limits.decode_pixels:
        spacing = min(spacing, found.reach(job.limits.decode_pixels) / most)
    with streams.open_streams(job, format=format) as container:
        reading = Reading(job, container, only_keys=only_keys)
        for time, frame in reading.frames():
            if is_reached(time, reading.wanted):
                job.part(to_pixels(frame), seconds=time)
                sent += 1
                reading.wanted = after(time, spacing)
            if sent == most:
                break
        if reading.is_spent:
            warn_of_first_part(job, reading.seconds, found)
    return sent


def is_reached(time: float, wanted: float) -> bool:
    return time + _CLOSE_SECONDS >= wanted


def after(time: float, step: float) -> float:
    """The first multiple of ``step`` that a frame shown at ``time`` does not serve."""
    return step * (1 + math.floor((time + _CLOSE_SECONDS) / step)) if step > 0 else 0.0


@dataclass
class Reading:
    """One sequential pass over a video that decodes no more than it must.

    Frames shown before ``wanted`` (seconds from the first frame), which only ever grows, need not
    come out. With ``keys`` (times of key frames, of the container's clock) packets before the last
    key frame at or before ``wanted`` are dropped, so that decoding goes on from that key frame.
    """

    job: Job
    container: Any
    only_keys: bool = False
    keys: Sequence[float] = ()
    wanted: float = 0.0
    is_spent: bool = False
    """Whether the pass ended because its budget did, at ``seconds`` from the first frame."""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        self._stream = _video(self.job, self.container, threads=threads)
        streams.keep_only(self.container, self._stream)
        self._context = self._stream.codec_context
        codec = self._context.codec.canonical_name
        self._codec, self._cost, self._fed = codec, 0, 0
        self._skips = codec in SKIPPING_CODECS
        self.keys = self.keys if codec in KEYED_CODECS else ()
        self._start: float | None = None
        self._last: float | None = None
        self._fed_key = -math.inf
        self._awaited_key: float | None = None
        self._damaged = False

    def frames(self) -> Iterator[tuple[float, Any]]:
        """Frames in display order with their seconds from the first one.

        Damaged frames are left out with a warning. Ends at the limit of seconds, when most of the
        processor time is spent, or when more pixels or packets were read than are allowed.
        """
        for frame in self._decode():
            time = self._frame_seconds(frame)
            self._start = time if self._start is None else self._start
            self._last, seconds = time, max(0.0, time - self._start)
            self.seconds = max(self.seconds, seconds)
            if self._awaited_key is not None and not self._resume(time):
                continue
            if seconds > self.job.limits.seconds:
                limit = self.job.limits.seconds
                self.job.warn(f"Only the first {limit:.0f} seconds were looked at.")
                return
            yield seconds, frame
            if self.job.nearly_spent():
                self.job.warn(
                    f"Decoding took too long; only the first {seconds:.0f} seconds were looked at."
                )
                return

    def _decode(self) -> Iterator[Any]:
        for packet in self._packets():
            try:
                frames = self._context.decode(packet)
            except streams.DAMAGE:
                # Pictures before a key frame may rest on others that were dropped before it.
                self._damaged, frames = self._damaged or self._awaited_key is None, []
            for frame in frames:
                self._cost += frame_cost(self._codec, frame.width * frame.height)
                if frame.is_corrupt or (self.only_keys and not frame.key_frame):
                    self._damaged = self._damaged or self._awaited_key is None
                elif frame.width * frame.height <= self.job.limits.frame_pixels:
                    yield frame
            if self._damaged:
                self.job.warn("Parts of the video are damaged; they were left out.")
            self.is_spent = self._cost > self.job.limits.decode_pixels
            if self.is_spent or self._fed > streams.MOST_PACKETS:
                return

    def _packets(self) -> Iterator[Any]:
        """The packets that must be decoded."""
        target = None
        for packet in streams.packets(self.container, self._stream):
            self.job.progress()
            self._fed += 1
            if packet is None or not packet.size:
                if target is None:
                    yield packet
                continue
            if self.only_keys and not packet.is_keyframe:
                continue
            time = self._packet_seconds(packet)
            target = self._key_to_await() if target is None else target
            if target is not None:
                if time is None or not packet.is_keyframe or not is_reached(time, target):
                    continue
                self._context.flush_buffers()
                self._awaited_key, target = time, None
            if packet.is_keyframe and time is not None:
                self._fed_key = max(self._fed_key, time)
            if self._skips:
                self._context.skip_frame = "NONREF" if self._is_unwanted(time) else "DEFAULT"
            yield packet

    def _key_to_await(self) -> float | None:
        """The key frame that decoding can go on from; None where that is the place it is at."""
        if self._start is None or not self.keys:
            return None
        before = bisect_right(self.keys, self._start + self.wanted + _CLOSE_SECONDS)
        key = self.keys[before - 1] if before else -math.inf
        return key if key > self._fed_key + _CLOSE_SECONDS else None

    def _resume(self, time: float) -> bool:
        """Whether frames count again after packets were dropped.

        A decoder that does not give the key frame itself needs more than it (a video that is
        refreshed in parts has such key frames): nothing is dropped from then on.
        """
        assert self._awaited_key is not None
        if time < self._awaited_key - _CLOSE_SECONDS:
            return False
        if time > self._awaited_key + _CLOSE_SECONDS:
            self.keys = ()
        self._awaited_key = None
        return True

    def _is_unwanted(self, time: float | None) -> bool:
        if time is None or self._start is None or self._awaited_key is not None:
            return False
        return not is_reached(time - self._start, self.wanted)

    def _packet_seconds(self, packet: Any) -> float | None:
        base = self._stream.time_base
        return None if packet.pts is None or not base else float(packet.pts * base)

    def _frame_seconds(self, frame: Any) -> float:
        if frame.pts is not None and frame.time_base:
            return float(frame.pts * frame.time_base)
        rate = streams.frame_rate(self._stream) or 25.0
        return 0.0 if self._last is None else self._last + 1.0 / rate


def to_pixels(frame: Any) -> Pixels:
    """Upright RGB (height, width, 3) of a frame, transparency laid on white.

    Frames that name no colour matrix are BT.601 below 720 lines and BT.709 from there on, as
    players assume.
    """
    matrix = None
    if frame.colorspace == 2 and frame.format.name.startswith("yuv"):
        matrix = "ITU709" if frame.height >= _BT709_FROM_HEIGHT else "ITU601"
    if any(component.is_alpha for component in frame.format.components):
        pixels = _lay_on_white(frame.to_ndarray(format="rgba", src_colorspace=matrix))
    else:
        pixels = frame.to_ndarray(format="rgb24", src_colorspace=matrix)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))


def _lay_on_white(rgba: Pixels) -> Pixels:
    """RGB of RGBA pixels; only those that are partly transparent, which are few, need reckoning."""
    pixels, alpha = rgba[..., :3].copy(), rgba[..., 3]
    pixels[alpha == 0] = 255
    partly = (alpha > 0) & (alpha < 255)
    if partly.any():
        share = alpha[partly, None].astype(np.uint16)
        mixed = pixels[partly] * share + 255 * (255 - share)
        pixels[partly] = (mixed + 127) // 255
    return pixels
