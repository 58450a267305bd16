"""What is watched of a report: what its file is like, what was scored, and what was left unsaid.

Nothing here tells one file from another: no hash, no name, no picture, no features of a network.
"""

from __future__ import annotations

from deepfake.types import Evidence, MediaInfo, Report, Weight

Signals = dict[str, float | str]
"""A number is measured, a text is one of some categories."""
AUDIO_DETAILS = ("snr_db", "music_share")


def read_signals(report: Report) -> Signals:
    """The signals of one report; what a file does not have is missing."""
    found: Signals = {"verdict": report.verdict.value, **_read_media(report.media)}
    for evidence in report.evidence:
        found |= _read_evidence(evidence)
    return found


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
