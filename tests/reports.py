"""Reports made by hand, for everything that shows one."""

from __future__ import annotations

from typing import Any

from deepfake.types import (
    Evidence,
    FaceFinding,
    Heatmap,
    Kind,
    MediaInfo,
    OperatingPoints,
    Reason,
    Report,
    Status,
    Timeline,
    Track,
    Verdict,
)

POINTS = OperatingPoints(authentic=0.2, suspicious=0.6, synthetic=0.9)
GRID = ((0.0, 0.0), (1.0, 1.0))


def make_report(*evidence: Evidence, kind: Kind = Kind.IMAGE, **media: Any) -> Report:
    """A report of a file with ``evidence``; ``media`` goes to its ``MediaInfo``."""
    values = {"format": "png", "sha256": "0" * 64, "bytes": 10} | media
    return Report(
        path="a.file",
        media=MediaInfo(kind=kind, **values),
        verdict=Verdict.SUSPICIOUS,
        probability=0.75,
        interval=(0.5, 0.88),
        reasons=(Reason(code="face_suspicious", text="because"),),
        evidence=evidence,
        warnings=(),
        versions={"deepfake": "0"},
        seconds_by_step={"open": 0.1},
    )


def make_evidence(source: str, **values: Any) -> Evidence:
    defaults = {"status": Status.OK, "claim": f"what {source} says", "score": 0.7, "points": POINTS}
    return Evidence(source=source, **(defaults | values))


def face_evidence() -> Evidence:
    """Two faces of a picture of at least 200 by 120 pixels, the second of which is not judged."""
    return make_evidence(
        "face",
        heatmaps=(Heatmap(name="face 1", values=GRID, box=(20.0, 30.0, 60.0, 80.0)),),
        faces=(
            FaceFinding(name="face 1", box=(20.0, 30.0, 60.0, 80.0), score=0.93),
            FaceFinding(name="face 2", box=(140.0, 50.0, 160.0, 76.0), reason="face_too_small"),
        ),
    )


def video_evidence(seconds: int = 20) -> tuple[Evidence, ...]:
    """Motion that is high at 8 s, frames that are high at 3 s, two people, and the sound."""
    every = tuple(float(second) for second in range(0, seconds, 1))

    def line(name: str, peak: float, *, window: float = 1.0) -> Timeline:
        scores = tuple(0.95 if second == peak else 0.1 + second / 1000 for second in every)
        return Timeline(name=name, seconds=every, scores=scores, window_seconds=window)

    box = (20.0, 30.0, 60.0, 80.0)
    tracks = (
        Track(name="face 1", box=box, score=0.97, start=0.0, end=20.0, second=12.0),
        Track(name="face 2", box=box, score=0.2, start=4.0, end=9.0, second=5.0),
    )
    return (
        make_evidence("video", timelines=(line("motion", 8.0),)),
        make_evidence(
            "frames",
            timelines=(line("frames", 3.0, window=0.0),),
            heatmaps=(Heatmap(name="image", values=GRID, second=3.0),),
        ),
        make_evidence(
            "face",
            timelines=(line("face 1", 12.0), line("face 2", 5.0)),
            heatmaps=(
                Heatmap(name="face 1", values=GRID, second=12.0, box=(20.0, 30.0, 60.0, 80.0)),
            ),
            tracks=tracks,
        ),
        make_evidence("audio", timelines=(line("audio", 15.0),)),
    )
