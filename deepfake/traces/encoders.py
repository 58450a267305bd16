"""How a video file was encoded: which program wrote it, and whether a camera can have.

Reading runs inside the limited decoder child: the first packets of each stream, which hold the
texts that encoders leave (user data in H.264 and H.265 SEI messages, MPEG-4 and AAC), and the
times of ten seconds of packets. Nothing is decoded.

Nearly every program encodes with FFmpeg and x264, and nearly every service encodes again what it is
given. So an encoder's name is no evidence of generation: it shows that a file is no camera original
and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

from ..text import printable
from .generators import WRITERS
from .metadata_blocks import Collector

_TIMED_PACKETS = 250
_SEARCHED_PACKETS = 4
_SEARCHED_BYTES = 256 * 1024
_REORDERED = 16
_USER_DATA = re.compile(
    rb"(?:x264 - core \d|x265 \(build \d|Lavc\d{2}\.|XviD\d|DivX\d{3}|kling-ai)[ -~]{0,1500}"
)
_RATE = re.compile(r"\b(?:crf|qp|bitrate)=[\d.]{1,12}")
_TEXT = {"video": "video_user_data", "audio": "audio_user_data"}


def read_encoding(container: Any, into: Collector) -> None:
    """Fill ``encoding`` from an open PyAV ``container``: texts ``video_codec``, ``audio_codec``
    (missing without sound), ``timing`` (constant or variable) and the user data of encoders.
    """
    from ..media.streams import audio_stream, video_stream

    video, audio = video_stream(container), audio_stream(container)
    if video is None:
        return
    into.put("encoding", "video_codec", video.codec_context.name)
    wanted = {video.index: "video"}
    if audio is not None:
        into.put("encoding", "audio_codec", audio.codec_context.name)
        wanted[audio.index] = "audio"
    texts: dict[str, list[bytes]] = {"video": [], "audio": []}
    seen = {"video": 0, "audio": 0}
    times = []
    for stream in filter(None, (video, audio)):
        extra = bytes(stream.codec_context.extradata or b"")[:_SEARCHED_BYTES]
        texts[wanted[stream.index]] += _USER_DATA.findall(extra)
    for packet in islice(container.demux(), 4 * _TIMED_PACKETS):
        kind = wanted.get(packet.stream.index)
        if kind is None or not packet.size:
            continue
        seen[kind] += 1
        if seen[kind] <= _SEARCHED_PACKETS:
            texts[kind] += _USER_DATA.findall(bytes(packet)[:_SEARCHED_BYTES])
        if kind == "video" and packet.pts is not None:
            times.append(int(packet.pts))
        if seen["video"] >= _TIMED_PACKETS:
            break
    for kind, name in _TEXT.items():
        for text in dict.fromkeys(texts[kind][:8]):
            into.put("encoding", name, text)
    timing = _timing(times)
    if timing:
        into.put("encoding", "timing", timing)


def _timing(times: list[int]) -> str | None:
    """Whether pictures follow each other evenly, but for rounding; times in units of the stream."""
    ordered = sorted(set(times))
    if len(times) >= _TIMED_PACKETS:
        ordered = ordered[:-_REORDERED]
    gaps = [after - before for before, after in pairwise(ordered)]
    if len(gaps) < 2:
        return None
    return "constant" if max(gaps) - min(gaps) <= max(1, max(gaps) // 20) else "variable"


@dataclass(frozen=True)
class Encoding:
    """What is known of how a video was encoded.

    ``writers`` name programs and services that left a trace, ``devices`` camera makers that did;
    ``software`` is the encoder of the pictures or of the sound where it is one that no camera uses.
    """

    writers: tuple[str, ...]
    devices: tuple[str, ...]
    software: str | None
    details: Mapping[str, Any]


def describe_encoding(metadata: Mapping[str, Any]) -> Encoding | None:
    """The encoding of a video from the result of ``container.read_metadata``; None for others."""
    found = metadata.get("encoding")
    if not found:
        return None
    user_data = [found.get(name, "") for name in _TEXT.values()]
    writers: list[str] = []
    devices: list[str] = []
    for field, text in _texts(metadata, user_data):
        for writer in WRITERS:
            if writer.matches(field, text):
                (devices if writer.is_device else writers).append(writer.name)
    software = next(
        (name for name in ("x264", "x265", "XviD", "DivX", "FFmpeg") if _coded_by(name, user_data)),
        None,
    )
    rate = _RATE.search(user_data[0])
    tags = metadata.get("tags", {})
    return Encoding(
        tuple(dict.fromkeys(writers)),
        tuple(dict.fromkeys(devices)),
        software,
        {
            "written_by": list(dict.fromkeys(writers))[:8],
            "devices": list(dict.fromkeys(devices))[:4],
            "software_encoder": software,
            "rate": rate.group() if rate else None,
            "settings": printable(user_data[0], most=240) or None,
            "video_codec": printable(found.get("video_codec", ""), most=20) or None,
            "audio_codec": printable(found.get("audio_codec", ""), most=20) or None,
            "has_sound": "audio_codec" in found,
            "timing": found.get("timing"),
            "brand": printable(tags.get("major_brand", tags.get("MAJOR_BRAND", "")), most=8)
            or None,
        },
    )


def _coded_by(name: str, user_data: list[str]) -> bool:
    start = {"FFmpeg": "Lavc"}.get(name, name)
    return any(line.startswith(start) for text in user_data for line in text.split("\n"))


def _texts(metadata: Mapping[str, Any], user_data: list[str]) -> list[tuple[str, str]]:
    """Lower-case name without its stream, and value, of every tag and text of an encoder."""
    texts = [
        (re.sub(r"^(video|audio|data)\d+:", "", name).lower(), value[:4000])
        for name, value in metadata.get("tags", {}).items()
    ]
    texts += [("user_data", text[:4000]) for text in user_data if text]
    for name, values in metadata.get("xmp_properties", {}).items():
        if name == "xmp:CreatorTool":
            texts += [("encoder", value[:200]) for value in values]
    return texts
