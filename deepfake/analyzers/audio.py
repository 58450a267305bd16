"""Is this speech synthetic, converted or re-synthesised? The ``audio`` slot, second by second."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ..content.soundscape import Soundscape, survey
from ..content.speech import CHUNK_SECONDS, find_speech, speech_share
from ..content.timelines import (
    WindowScores,
    find_segments,
    name_segments,
    over_time,
    score_seconds,
)
from ..engine.scores import Scored
from ..preprocess import AudioPreprocess, Samples
from ..reasons import Code
from ..types import Evidence, Kind, Status
from .claims import ONLY_MUSIC, skip, word_score

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..engine.engine import Engine
    from ..media.opening import Media
    from ..progress import Watch
    from ..settings import DetectOptions

MIN_SPEECH_SECONDS = 0.25
MIN_SPEECH_SHARE = 0.1
MIN_SPEECH_IN_MUSIC_SECONDS = 1.0
MIN_SPEECH_IN_MUSIC_SHARE = 0.05
WINDOWS_AT_ONCE = 32


class Sound(NamedTuple):
    """Mono ``samples`` (samples,), how long they last, the first and last sample between leading
    and trailing silence, which 32 ms chunks are ``speech`` (chunks,), and what else is in them.
    """

    samples: Samples
    seconds: float
    active: tuple[int, int]
    speech: npt.NDArray[np.bool_]
    scene: Soundscape

    @property
    def speech_seconds(self) -> float:
        return float(self.speech.sum()) * CHUNK_SECONDS


class Audio:
    """One score for the speech in a sound, one for each second in which somebody speaks, and the
    segments that reach the limit of suspicion.
    """

    name = "audio"
    kinds = frozenset({Kind.AUDIO, Kind.VIDEO})

    def analyze(self, media: Media, engine: Engine, options: DetectOptions) -> list[Evidence]:
        if media.info.kind is Kind.VIDEO and not media.info.has_audio:
            return [skip(self.name, Code.NO_SOUND)]
        bundle = engine.bundle("audio")
        preprocess = bundle.preprocess
        assert isinstance(preprocess, AudioPreprocess)
        rate, most = preprocess.sample_rate, options.max_audio_seconds
        samples = media.audio(sample_rate=rate, max_seconds=most)
        speech = find_speech(samples)
        sound = Sound(
            samples=samples,
            seconds=len(samples) / rate,
            active=preprocess.active(samples),
            speech=speech,
            scene=survey(samples, speech),
        )
        skipped = self._why_not(sound, bundle, preprocess)
        if skipped:
            return [skipped]
        # All windows, not ``max_windows`` of them: gaps could hide a short segment.
        starts = _keep_spoken(preprocess.starts(*sound.active), speech, preprocess)
        scored = _score(sound, starts, bundle=bundle, engine=engine, watch=media.watch)
        windows = WindowScores(
            seconds=tuple(start / rate for start in starts),
            scores=scored.windows,
            length=min(preprocess.window_seconds, sound.seconds),
        )
        timeline = score_seconds(windows, spoken=_spoken_seconds(sound), name="audio")
        points = bundle.calibration.points
        segments = find_segments(timeline, windows, limit=points.suspicious, seconds=sound.seconds)
        caution = next(iter(sound.scene.cautions), None)
        where = "the sound"
        if scored.score >= points.suspicious and (places := name_segments(segments, timeline)):
            where = f"the sound {places}"
        whole_seconds = sound.seconds
        if sound.seconds >= most:
            whole_seconds = max(sound.seconds, media.info.seconds or 0.0)
        return [
            Evidence(
                source=self.name,
                status=Status.OK,
                reason=caution,
                claim=word_score(scored.score, points, where=where, caution=caution),
                score=scored.score,
                interval=scored.interval,
                points=points,
                timelines=(timeline,),
                heatmaps=(over_time(timeline, seconds=whole_seconds),) if options.heatmap else (),
                bundle=bundle.name,
                segments=tuple(segments),
                details=_details(sound, scored),
            )
        ]

    def _why_not(
        self, sound: Sound, bundle: Bundle, preprocess: AudioPreprocess
    ) -> Evidence | None:
        """Why a sound cannot be judged, or None when it can."""
        least, musical = MIN_SPEECH_SECONDS, sound.scene.musical
        if musical:
            least = max(MIN_SPEECH_IN_MUSIC_SECONDS, MIN_SPEECH_IN_MUSIC_SHARE * sound.seconds)
        if sound.speech_seconds < least:
            return (
                skip(self.name, Code.MUSIC, claim=ONLY_MUSIC)
                if musical
                else skip(self.name, Code.NO_SPEECH)
            )
        first, last = sound.active
        reason = bundle.why_not(seconds=(last - first) / preprocess.sample_rate)
        return skip(self.name, reason) if reason else None


def _keep_spoken(
    starts: list[int], speech: npt.NDArray[np.bool_], preprocess: AudioPreprocess
) -> list[int]:
    """The windows in which somebody speaks; all of them when no single one has enough."""
    rate, length = preprocess.sample_rate, preprocess.window_seconds
    kept = [
        start
        for start in starts
        if speech_share(speech, second=start / rate, seconds=length) >= MIN_SPEECH_SHARE
    ]
    return kept or starts


def _score(
    sound: Sound, starts: Sequence[int], *, bundle: Bundle, engine: Engine, watch: Watch
) -> Scored:
    """Score the windows at ``starts``, at most 32 in memory at once."""
    preprocess = bundle.preprocess
    assert isinstance(preprocess, AudioPreprocess)
    samples, (_, last), length = sound.samples, sound.active, preprocess.window_samples
    parts = []
    for index in range(0, len(starts), WINDOWS_AT_ONCE):
        watch.step("listening", index / len(starts))
        cut = [
            preprocess.level(preprocess.fit(samples[start : min(last, start + length)]))
            for start in starts[index : index + WINDOWS_AT_ONCE]
        ]
        parts.append(engine.score(bundle, np.stack(cut)))
    return Scored.join(parts)


def _spoken_seconds(sound: Sound) -> list[bool]:
    return [
        speech_share(sound.speech, second=second, seconds=1.0) >= MIN_SPEECH_SHARE
        for second in range(math.ceil(sound.seconds))
    ]


def _details(sound: Sound, scored: Scored) -> dict[str, object]:
    return {
        "windows": len(scored.windows),
        "speech_seconds": round(sound.speech_seconds, 2),
        "snr_db": round(sound.scene.snr_db, 1),
        "music_share": round(sound.scene.music_share, 3),
        "cautions": list(sound.scene.cautions),
    }
