"""What is watched of a report: what its file is like, what was scored, and what was left unsaid.

Nothing here tells one file from another: no hash, no name, no picture, no features of a network.
"""

from __future__ import annotations

import struct
from pathlib import Path

from deepfake.traces.metadata_blocks import jpeg_segments
from deepfake.types import Evidence, MediaInfo, Report, Weight

Signals = dict[str, float | str]
"""A number is measured, a text is one of some categories."""
AUDIO_DETAILS = ("snr_db", "music_share", "level_db")
LUMINANCE_SUM = 3688
"""Of the luminance table of ITU T.81, K.1, which quality 50 stands for."""
_TABLES = 0xDB


def read_signals(report: Report) -> Signals:
    """The signals of one report; what a file does not have is missing."""
    found: Signals = {"verdict": report.verdict.value, **_read_media(report.media)}
    for evidence in report.evidence:
        found |= _read_evidence(evidence)
    return found


def read_file_signals(path: Path, *, format: str) -> Signals:
    """The signals that only the file itself tells; none where it cannot be read any more."""
    if format != "jpeg":
        return {}
    try:
        with path.open("rb") as file:
            for marker, content in jpeg_segments(file):
                if marker == _TABLES and (quality := _read_quality(content)) is not None:
                    return {"JPEG quality": quality}
    except (OSError, struct.error):
        pass
    return {}


def _read_quality(tables: bytes) -> float | None:
    """The quality, 1…100 as libjpeg counts it, whose luminance table (number 0) has this sum; None
    where no table of a segment is that one (ITU T.81, B.2.4.1).
    """
    while len(tables) >= 65:
        wide, number = divmod(tables[0], 16)
        size = 64 * (1 + (wide > 0))
        values, tables = tables[1 : 1 + size], tables[1 + size :]
        if len(values) == size and number == 0:
            steps = struct.unpack(f">64{'H' if wide else 'B'}", values)
            scale = 100 * sum(steps) / LUMINANCE_SUM
            quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
            return float(min(100, max(1, round(quality))))
    return None


def _read_media(media: MediaInfo) -> Signals:
    found: Signals = {"format": media.format}
    pixels = (media.width or 0) * (media.height or 0)
    if pixels:
        found["megapixels"] = pixels / 1e6
    if media.seconds:
        found["seconds"] = media.seconds
        found["kilobytes_a_second"] = media.bytes / media.seconds / 1000
    elif pixels:
        found["bytes_a_pixel"] = media.bytes / pixels
    if media.frame_rate:
        found["frame_rate"] = media.frame_rate
    if media.sample_rate:
        found["sample_rate"] = float(media.sample_rate)
    return found


def _read_evidence(evidence: Evidence) -> Signals:
    source, details = evidence.source, evidence.details
    found: Signals = {f"{source} state": str(evidence.reason or evidence.status)}
    if evidence.weight is Weight.SCORE and evidence.score is not None:
        found[f"{source} score"] = evidence.score
        again = details.get("recompressed_score")
        if isinstance(again, float):
            found[f"{source} score when saved again"] = again - evidence.score
    for name in AUDIO_DETAILS:
        if isinstance(value := details.get(name), float):
            found[name] = value
    encoding = details.get("encoding")
    if isinstance(encoding, dict):
        for name in ("video_codec", "audio_codec"):
            if isinstance(value := encoding.get(name), str):
                found[name] = value
    return found
