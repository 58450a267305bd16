"""Is this speech synthetic, converted or re-synthesised? The ``audio`` slot, second by second."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..bundle import FULL_TIERS, Bundle
from ..content.inputs import Sound, read_sound
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
from .claims import MISSING, ONLY_MUSIC, skip, word_full_tier, word_score

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..media.opening import Media
    from ..progress import Watch
    from ..settings import DetectOptions


LOWEST_LEVEL_DB = -120.0


class Audio:
    """One score for the speech in a sound, one for each second in which somebody speaks, and the
    segments that reach the limit of suspicion.

    The quick tier of the slot listens to all of it, and the full one to some of it as the effort
    says. What is told of single seconds is always the quick tier's.
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
        first = _score(sound, bundle=bundle, engine=engine, watch=media.watch)
        windows = WindowScores(
            seconds=tuple(start / rate for start in sound.starts),
            scores=first.windows,
            length=min(preprocess.window_seconds, sound.seconds),
        )
        timeline = score_seconds(windows, spoken=_spoken_seconds(sound), name="audio")
        limit = first.points.suspicious
        segments = find_segments(timeline, windows, limit=limit, seconds=sound.seconds)
        last, scored, tier, said = listen_closer(sound, first, engine, options, watch=media.watch)
        points = scored.points
        caution = next(iter(sound.scene.cautions), None)
        if caution is None and MISSING in tier:
            caution = Code.FULL_TIER_MISSING
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
                claim=" ".join(
                    [word_score(scored.score, points, where=where, caution=caution), *said]
                ),
                score=scored.score,
                interval=scored.interval,
                points=points,
                timelines=(timeline,),
                heatmaps=(over_time(timeline, seconds=whole_seconds),) if options.heatmap else (),
                bundle=last.name,
                segments=tuple(segments),
                details=_details(sound, scored) | tier,
            )
        ]


class Heard(NamedTuple):
    """The ``bundle`` with the last word on a sound, what it said, and how it came to that, in
    details and in sentences.
    """

    bundle: Bundle
    scored: Scored
    details: dict[str, object]
    said: list[str]


def listen_closer(
    sound: Sound, first: Scored, engine: Engine, options: DetectOptions, *, watch: Watch
) -> Heard:
    """What the tier with the last word says of a sound of which the quick one said ``first``."""
    quick, full = engine.bundle("audio"), engine.full_tier("audio")
    missing = engine.missing.get(FULL_TIERS["audio"])
    if not (full or missing):
        return Heard(quick, first, {}, [])
    if not quick.asks_for_more([first.score], effort=options.effort):
        return Heard(quick, first, {"tier": "quick"}, [])
    if full is None:
        return Heard(quick, first, {"tier": "quick", MISSING: missing}, [])
    assert isinstance(full.preprocess, AudioPreprocess)
    closer = sound.heard_by(full, most=full.preprocess.max_windows)
    second = _score(closer, bundle=full, engine=engine, watch=watch).beside(first)
    details = {"tier": "full", "quick_bundle": quick.name, "quick_score": round(first.score, 6)}
    counted = full.calibration.quick is not None
    said = word_full_tier(first.score, asked=options.effort == "full", counted=counted)
    return Heard(full, second, details, [said])


def _score(sound: Sound, *, bundle: Bundle, engine: Engine, watch: Watch) -> Scored:
    """Score the windows of a sound, at most 32 in memory at once."""
    parts: list[Scored] = []
    for batch in sound.batches(bundle):
        watch.step("listening", sum(len(part.windows) for part in parts) / len(sound.starts))
        parts.append(engine.score(bundle, batch))
    return Scored.join(parts)


def _spoken_seconds(sound: Sound) -> list[bool]:
    return [sound.spoken(second, seconds=1.0) for second in range(math.ceil(sound.seconds))]


def measure_level(samples: Samples) -> float:
    """The RMS level of ``samples`` (samples,) in −1…1, in dB of full scale, −120 for silence."""
    power = float(np.dot(samples, samples)) / max(1, len(samples))
    return max(LOWEST_LEVEL_DB, 10 * math.log10(power)) if power > 0 else LOWEST_LEVEL_DB


def _details(sound: Sound, scored: Scored) -> dict[str, object]:
    return {
        "windows": len(scored.windows),
        "speech_seconds": round(sound.speech_seconds, 2),
        "snr_db": round(sound.scene.snr_db, 1),
        "level_db": round(measure_level(sound.samples[slice(*sound.active)]), 1),
        "music_share": round(sound.scene.music_share, 3),
        "held_share": round(sound.scene.held_share, 3),
        "cautions": list(sound.scene.cautions),
    }
