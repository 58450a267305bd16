"""Is this speech synthetic, converted or re-synthesised? The ``audio`` slot, second by second."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..content.inputs import Sound, read_sound
from ..content.timelines import (
    WindowScores,
    find_segments,
    name_segments,
    over_time,
    score_seconds,
)
from ..engine.scores import Scored
from ..preprocess import AudioPreprocess
from ..reasons import Code
from ..types import Evidence, Kind, Status
from .claims import ONLY_MUSIC, skip, word_score

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..engine.engine import Engine
    from ..media.opening import Media
    from ..progress import Watch
    from ..settings import DetectOptions


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
        sound = read_sound(media.audio(sample_rate=rate, max_seconds=most), bundle)
        reason = sound.why_not(bundle)
        if reason:
            claim = ONLY_MUSIC if reason is Code.MUSIC else None
            return [skip(self.name, reason, claim=claim)]
        scored = _score(sound, bundle=bundle, engine=engine, watch=media.watch)
        windows = WindowScores(
            seconds=tuple(start / rate for start in sound.starts),
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


def _score(sound: Sound, *, bundle: Bundle, engine: Engine, watch: Watch) -> Scored:
    """Score the windows of a sound, at most 32 in memory at once."""
    parts: list[Scored] = []
    for batch in sound.batches(bundle):
        watch.step("listening", sum(len(part.windows) for part in parts) / len(sound.starts))
        parts.append(engine.score(bundle, batch))
    return Scored.join(parts)


def _spoken_seconds(sound: Sound) -> list[bool]:
    return [sound.spoken(second, seconds=1.0) for second in range(math.ceil(sound.seconds))]


def _details(sound: Sound, scored: Scored) -> dict[str, object]:
    return {
        "windows": len(scored.windows),
        "speech_seconds": round(sound.speech_seconds, 2),
        "snr_db": round(sound.scene.snr_db, 1),
        "music_share": round(sound.scene.music_share, 3),
        "held_share": round(sound.scene.held_share, 3),
        "cautions": list(sound.scene.cautions),
    }
