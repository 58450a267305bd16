"""Is this speech synthetic, converted or re-synthesised? The ``audio`` slot, window by window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..preprocess import AudioPreprocess, AudioWindows, Samples
from ..types import Evidence, Kind, Status, Timeline
from .claims import EXPLANATIONS, word_score

if TYPE_CHECKING:
    from ..engine import Engine, Scored
    from ..media import Media
    from ..settings import DetectOptions

SILENT_DBFS = -65.0
CLIPPED_SHARE = 0.02


class Audio:
    """One score for the sound, with a timeline of windows."""

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
        if loudest_dbfs(samples, sample_rate=preprocess.sample_rate) < SILENT_DBFS:
            return [self._skip("no_speech")]
        first, last = preprocess.active(samples)
        reason = bundle.why_not(seconds=(last - first) / preprocess.sample_rate)
        if reason:
            return [self._skip(reason)]
        windows = preprocess(samples)
        scored = engine.score(bundle, windows.batch)
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
                timelines=(_timeline(windows, scored, preprocess, samples),),
                details={"bundle": bundle.name, "windows": len(scored.windows)},
            )
        ]

    def _skip(self, reason: str) -> Evidence:
        return Evidence(
            source=self.name, status=Status.SKIPPED, reason=reason, claim=EXPLANATIONS[reason]
        )


def loudest_dbfs(samples: Samples, *, sample_rate: int) -> float:
    """Level of the loudest 100 ms of mono ``samples`` in dB relative to full scale."""
    frame = sample_rate // 10
    count = max(1, len(samples) // frame)
    frames = np.resize(samples, count * frame) if len(samples) < frame else samples
    power = np.square(frames[: count * frame].reshape(count, frame), dtype=np.float64).mean(axis=1)
    return float(10 * np.log10(power.max() + 1e-12))


def _timeline(
    windows: AudioWindows, scored: Scored, preprocess: AudioPreprocess, samples: Samples
) -> Timeline:
    return Timeline(
        name="audio",
        seconds=windows.seconds,
        scores=scored.windows,
        window_seconds=min(preprocess.window_seconds, len(samples) / preprocess.sample_rate),
    )
