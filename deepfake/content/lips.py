"""Lip motion against the energy of speech: whether a face moves its mouth to what is heard.

A mouth opens with the energy of speech between 1 and 3 kHz (Chandrasekaran et al. 2009). Of each
step of an aligned face five numbers are kept, never a pixel; they are correlated with the sound at
all lags of up to three seconds. Picture and sound that belong together stand out near lag zero.

This finds sound that was laid under a picture, or a mouth that follows another text. It does not
find talking heads that were driven by the very sound (they are in sync), and a face that listens
to somebody unseen is out of sync without any fake: so a probability of being out of sync is no
probability of being synthetic.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..preprocess import Pixels, Samples, shrink
from ..reasons import Code
from ..types import Evidence, Status
from .speech import CHUNK_SECONDS, find_speech

SOURCE = "lip-sync"
SIDE_PIXELS = 96
SPAN = 3.8
"""The crops of ``FacePreprocess(side_pixels=SIDE_PIXELS, span=SPAN)``; others are resized."""
STEP_SECONDS = 0.04
SAMPLE_RATE = 16000
FEATURES = ("openness", "depth", "contrast", "relief", "motion")

USED = ("openness", "contrast", "relief")
"""The features that :func:`measure_sync` joins."""
INTERCEPT, OF_PROMINENCE, OF_LENGTH, OF_BOTH = 0.089, -0.233, 4.555, -1.699
"""P(out of sync) at even odds is the logistic function of INTERCEPT + OF_PROMINENCE · prominence +
OF_LENGTH · ln(seconds) + OF_BOTH · prominence · ln(seconds). ``USED`` and these are what
``deepfake recipe lips`` prints.
"""
LONGEST_SECONDS = 16.0
"""Most seconds of speech that the fit knows; longer ones are read as these."""
MIN_SPEECH_SECONDS = 1.4
MIN_MOTION = 0.005
"""Least standard deviation of ``openness``, in shares of the brightness of the skin."""
IN_SYNC, OUT_OF_SYNC = 0.1, 0.9

_LEAST_DOUBT = 0.02
"""The fit rests on few speakers, so it is never believed beyond this."""
_NEAR_STEPS = 7
_FAR_STEPS = 75
_JOINED_PAUSE_STEPS = 37
_LOST_SECONDS = 0.25
_BAND_HERTZ = (1000.0, 3000.0)
_WINDOW_SAMPLES = 960
_TREND_STEPS = 25
_SLOW = frozenset(["openness", "contrast"])
_RATES = frozenset(["depth", "relief"])
_MOUTH = (slice(54, 84), slice(32, 64))
_INNER = (slice(58, 80), slice(40, 56))
_MIDDLE = (slice(54, 88), slice(42, 54))
_NOSE = (slice(36, 52), slice(28, 68))
_SKIN = (slice(36, 60), slice(28, 68))

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Steps(NamedTuple):
    """Features of a face at every 40 ms: ``values`` (steps, features), ``seen`` (steps,)."""

    second: float
    values: Floats
    seen: Flags


@dataclass(frozen=True, kw_only=True)
class Sync:
    """How well a mouth follows the speech.

    ``correlation`` (-1…1) is the best one within 0.28 s; ``lag_seconds`` is how much the picture
    lags behind the sound there; ``prominence`` is by how many standard deviations of the other
    lags it stands above their mean. ``out_of_sync`` is P(out of sync) at even odds.
    """

    correlation: float
    lag_seconds: float
    prominence: float
    speech_seconds: float
    out_of_sync: float


class LipTrack:
    """The mouth of one tracked face over time, in some numbers a step."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._values: list[tuple[float, ...]] = []
        self._before: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self._seconds)

    def add(self, seconds: float, crop: Pixels) -> None:
        """One more aligned RGB face (side, side, 3), later than the last; best 25 a second."""
        grey = _even_grey(crop)
        middle = grey[_MIDDLE].mean(axis=1)
        lapse = seconds - self._seconds[-1] if self._seconds else np.inf
        if self._before is not None and 0 < lapse < _LOST_SECONDS:
            change = np.abs(grey - self._before)
            motion = float(change[_MOUTH].mean() - change[_NOSE].mean()) * STEP_SECONDS / lapse
        else:
            motion = np.nan
        self._seconds.append(seconds)
        self._values.append(
            (
                -float(grey[_INNER].mean()),
                -float(middle.min()),
                float(np.abs(np.diff(grey[_MOUTH], axis=0)).mean()),
                float(middle.std()),
                motion,
            )
        )
        self._before = grey

    def steps(self) -> Steps:
        """The features at even steps; where the face was lost for long it counts as unseen."""
        times = np.array(self._seconds)
        if len(times) < 2:
            return Steps(0.0, np.zeros((0, len(FEATURES))), np.zeros(0, np.bool_))
        grid = np.arange(times[0], times[-1] + STEP_SECONDS / 2, STEP_SECONDS)
        columns = []
        for column in np.array(self._values).T:
            known = np.isfinite(column)
            columns.append(
                np.interp(grid, times[known], column[known]) if known.any() else 0 * grid
            )
        after = np.clip(np.searchsorted(times, grid), 1, len(times) - 1)
        seen = times[after] - times[after - 1] < _LOST_SECONDS
        return Steps(float(times[0]), np.stack(columns, axis=1), seen)


def _even_grey(crop: Pixels) -> npt.NDArray[np.float32]:
    """Slightly blurred brightness in shares of that of the skin, which cancels flicker."""
    import cv2

    if crop.shape[:2] != (SIDE_PIXELS, SIDE_PIXELS):
        crop = shrink(crop, SIDE_PIXELS, SIDE_PIXELS)
    grey = cv2.GaussianBlur(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (0, 0), 1.0)
    return np.asarray(grey / np.float32(np.median(grey[_SKIN]) + 1.0), np.float32)


def find_envelope(samples: Samples, *, steps: int, second: float = 0.0) -> Floats:
    """Cube root of the amplitude between 1 and 3 kHz of mono ``samples`` at 16 kHz, in windows of
    60 ms around ``second`` and every 40 ms after it (steps,).
    """
    hop = round(STEP_SECONDS * SAMPLE_RATE)
    start = round(second * SAMPLE_RATE) - _WINDOW_SAMPLES // 2
    length = hop * (steps - 1) + _WINDOW_SAMPLES
    part = samples[max(0, start) : max(0, start + length)].astype(np.float64)
    part = np.pad(part, (max(0, -start), max(0, length - max(0, -start) - len(part))))[:length]
    window = np.hanning(_WINDOW_SAMPLES)
    pitch = np.fft.rfftfreq(_WINDOW_SAMPLES, 1 / SAMPLE_RATE)
    inside = (pitch >= _BAND_HERTZ[0]) & (pitch <= _BAND_HERTZ[1])
    power = np.zeros(steps)
    for index in range(steps):
        spectrum = np.fft.rfft(window * part[index * hop : index * hop + _WINDOW_SAMPLES])
        power[index] = float((np.abs(spectrum[inside]) ** 2).sum())
    return np.asarray(power ** (1 / 6), np.float64)


def speech_steps(speech: Flags, *, steps: int, second: float = 0.0) -> Flags:
    """Which steps are speech or a pause of at most a second and a half in it (steps,).

    ``speech`` is what ``find_speech`` returned; silence before and after is never included.
    """
    times = second + STEP_SECONDS * np.arange(steps)
    chunks = (times / CHUNK_SECONDS).astype(int)
    spoken = np.zeros(steps, np.bool_)
    inside = (chunks >= 0) & (chunks < len(speech))
    spoken[inside] = speech[chunks[inside]]
    heard = np.flatnonzero(spoken)
    for left, right in pairwise(heard):
        if right - left <= _JOINED_PAUSE_STEPS:
            spoken[left:right] = True
    return spoken


def signals(steps: Steps) -> Floats:
    """The features as they are compared with the envelope (steps, features): openness and contrast
    without their slow trend, the rate of change of depth and relief, and motion.
    """
    columns = []
    for name, column in zip(FEATURES, steps.values.T, strict=True):
        if name in _SLOW:
            columns.append(_without_trend(column))
        else:
            rate = np.abs(np.gradient(column)) if name in _RATES else column
            columns.append(_smooth(rate))
    return np.stack(columns, axis=1)


def _without_trend(values: Floats) -> Floats:
    padded = np.pad(values, _TREND_STEPS // 2, mode="edge")
    return np.asarray(
        values - np.convolve(padded, np.full(_TREND_STEPS, 1 / _TREND_STEPS), "valid")
    )


def _smooth(values: Floats) -> Floats:
    kernel = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    return np.convolve(np.pad(values, 3, mode="edge"), kernel / kernel.sum(), "valid")


def correlate(values: Floats, envelope: Floats, inside: Flags) -> Floats:
    """Correlation of each signal (steps, signals) with the envelope (steps,) over the steps that
    are ``inside``, for every circular lag of the picture (lags, signals).
    """
    mask = inside.astype(np.float64)
    count = max(mask.sum(), 1.0)
    sound = (envelope - (envelope * mask).sum() / count) * mask
    length = len(envelope)
    values = values - values.mean(axis=0)

    def shift(picture: Floats, weights: Floats) -> Floats:
        product = np.fft.rfft(picture, axis=0) * np.conj(np.fft.rfft(weights))[:, None]
        return np.asarray(np.fft.irfft(product, length, axis=0))

    spread = shift(values**2, mask) - shift(values, mask) ** 2 / count
    power = np.maximum(spread, 0.0) * float((sound**2).sum())
    return np.asarray(shift(values, sound) / np.sqrt(np.maximum(power, 1e-12)))


def find_peak(curve: Floats) -> tuple[float, float, float]:
    """Best correlation near lag zero, its lag in steps, and its prominence, of a circular curve.

    NaN is the prominence of a curve that is too short to have other lags.
    """
    length = len(curve)
    near = np.arange(-_NEAR_STEPS, _NEAR_STEPS + 1)
    last = min(_FAR_STEPS, (length - 1) // 2)
    far = np.arange(_NEAR_STEPS + 1, last + 1)
    others = np.concatenate([curve[far], curve[-far]])
    best = int(near[np.argmax(curve[near])])
    top = float(curve[best])
    before, after = float(curve[best - 1]), float(curve[(best + 1) % length])
    bend = before - 2 * top + after
    lag = best + (0.5 * (before - after) / bend if bend < -1e-9 else 0.0)
    if len(others) < 2 * _NEAR_STEPS:
        return top, lag, float("nan")
    return top, lag, float((top - others.mean()) / max(float(others.std()), 1e-6))


def why_not_sync(track: LipTrack, samples: Samples, *, speech: Flags | None = None) -> Code | None:
    """The reason code for which :func:`measure_sync` returns None, or None when it does not."""
    found = _prepare(track, samples, speech)
    return found if isinstance(found, Code) else None


def measure_sync(track: LipTrack, samples: Samples, *, speech: Flags | None = None) -> Sync | None:
    """Whether the mouth of ``track`` follows the mono ``samples`` at 16 kHz, which begin with the
    picture. ``speech`` is ``find_speech(samples)``, for callers that have it already.

    None where speech and face are together for too short a time, or the mouth hardly moves.
    """
    found = _prepare(track, samples, speech)
    if isinstance(found, Code):
        return None
    steps, envelope, inside = found
    chosen = [FEATURES.index(name) for name in USED]
    curve = correlate(signals(steps)[:, chosen], envelope, inside).mean(axis=1)
    correlation, lag, prominence = find_peak(curve)
    seconds = float(inside.sum()) * STEP_SECONDS
    return Sync(
        correlation=correlation,
        lag_seconds=lag * STEP_SECONDS,
        prominence=prominence,
        speech_seconds=seconds,
        out_of_sync=out_of_sync(prominence, seconds),
    )


def out_of_sync(
    prominence: float,
    seconds: float,
    *,
    fitted: tuple[float, float, float, float] = (INTERCEPT, OF_PROMINENCE, OF_LENGTH, OF_BOTH),
) -> float:
    """P(out of sync) at even odds for a prominence measured over ``seconds`` of speech."""
    intercept, of_prominence, of_length, of_both = fitted
    length = float(np.log(min(seconds, LONGEST_SECONDS)))
    odds = intercept + of_prominence * prominence + (of_length + of_both * prominence) * length
    chance = 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
    return float(np.clip(chance, _LEAST_DOUBT, 1 - _LEAST_DOUBT))


def _prepare(
    track: LipTrack, samples: Samples, speech: Flags | None
) -> tuple[Steps, Floats, Flags] | Code:
    steps = track.steps()
    count = len(steps.seen)
    if not count:
        return Code.NO_FACE
    if not len(samples):
        return Code.NO_SOUND
    spoken = speech_steps(
        find_speech(samples) if speech is None else speech, steps=count, second=steps.second
    )
    inside = spoken & steps.seen
    if spoken.sum() * STEP_SECONDS < MIN_SPEECH_SECONDS:
        return Code.NO_SPEECH
    if inside.sum() * STEP_SECONDS < MIN_SPEECH_SECONDS or count < 4 * _NEAR_STEPS + 2:
        return Code.NO_FACE
    openness = steps.values[inside, FEATURES.index("openness")]
    if float(openness.std()) < MIN_MOTION:
        return Code.TOO_LITTLE_MOTION
    return steps, find_envelope(samples, steps=count, second=steps.second), inside


_WHY_NOT = {
    Code.NO_SOUND: "The video has no sound that lips could follow.",
    Code.NO_SPEECH: "There is too little speech to compare lips with.",
    Code.NO_FACE: "No face is in sight long enough while somebody speaks.",
}


def evidence(sync: Sync | None, reason: Code | None = None) -> Evidence:
    """Evidence of one face; ``reason`` is the code of :func:`why_not_sync` where there is no sync.

    There is never a score: being out of sync has many harmless causes, and most fakes are in sync.
    """
    if sync is None:
        code = reason or Code.NO_SPEECH
        claim = _WHY_NOT.get(code, code.meaning)
        return Evidence(source=SOURCE, status=Status.SKIPPED, reason=code, claim=claim)
    over = f"over {sync.speech_seconds:.0f} seconds of speech"
    if sync.out_of_sync >= OUT_OF_SYNC:
        claim = (
            f"The lips do not follow the sound ({over}): it may have been replaced or dubbed, or "
            "the voice is that of somebody else."
        )
    elif sync.out_of_sync <= IN_SYNC:
        claim = f"The lips follow the sound ({over}); that does not rule out a face made to fit it."
    else:
        claim = f"Whether the lips follow the sound cannot be told ({over})."
    details = {key: round(value, 4) for key, value in asdict(sync).items()}
    return Evidence(source=SOURCE, status=Status.OK, claim=claim, details=details)
