"""What a file is and how large, inside the decoder process and before anything is decoded."""

from __future__ import annotations

from typing import Any

from ..errors import Corrupt, TooLarge, UnsupportedMedia
from ..reasons import Code
from ..settings import megapixels
from .job import Job
from .sniff import HEAD_BYTES, name_content, sniff

_MAX_CHUNKS = 1000
READABLE = (
    "images (JPEG, PNG, WebP, AVIF, HEIF, GIF, TIFF, BMP), sound (WAV, FLAC, MP3, OGG, Opus, M4A) "
    "and video (MP4, MOV, WebM, MKV, AVI, MPEG) can be read"
)


def probe(job: Job) -> dict[str, Any]:
    """``kind``, ``format`` and the measures of :class:`deepfake.types.MediaInfo`."""
    job.stream.seek(0)
    head = job.buffered().read(HEAD_BYTES)
    format = sniff(head)
    if format is None:
        raise UnsupportedMedia(
            f"file {job.name}: the content is {name_content(head)}, not media", hint=READABLE
        )
    if format == "gif":
        return _probe_gif(job)
    from .image import PILLOW_FORMATS

    if format in PILLOW_FORMATS:
        return _probe_image(job, format)
    return _probe_streams(job, format)


def _probe_image(job: Job, format: str) -> dict[str, Any]:
    from .image import image_size, open_image

    width, height = image_size(open_image(job, format=format))
    return {"kind": "image", "format": format, "width": width, "height": height}


def _probe_gif(job: Job) -> dict[str, Any]:
    from .image import DECODE_ERRORS, open_image

    image = open_image(job, format="gif")
    try:
        animated = bool(getattr(image, "is_animated", False))
    except DECODE_ERRORS:
        animated = False
    if not animated:
        return {"kind": "image", "format": "gif", "width": image.width, "height": image.height}
    return _probe_streams(job, "gif")


def _probe_streams(job: Job, format: str) -> dict[str, Any]:
    from . import streams

    with streams.open_streams(job, format=format) as container:
        video, audio = streams.video_stream(container), streams.audio_stream(container)
        tracks = _warn_of_tracks(job, container)
        if video is not None:
            format = "mp4" if format == "m4a" else format
            return tracks | _probe_video(job, format, container, video, audio)
        if audio is None:
            raise Corrupt(
                f"file {job.name}: holds neither moving pictures nor sound that can be decoded",
                code=Code.NO_STREAMS,
                hint="check that the file plays elsewhere",
            )
        return tracks | _probe_audio(job, format, container, audio)


def _warn_of_tracks(job: Job, container: Any) -> dict[str, Any]:
    """Tell of pictures and sounds that are not looked at beside others."""
    from . import streams

    counts = {
        "picture": len(streams.moving_pictures(container)),
        "sound": len(streams.sounds(container)),
    }
    several = {name: count for name, count in counts.items() if count > 1}
    for name, count in several.items():
        job.warn(
            f"The file has {count} {name} tracks; only the one that players choose was looked at."
        )
    return {"has_other_tracks": True} if several else {}


def _probe_audio(job: Job, format: str, container: Any, audio: Any) -> dict[str, Any]:
    from . import streams

    streams.require_decoder(job, audio, "sound")
    context, seconds = audio.codec_context, streams.claimed_seconds(container, audio)
    if format == "wav":
        seconds = _wav_seconds(job, context, seconds)
        if _wav_is_cut(job):
            job.warn("The sound ends before the length that its header states.")
    if streams.measure(job, container, audio, most=1).packets == 0:
        raise Corrupt(
            f"file {job.name}: the sound has no samples",
            code=Code.NO_SAMPLES,
            hint="record or export it again",
        )
    if seconds is None:
        seconds = streams.measure(job, container, audio).seconds
    streams.check_seconds(job, seconds)
    return {
        "kind": "audio",
        "format": "m4a" if format in ("mp4", "mov") else format,
        "seconds": seconds,
        "sample_rate": int(context.sample_rate),
        "has_audio": True,
    }


def _wav_seconds(job: Job, context: Any, claimed: float | None) -> float | None:
    """Playing time of what the file holds, for headers that claim more (or 4 GB)."""
    if not context.name.startswith("pcm_") or not context.bit_rate:
        return claimed
    held = job.stream.bytes * 8 / int(context.bit_rate)
    return held if claimed is None else min(claimed, held)


def _wav_is_cut(job: Job) -> bool:
    """Whether the data chunk claims more bytes than follow; all ones means a length unknown."""
    position = 12
    for _ in range(_MAX_CHUNKS):
        job.stream.seek(position)
        head = job.stream.read(8) or b""
        if len(head) < 8:
            return False
        size, position = int.from_bytes(head[4:], "little"), position + 8
        if head[:4] == b"data":
            return size != 0xFFFFFFFF and position + size > job.stream.bytes
        position += size + size % 2
    return False


def _avi_is_cut(job: Job) -> bool:
    job.stream.seek(4)
    return int.from_bytes(job.stream.read(4) or b"", "little") + 8 > job.stream.bytes


def _probe_video(job: Job, format: str, container: Any, video: Any, audio: Any) -> dict[str, Any]:
    from . import streams

    streams.require_decoder(job, video, "picture")
    width, height = video.codec_context.width, video.codec_context.height
    if width * height > job.limits.frame_pixels:
        raise TooLarge(
            f"file {job.name}: its frames have {megapixels(width * height)} megapixels "
            f"({width}×{height}), and {megapixels(job.limits.frame_pixels)} are taken",
            hint="scale the video down, or raise Limits.frame_pixels",
        )
    if min(width, height) < 1:
        raise Corrupt(
            f"file {job.name}: the video states no frame size", hint="re-encode or repair it"
        )
    seconds = streams.claimed_seconds(container, video)
    rate = streams.frame_rate(video)
    streams.check_seconds(job, seconds)
    if format == "avi" and _avi_is_cut(job):
        job.warn("The video ends before the length that its header states.")
    if format in ("mp4", "mov") and _is_sideways(job, container, video):
        width, height = height, width
    with streams.open_streams(job, format=format) as again:
        span = streams.measure(job, again, streams.video_stream(again))
    if seconds is None or format == "gif" or span.seconds > 1.1 * seconds + 1.0:
        if seconds is not None and format != "gif":
            job.warn(
                f"The video is longer than its header states: {span.seconds:.1f} seconds, not "
                f"{seconds:.1f}."
            )
        seconds = span.seconds
        rate = rate or (span.packets / seconds if seconds > 0 else None)
        streams.check_seconds(job, seconds)
    return {
        "kind": "video",
        "format": format,
        "width": width,
        "height": height,
        "seconds": seconds,
        "frame_rate": rate,
        "sample_rate": int(audio.codec_context.sample_rate) if audio is not None else None,
        "has_audio": audio is not None,
    }


def _is_sideways(job: Job, container: Any, video: Any) -> bool:
    """Whether frames must be turned by 90°; only a decoded frame carries that."""
    from . import streams

    for count, packet in enumerate(streams.packets(container, video)):
        try:
            frames = video.codec_context.decode(packet)
        except streams.DAMAGE:
            frames = []
        if frames:
            return bool(abs(frames[0].rotation) % 180 == 90)
        if count > 64 or packet is None:
            break
    return False
