"""How well lip motion tells sound that belongs to a picture from sound that does not.

Genuine talking clips are compared with their own sound, with their own sound shifted by half a
second to three seconds, and with the sound of other clips. The features are chosen, and the
probability fitted, without the source that they are judged on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av.error
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from deepfake.content import lips as lipsync
from deepfake.content.faces import Finder, YunetFinder
from deepfake.content.lips import FEATURES, STEP_SECONDS, LipTrack
from deepfake.content.speech import find_speech
from deepfake.errors import MediaError
from deepfake.media.opening import open_media
from deepfake.preprocess import FacePreprocess

from ..card import markdown
from ..manifests import Item, read_manifest
from ..metrics import auc
from ..recalibrate import CLIP_VIEWS
from ..video.views import view_clip

WINDOW_SECONDS = (1.4, 3.0, 5.0, 8.0, 16.0)
CHOICE_SECONDS = (1.4, 3.0, 5.0)
SHIFT_SECONDS = (0.5, 0.8, 1.2, 1.8, 2.4, 3.0)
LEAST_SPEECH = 0.6
"""Least share of speech in a window."""
VARIANTS = 12
"""Most windows of other clips' sound that each window meets."""

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
_SILENCE = np.zeros(0, np.float32)
Sets = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Clip:
    """A clip with a face and sound as steps of 40 ms: ``signals`` (steps, features)."""

    name: str
    source: str
    label: int
    signals: Floats
    envelope: Floats
    inside: Flags


@dataclass(frozen=True)
class Window:
    """Curves (sounds, lags, features) of one stretch of picture: against its own sound, and against
    that of other clips.
    """

    source: str
    seconds: float
    own: Floats
    others: Floats


@dataclass(frozen=True)
class Trial:
    """One comparison of a picture with a sound; ``kind`` is own, shifted or other."""

    source: str
    seconds: float
    kind: str
    prominence: float


def run(data: Path, output: Path, *, finder: Finder | None = None) -> None:
    """Measure on ``data/video``, print tables, and keep the features of the clips in ``output``.

    Faces are found by ``finder``, or by the YuNet in ``weights`` beside ``data``.
    """
    finder = finder or YunetFinder(data.parent / "weights" / "yunet_s_dynamic.onnx")
    output.mkdir(parents=True, exist_ok=True)
    print(_tables({view: read_clips(data, output, finder, view=view) for view in CLIP_VIEWS}))


def read_clips(data: Path, output: Path, finder: Finder, *, view: str) -> list[Clip]:
    """Every clip of the manifest with a talking face, in one view; features are kept on disk."""
    clips = []
    items = read_manifest(data / "video", source_column="system")
    for item in tqdm(items, desc=view, unit="clip", disable=None):
        kept = output / f"{view}-{item.facts['sha256'][:16]}.npz"
        if not kept.exists():
            try:
                _store(item, kept, finder, view=view)
            except (MediaError, av.error.FFmpegError) as error:
                tqdm.write(f"left out: {error}")
                continue
        with np.load(kept) as stored:
            clip = Clip(
                item.path.stem,
                item.source,
                item.label,
                stored["signals"],
                stored["envelope"],
                stored["inside"],
            )
        if clip.inside.sum() * STEP_SECONDS >= lipsync.MIN_SPEECH_SECONDS:
            clips.append(clip)
    return clips


def _store(item: Item, kept: Path, finder: Finder, *, view: str) -> None:
    content = item.path.read_bytes()
    with open_media(content) as media:
        heard = media.info.has_audio
        samples = media.audio(sample_rate=16000, max_seconds=600) if heard else _SILENCE
    track = LipTrack()
    if heard:
        track = follow_face(view_clip(content, view=view), finder)
    steps = track.steps()
    count = len(steps.seen)
    signals, envelope = np.zeros((0, len(FEATURES))), np.zeros(0)
    inside = np.zeros(0, np.bool_)
    if count * STEP_SECONDS >= lipsync.MIN_SPEECH_SECONDS:
        speech = find_speech(samples)
        signals = lipsync.signals(steps)
        envelope = lipsync.find_envelope(samples, steps=count, second=steps.second)
        inside = lipsync.speech_steps(speech, steps=count, second=steps.second) & steps.seen
    np.savez(kept, signals=signals, envelope=envelope, inside=inside)


def follow_face(content: bytes, finder: Finder) -> LipTrack:
    """The face that is largest at first, followed to the nearest one from step to step."""
    align = FacePreprocess(side_pixels=lipsync.SIDE_PIXELS, span=lipsync.SPAN)
    track, place = LipTrack(), None
    with open_media(content) as media:
        for frame in media.frames(most=max(1, round((media.info.seconds or 0) / STEP_SECONDS))):
            faces = finder.find(frame.pixels)
            if not faces:
                continue
            face = faces[0]
            if place is not None:
                away = [float(np.hypot(*(other.points.mean(axis=0) - place))) for other in faces]
                face = faces[int(np.argmin(away))]
                if min(away) > face.width:
                    continue
            place = face.points.mean(axis=0)
            track.add(frame.seconds, align.crop(frame.pixels, face.points))
    return track


def cut_windows(clips: Sequence[Clip], *, seconds: float) -> list[Window]:
    """Stretches of speech of one length, as many as fit, with curves against every sound."""
    steps = round(seconds / STEP_SECONDS)
    places = [(clip, start) for clip in clips for start in _starts(clip, steps)]
    windows = []
    for clip, start in places:
        part = slice(start, start + steps)
        rivals = [(c, s) for c, s in places if c.name != clip.name]
        step = max(1, len(rivals) // VARIANTS)
        curves = [
            lipsync.correlate(
                clip.signals[part], other.envelope[s : s + steps], other.inside[s : s + steps]
            )
            for other, s in [(clip, start), *rivals[::step][:VARIANTS]]
        ]
        windows.append(Window(clip.source, seconds, np.array(curves[:1]), np.array(curves[1:])))
    return windows


def _starts(clip: Clip, steps: int) -> Iterator[int]:
    spoken = np.flatnonzero(clip.inside)
    first, last = int(spoken[0]), int(spoken[-1]) + 1
    count = (last - first) // steps
    for start in np.linspace(first, last - steps, count).astype(int) if count else ():
        if clip.inside[start : start + steps].mean() >= LEAST_SPEECH:
            yield int(start)


def make_trials(windows: Sequence[Window], used: Sequence[str]) -> list[Trial]:
    """Every window with its own sound, the same shifted, and other sounds, by the features used."""
    columns = [FEATURES.index(name) for name in used]
    trials = []
    for window in windows:

        def trial(kind: str, curve: Floats, window: Window = window) -> Trial:
            _, _, prominence = lipsync.find_peak(curve)
            return Trial(window.source, window.seconds, kind, prominence)

        own = window.own[0][:, columns].mean(axis=1)
        trials.append(trial("own", own))
        for shift in _shifts(len(own)):
            trials.append(trial("shifted", np.roll(own, shift)))
        trials += [trial("other", curve[:, columns].mean(axis=1)) for curve in window.others]
    return trials


def _shifts(steps: int) -> list[int]:
    """Shifts of the sound in steps that lie away from zero both ways round the window."""
    wanted = [round(seconds / STEP_SECONDS) for seconds in SHIFT_SECONDS]
    fitting = [shift for shift in wanted if shift <= steps - wanted[0]]
    return [*fitting, *(-shift for shift in fitting)]


def separation(trials: Sequence[Trial], *, against: str) -> float:
    """AUC of the prominence of own sounds over ``shifted`` or ``other`` ones; NaN without both."""
    chosen = [trial for trial in trials if trial.kind in ("own", against)]
    labels = np.array([float(trial.kind == "own") for trial in chosen])
    return auc(labels, np.array([trial.prominence for trial in chosen]))


def every_set() -> Sets:
    """All sets of features, the smallest first."""
    return tuple(
        chosen
        for count in range(1, len(FEATURES) + 1)
        for chosen in itertools.combinations(FEATURES, count)
    )


def choose_features(windows: Sequence[Window]) -> tuple[str, ...]:
    """The set with the best AUC, averaged over lengths and over both kinds of wrong sounds."""

    def power(used: tuple[str, ...]) -> float:
        values = []
        for seconds in CHOICE_SECONDS:
            trials = make_trials([w for w in windows if w.seconds == seconds], used)
            values += [separation(trials, against=kind) for kind in ("shifted", "other")]
        return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0

    return max(every_set(), key=power)


@dataclass(frozen=True)
class SyncProbability:
    """P(out of sync), as ``lipsync.out_of_sync`` reads it."""

    intercept: float
    of_prominence: float
    of_length: float
    of_both: float

    def __call__(self, trial: Trial) -> float:
        fitted = (self.intercept, self.of_prominence, self.of_length, self.of_both)
        return lipsync.out_of_sync(trial.prominence, trial.seconds, fitted=fitted)


def fit_probability(trials: Sequence[Trial]) -> SyncProbability:
    """A logistic fit in which in sync and out of sync weigh the same."""
    prominence = np.array([trial.prominence for trial in trials])
    length = np.log([trial.seconds for trial in trials])
    labels = np.array([int(trial.kind != "own") for trial in trials])
    fitted = LogisticRegression(C=100.0, class_weight="balanced", max_iter=2000).fit(
        np.stack([prominence, length, prominence * length], axis=1), labels
    )
    return SyncProbability(
        float(fitted.intercept_[0]), *(float(value) for value in fitted.coef_[0])
    )


def _tables(clips: dict[str, list[Clip]]) -> str:
    genuine = {view: [c for c in found if not c.label] for view, found in clips.items()}
    windows = {
        view: [w for seconds in WINDOW_SECONDS for w in cut_windows(found, seconds=seconds)]
        for view, found in genuine.items()
    }
    clean = windows[CLIP_VIEWS[0]]
    sources = sorted({window.source for window in clean})
    chosen = {
        source: choose_features([w for w in clean if w.source != source]) for source in sources
    }
    used = choose_features(clean)
    trials = {
        view: [
            trial
            for source in sources
            for trial in make_trials([w for w in found if w.source == source], chosen[source])
        ]
        for view, found in windows.items()
    }
    fits = {
        source: fit_probability([t for t in trials[CLIP_VIEWS[0]] if t.source != source])
        for source in sources
    }
    final = fit_probability(make_trials(clean, used))
    parts = [
        _power_table(trials, fits),
        _source_table(trials[CLIP_VIEWS[0]], chosen, fits),
        _clip_table(clips[CLIP_VIEWS[0]], used, final),
        f"USED = {used}",
        f"INTERCEPT, OF_PROMINENCE, OF_LENGTH, OF_BOTH = {final.intercept:.3f}, "
        f"{final.of_prominence:.3f}, {final.of_length:.3f}, {final.of_both:.3f}",
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _power_table(trials: dict[str, list[Trial]], fits: dict[str, SyncProbability]) -> str:
    rows = []
    for view, found in trials.items():
        for seconds in WINDOW_SECONDS:
            inside = [trial for trial in found if trial.seconds == seconds]
            if inside:
                rows.append([view, str(seconds), *_figures(inside, fits)])
    return markdown(["view", "seconds of speech", *_FIGURES], rows)


_FIGURES = (
    "windows",
    "AUC, shifted",
    "AUC, other sound",
    "own called out of sync",
    "own called in sync",
    "wrong called out of sync",
    "wrong called in sync",
)


def _figures(trials: Sequence[Trial], fits: dict[str, SyncProbability]) -> list[object]:
    """AUC, and how often either limit is passed by sounds that belong and by such that do not."""
    own = np.array([fits[t.source](t) for t in trials if t.kind == "own"])
    wrong = np.array([fits[t.source](t) for t in trials if t.kind != "own"])
    powers = [separation(trials, against=kind) for kind in ("shifted", "other")]
    shares = [
        float(np.mean(share))
        for chances in (own, wrong)
        for share in (chances >= lipsync.OUT_OF_SYNC, chances <= lipsync.IN_SYNC)
    ]
    return [len(own), *(f"{value:.3f}" for value in (*powers, *shares))]


def _source_table(
    trials: Sequence[Trial], chosen: dict[str, tuple[str, ...]], fits: dict[str, SyncProbability]
) -> str:
    rows = []
    for source, used in chosen.items():
        mine = [trial for trial in trials if trial.source == source]
        rows.append([source, ", ".join(used), *_figures(mine, fits)])
    return markdown(["source left out", "features chosen", *_FIGURES], rows)


def _clip_table(clips: Sequence[Clip], used: Sequence[str], final: SyncProbability) -> str:
    """Whole clips with their own sound, genuine and fake."""
    rows = []
    columns = [FEATURES.index(name) for name in used]
    for clip in sorted(clips, key=lambda clip: (clip.label, clip.source, clip.name)):
        curve = lipsync.correlate(clip.signals[:, columns], clip.envelope, clip.inside)
        top, lag, prominence = lipsync.find_peak(curve.mean(axis=1))
        seconds = float(clip.inside.sum()) * STEP_SECONDS
        chance = final(Trial(clip.source, seconds, "own", prominence))
        kind = "fake" if clip.label else "genuine"
        row = [kind, clip.source, clip.name, f"{seconds:.1f}", f"{top:.2f}"]
        rows.append([*row, f"{lag * STEP_SECONDS:+.2f}", f"{prominence:.1f}", f"{chance:.2f}"])
    head = ["label", "source", "clip", "seconds of speech", "correlation", "lag", "prominence"]
    return markdown([*head, "P(out of sync)"], rows)
