"""Do the frames of this clip show traces of generation? The ``image`` slot on sampled frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .. import explain
from ..preprocess import ImagePreprocess
from ..types import Evidence, Heatmap, Kind, Status, Timeline
from .claims import EXPLANATIONS, word_score

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..engine import Engine, Scored
    from ..media import Media
    from ..settings import DetectOptions

WINDOWS_PER_FRAME = 6
TOP_FRACTION = 0.5


class Video:
    """One score for the clip from its frames, a timeline, and a heat map of the frame that scores
    highest on request. There is no temporal model yet: motion is not judged.
    """

    name = "video"
    kinds = frozenset({Kind.VIDEO})

    def analyze(self, media: Media, engine: Engine, options: DetectOptions) -> list[Evidence]:
        bundle = engine.bundle("image")
        preprocess = bundle.preprocess
        assert isinstance(preprocess, ImagePreprocess)
        reason = bundle.why_not(width=media.info.width, height=media.info.height)
        if reason:
            claim = EXPLANATIONS[reason]
            return [Evidence(source=self.name, status=Status.SKIPPED, reason=reason, claim=claim)]
        waiting: list[tuple[float, Future[Scored]]] = []
        for frame in media.frames(most=options.max_frames):
            batch = preprocess(frame.pixels, max_windows=WINDOWS_PER_FRAME).batch
            waiting.append((frame.seconds, engine.submit(bundle, batch)))
        if not waiting:
            claim = "No frame of the video could be decoded."
            return [
                Evidence(source=self.name, status=Status.FAILED, reason="no_frames", claim=claim)
            ]
        scored = [(second, future.result()) for second, future in waiting]
        pooled = pool_frames([result.score for _, result in scored])
        calibration, caution = bundle.frames_calibration, None
        if calibration is None:
            caution = "not_calibrated_for_video"
            calibration = replace(bundle.calibration, slope=1.0, intercept=0.0)
        score, points = calibration.probability(pooled), calibration.points
        timeline = Timeline(
            name="frames",
            seconds=tuple(second for second, _ in scored),
            scores=tuple(result.score for _, result in scored),
        )
        return [
            Evidence(
                source=self.name,
                status=Status.OK,
                reason=caution,
                claim=word_score(score, points, where=f"{len(scored)} frames", caution=caution),
                score=score,
                interval=calibration.interval(np.array([pooled], np.float32)),
                points=points,
                timelines=(timeline,),
                heatmaps=_heatmaps(media, engine, timeline, options),
                details={"bundle": bundle.name, "frames": len(scored)},
            )
        ]


def pool_frames(scores: Sequence[float]) -> float:
    """The mean log-odds of the higher half of the frames' scores.

    Half, because a clip may be generated in part; not fewer, because single frames are noisy.
    """
    odds = sorted(math.log(score / (1 - score)) for score in scores)
    return float(np.mean(odds[-max(1, math.ceil(TOP_FRACTION * len(odds))) :]))


def _heatmaps(
    media: Media, engine: Engine, timeline: Timeline, options: DetectOptions
) -> tuple[Heatmap, ...]:
    """The heat map of the frame with the highest score, decoded again rather than kept."""
    if not options.heatmap:
        return ()
    highest = timeline.seconds[int(np.argmax(timeline.scores))]
    for frame in media.frames(most=options.max_frames):
        if frame.seconds == highest:
            bundle = engine.bundle("image")
            return (explain.heatmap(engine, bundle, frame.pixels, second=highest),)
    return ()
