"""Sound and video containers through FFmpeg (PyAV), inside the decoder process.

The demuxer is always named, never guessed by FFmpeg, so that no playlist or script format can make
it open something else; the bytes come through our own reader.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import av
import av.error

from ..errors import Corrupt, TooLarge, UnsupportedMedia
from .job import Job

DEMUXERS = {
    "aac": "aac",
    "avi": "avi",
    "flac": "flac",
    "gif": "gif",
    "m4a": "mov",
    "mkv": "matroska",
    "mov": "mov",
    "mp3": "mp3",
    "mp4": "mov",
    "mpeg": "mpeg",
    "mpegts": "mpegts",
    "ogg": "ogg",
    "wav": "wav",
    "webm": "matroska",
}
DAMAGE = (av.error.FFmpegError, EOFError, ValueError, LookupError, UnicodeDecodeError)
"""What PyAV raises for damaged files."""

MOST_PACKETS = 1_000_000
"""Of one stream; four hours at 60 frames a second are 864,000."""
MOST_FRAMES_PER_SECOND = 1000.0
_STILL = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
_MOVING_FRAMES = 3
"""More in a second are no pictures of chapters."""
_BUFFER_BYTES = 256 * 1024
_KEY_STEP_SECONDS = 0.1


class Span(NamedTuple):
    """What a pass over the packets of one stream, without decoding, found (times in seconds)."""

    packets: int
    first: float
    end: float
    widest_key_gap: float
    keys: Sequence[float] = ()
    """Key frames in order, those within 0.1 s of the one before left out."""

    @property
    def seconds(self) -> float:
        return max(0.0, self.end - self.first)


@contextmanager
def open_streams(job: Job, *, format: str) -> Iterator[Any]:
    """The opened container. Raises ``Corrupt``, ``TooLarge`` or ``UnsupportedMedia``."""
    job.stream.seek(0)
    options = {"max_pixels": str(job.limits.frame_pixels)}
    try:
        container = av.open(
            job.stream,
            mode="r",
            format=DEMUXERS[format],
            options=options,
            metadata_errors="replace",
            buffer_size=_BUFFER_BYTES,
        )
    except DAMAGE as error:
        raise unreadable(job, format, error) from error
    with container:
        count = len(container.streams)
        if count > job.limits.streams:
            raise TooLarge(
                f"file {job.name}: {count} streams are more than {job.limits.streams}",
                hint="keep one picture and one sound stream, or raise Limits.streams",
            )
        yield container


def moving_pictures(container: Any) -> list[Any]:
    """Picture streams; cover art, thumbnails and pictures of chapters do not count."""
    return [stream for stream in container.streams.video if _moves(stream)]


def sounds(container: Any) -> list[Any]:
    """Sound streams that have a decoder."""
    return [stream for stream in container.streams.audio if stream.codec_context is not None]


def video_stream(container: Any) -> Any | None:
    """The moving picture that players show."""
    return _chosen(moving_pictures(container), container.streams.best("video"))


def audio_stream(container: Any) -> Any | None:
    """The sound that players play with that picture."""
    best = container.streams.best("audio", related=video_stream(container))
    return _chosen(sounds(container), best)


def _moves(stream: Any) -> bool:
    """Any track can be named as that of another's chapters, whose pictures lie far apart."""
    if not stream.disposition & _STILL:
        return True
    times = [float(entry.timestamp * stream.time_base) for entry in stream.index_entries]
    later = times[_MOVING_FRAMES:]
    return any(end - start <= 1.0 for start, end in zip(times, later, strict=False))


def _chosen(streams: Sequence[Any], best: Any | None) -> Any | None:
    """FFmpeg's choice, which prefers the default one, and of those the one with most bits; the
    first default one, or the first, where that is none of ``streams``.
    """
    index = None if best is None else best.index

    def rank(stream: Any) -> tuple[bool, bool]:
        is_default = bool(stream.disposition & av.stream.Disposition.default)
        return stream.index == index, is_default

    return max(streams, key=rank, default=None)


def require_decoder(job: Job, stream: Any, what: str, *, threads: int = 1) -> None:
    """Raise ``UnsupportedMedia`` for a stream that nothing here can decode."""
    if stream.codec_context is None:
        raise UnsupportedMedia(
            f"file {job.name}: its {what} is coded in a way that cannot be read here",
            hint="re-encode it, for example as H.264 with AAC sound",
        )
    stream.codec_context.thread_count = threads
    stream.codec_context.thread_type = "AUTO" if threads > 1 else "SLICE"


def keep_only(container: Any, stream: Any) -> None:
    """Have the demuxer skip every other stream."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = av.stream.Discard.all


def packets(container: Any, stream: Any) -> Iterator[Any]:
    """Packets of one stream until its end or the first place that cannot be read."""
    iterator = container.demux(stream)
    while True:
        try:
            packet = next(iterator)
        except StopIteration:
            return
        except DAMAGE:
            # The flush packet still hands out the frames that the decoder holds back.
            yield None
            return
        yield packet


def measure(job: Job, container: Any, stream: Any, *, most: int | None = None) -> Span:
    """Pass over (at most ``most``) packets of ``stream`` without decoding.

    Needs no memory, and knows better than headers, which may lack a duration or lie.
    """
    keep_only(container, stream)
    base = stream.time_base
    count, first, end, last_key, gap = 0, None, 0.0, None, 0.0
    keys = array("d")
    for packet in packets(container, stream):
        if packet is None or not packet.size:
            continue
        job.progress()
        count += 1
        ticks = packet.pts if packet.pts is not None else packet.dts
        if ticks is not None and base:
            time = float(ticks * base)
            first = time if first is None else min(first, time)
            end = max(end, time + float((packet.duration or 0) * base))
            if packet.is_keyframe:
                gap = max(gap, time - last_key) if last_key is not None else gap
                last_key = time
                if packet.pts is not None and _is_next_key(job, keys, time):
                    keys.append(time)
        if count == (most or MOST_PACKETS):
            break
    if last_key is not None:
        gap = max(gap, end - last_key)
    return Span(count, first or 0.0, max(end, first or 0.0), gap, keys)


def _is_next_key(job: Job, keys: Sequence[float], time: float) -> bool:
    """Whether a key frame is worth noting; bounds their number by the limit of seconds."""
    if not keys:
        return True
    return time >= keys[-1] + _KEY_STEP_SECONDS and time - keys[0] <= job.limits.seconds


def claimed_seconds(container: Any, stream: Any) -> float | None:
    """The playing time that the headers state; None for none, or less than nothing."""
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    else:
        seconds = (container.duration or 0) / av.time_base
    return seconds if seconds > 0 else None


def frame_rate(stream: Any) -> float | None:
    """Frames a second that the headers state; None for none, or one that no camera has."""
    rate = float(stream.average_rate or 0)
    return rate if 0 < rate <= MOST_FRAMES_PER_SECOND else None


def check_seconds(job: Job, seconds: float | None) -> None:
    if seconds is not None and seconds > job.limits.seconds:
        raise TooLarge(
            f"file {job.name}: {seconds:.0f} seconds are more than {job.limits.seconds:.0f}",
            hint="cut it into parts, or raise Limits.seconds",
        )


def unreadable(job: Job, format: str, error: BaseException) -> Corrupt:
    why = "no readable header"
    if format in ("mp4", "mov", "m4a") and not has_box(job, b"moov"):
        why = "its index (the moov box) is missing, so it was not written to its end"
    elif isinstance(error, av.error.MemoryError):
        raise MemoryError
    return Corrupt(
        f"file {job.name}: cannot be decoded: {why}",
        hint="get the complete file, or repair it with a video program",
    )


def has_box(job: Job, kind: bytes) -> bool:
    """Whether an ISO base media file (ISO/IEC 14496-12) has a top-level box of this kind."""
    position = 0
    for _ in range(10_000):
        job.stream.seek(position)
        head = job.stream.read(16) or b""
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if len(head) < 8 or head[4:8] == kind:
            return len(head) >= 8 and (size == 0 or position + size <= job.stream.bytes)
        if size < 8:
            return False
        position += size
    return False
