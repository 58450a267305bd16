"""Is this speech synthetic, converted or re-synthesised? The ``audio`` slot, window by window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..explain import over_time
from ..preprocess import AudioPreprocess, AudioWindows
from ..speech import CHUNK_SECONDS, find_speech, speech_share
from ..types import Evidence, Kind, Status, Timeline
from .claims import EXPLANATIONS, word_score

if TYPE_CHECKING:
    from ..engine import Engine, Scored
    from ..media import Media
    from ..settings import DetectOptions

MIN_SPEECH_SECONDS = 0.25
MIN_SPEECH_SHARE = 0.1
CLIPPED_SHARE = 0.02


class Audio:
    """One score for the speech in a sound, with a timeline of the windows that hold some."""

    name = "audio"
    kinds = frozenset({Kind.AUDIO, Kind.VIDEO})

    def analyze(self, media: Media, engine: Engine, options: DetectOptions) -> list[Evidence]:
        if media.info.kind is Kind.VIDEO and not media.info.has_audio:
            return [self._skip("no_sound")]
        bundle = engine.bundle("audio")
        preprocess = bundle.preprocess
        assert isinstance(preprocess, AudioPreprocess)
        samples = media.audio(
            sample_rate=preprocess.sample_rate, max_seconds=options.max_audio_seconds
        )
        speech = find_speech(samples)
        if speech.sum() * CHUNK_SECONDS < MIN_SPEECH_SECONDS:
            return [self._skip("no_speech")]
        first, last = preprocess.active(samples)
        reason = bundle.why_not(seconds=(last - first) / preprocess.sample_rate)
        if reason:
            return [self._skip(reason)]
        windows = _spoken(preprocess(samples), speech, preprocess)
        scored = engine.score(bundle, windows.batch)
        seconds = len(samples) / preprocess.sample_rate
        timeline = _timeline(windows, scored, preprocess, seconds)
        clipped = float(np.mean(np.abs(samples) >= 0.999)) > CLIPPED_SHARE
        caution = "clipped" if clipped else None
        points = bundle.calibration.points
        return [
            Evidence(
                source=self.name,
                status=Status.OK,
                reason=caution,
                claim=word_score(scored.score, points, where="the sound", caution=caution),
                score=scored.score,
                interval=scored.interval,
                points=points,
                timelines=(timeline,),
                heatmaps=(over_time(timeline, seconds=seconds),) if options.heatmap else (),
                details={
                    "bundle": bundle.name,
                    "windows": len(scored.windows),
                    "speech_seconds": round(float(speech.sum()) * CHUNK_SECONDS, 2),
                },
            )
        ]

    def _skip(self, reason: str) -> Evidence:
        return Evidence(
            source=self.name, status=Status.SKIPPED, reason=reason, claim=EXPLANATIONS[reason]
        )


def _spoken(
    windows: AudioWindows, speech: npt.NDArray[np.bool_], preprocess: AudioPreprocess
) -> AudioWindows:
    """The windows in which somebody speaks; all of them when no single one has enough."""
    length = preprocess.window_seconds
    kept = [
        index
        for index, second in enumerate(windows.seconds)
        if speech_share(speech, second=second, seconds=length) >= MIN_SPEECH_SHARE
    ]
    if not kept:
        return windows
    return AudioWindows(windows.batch[kept], tuple(windows.seconds[index] for index in kept))


def _timeline(
    windows: AudioWindows, scored: Scored, preprocess: AudioPreprocess, seconds: float
) -> Timeline:
    return Timeline(
        name="audio",
        seconds=windows.seconds,
        scores=scored.windows,
        window_seconds=min(preprocess.window_seconds, seconds),
    )
