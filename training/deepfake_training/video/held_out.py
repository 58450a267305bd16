"""What networks of the ``video`` slot say of sources that they never saw: of clips, of pseudo-fakes
and of minutes with an insert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deepfake.networks.clips import ClipNet
from deepfake.preprocess import ClipPreprocess, warp

from ..files import write_arrays
from ..inserts import INSERT_SECONDS, RECORDING_SECONDS, RECORDINGS_PER_FOLD, SPAN_WINDOWS
from ..metrics import separation
from ..records import FileLogits, LongLogits, round_logits
from .bank import Take
from .fakes import Maker, Stack
from .fit import FindFeatures, Floats, judge_bursts
from .footage import HOP_SECONDS, KINDS, TAKE_MARGIN, TAKE_RATE, TAKE_SIDE, Clip
from .material import Material

TAKES_PER_CLIP = 2
UNTESTED = ("autoencoder",)
"""Makers that are too slow to be tested on every clip."""


@dataclass(frozen=True)
class ClipLogits:
    """The logits of all bursts of one clip in one view, the ``seconds`` at which they begin, and
    for each its index in ``KINDS``.
    """

    clip: Clip
    view: str
    logits: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.int64]

    def moments(self) -> tuple[float, ...]:
        """One logit for each second, in the order of time, as in use: that of the whole picture,
        or its mean with that of the face where one was followed.
        """
        made = []
        for second in np.unique(self.seconds):
            here = self.seconds == second
            parts = [self.logits[here & (self.kinds == kind)] for kind in range(len(KINDS))]
            made.append(float(np.mean([part.mean() for part in parts if len(part)])))
        return round_logits(made)


class Judge:
    """Judges clips; bursts and their features, which no fold changes, stay in ``folder``."""

    def __init__(self, material: Material, find_features: FindFeatures, *, folder: Path) -> None:
        self.material, self.find_features, self.folder = material, find_features, folder
        folder.mkdir(parents=True, exist_ok=True)

    def judge_clip(self, network: ClipNet, clip: Clip, *, view: str) -> ClipLogits:
        """The logits of all bursts of a clip in a view."""
        bursts = self.material.footage.bursts(clip, view=view)
        logits: list[float] = []
        if len(bursts.frames):
            logits = judge_bursts(network, bursts.frames, self._features(clip, view, bursts.frames))
        return ClipLogits(clip, view, np.array(logits), bursts.seconds, bursts.kinds)

    def judge_pseudo(self, network: ClipNet, clip: Clip) -> dict[str, list[float]]:
        """Logits of a genuine clip's bursts by the maker that changed them."""
        path = self._path(clip, "pseudo-bursts")
        if not path.exists():
            takes = self.material.takes([clip])
            made = draw_pseudo_bursts(
                takes, self.material.makers, preprocess=self.material.preprocess, seed=1
            )
            write_arrays(path, names=np.array(list(made)), bursts=np.stack(list(made.values())))
        with np.load(path, allow_pickle=False) as stored:
            names, bursts = stored["names"], stored["bursts"]
        whole, count = bursts.reshape(-1, *bursts.shape[2:]), bursts.shape[1]
        logits = judge_bursts(network, whole, self._features(clip, "pseudo", whole))
        return {str(name): logits[i * count : (i + 1) * count] for i, name in enumerate(names)}

    def _features(self, clip: Clip, name: str, bursts: Stack) -> Floats:
        path = self._path(clip, name)
        if not path.exists():
            write_arrays(path, features=self.find_features(bursts))
        with np.load(path, allow_pickle=False) as stored:
            features: Floats = stored["features"]
        return features

    def _path(self, clip: Clip, name: str) -> Path:
        return self.folder / f"{clip.item.facts['sha256'][:20]}-{name}.npz"


def to_record(judged: ClipLogits) -> FileLogits:
    """A clip as the record that calibration reads."""
    clip = judged.clip
    return FileLogits(
        path=clip.path,
        label=clip.label,
        source=clip.source,
        group=clip.group,
        fold=clip.fold,
        view=judged.view,
        logits=judged.moments(),
    )


def draw_pseudo_bursts(
    takes: Sequence[Take], makers: Mapping[str, Maker], *, preprocess: ClipPreprocess, seed: int
) -> dict[str, Stack]:
    """Bursts of at most two takes of a genuine clip, as they are (``genuine``) and by every maker
    but the untested: (bursts, frames, side, side, 3), with no history.
    """
    chosen = [takes[i] for i in np.linspace(0, len(takes) - 1, TAKES_PER_CLIP).round().astype(int)]
    chosen = list(dict.fromkeys(chosen))
    step = round(preprocess.step_seconds * TAKE_RATE)
    rng = np.random.default_rng(seed)
    made: dict[str, list[Stack]] = {}
    for take in chosen:
        burst = take.frames()[np.arange(preprocess.frames) * step]
        made.setdefault("genuine", []).append(
            _crop_middle(burst, face=take.face, preprocess=preprocess)
        )
        for method in [name for name in makers if name not in UNTESTED]:
            fake = makers[method](burst, rng, face=take.face)
            made.setdefault(method, []).append(
                _crop_middle(fake, face=take.face, preprocess=preprocess)
            )
    return {method: np.stack(bursts) for method, bursts in made.items()}


def _crop_middle(burst: Stack, *, face: bool, preprocess: ClipPreprocess) -> Stack:
    side = preprocess.side_pixels
    length = TAKE_SIDE / TAKE_MARGIN if face else float(TAKE_SIDE)
    corner, scale = (TAKE_SIDE - length) / 2, side / length
    matrix = np.array([[scale, 0, -scale * corner], [0, scale, -scale * corner]], np.float64)
    return np.stack([warp(pixels, matrix, side) for pixels in burst])


def pseudo_auc(logits: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """AUC of each method's clips against the untouched ones, by the mean logit of a clip.

    Each element holds one genuine clip's logits by method, ``genuine`` among them; all must come
    from networks that saw none of the clips.
    """
    table = {}
    means = [{name: float(np.mean(values)) for name, values in one.items()} for one in logits]
    for method in means[0]:
        if method != "genuine":
            fakes, genuine = ([m[name] for m in means] for name in (method, "genuine"))
            table[method] = round(separation(fakes, genuine), 3)
    return table


def join_minutes(judged: Sequence[ClipLogits], *, fold: int, seed: int) -> list[LongLogits]:
    """Minutes of genuine clips of one source of ``fold``, every other one with
    three seconds of a left-out system.

    A burst lies within one shot and begins every second, so that the bursts of joined clips are
    those of the clips one after the other.
    """
    moments: dict[tuple[int, str], list[tuple[float, ...]]] = {}
    for one in judged:
        if one.clip.fold == fold and one.view == "clean" and len(one.logits):
            clips = moments.setdefault((one.clip.label, one.clip.source), [])
            clips.append(one.moments())
    genuine = {source: clips for (label, source), clips in moments.items() if not label}
    fakes = {source: clips for (label, source), clips in moments.items() if label}
    made = []
    count, length = round(RECORDING_SECONDS / HOP_SECONDS), round(INSERT_SECONDS / HOP_SECONDS)
    for number in range(RECORDINGS_PER_FOLD):
        rng = np.random.default_rng((seed, fold, number))
        source = str(rng.choice(sorted(genuine)))
        logits: list[float] = []
        while len(logits) < count:
            logits += genuine[source][int(rng.integers(len(genuine[source])))]
        system, place = str(rng.choice(sorted(fakes))) if number % 2 else "", -1
        if system:
            place = int(rng.integers(2, count - length - 2))
            fake = fakes[system][int(rng.integers(len(fakes[system])))]
            first = int(rng.integers(max(1, len(fake) - length + 1)))
            logits[place : place + length] = np.resize(fake[first : first + length], length)
        made.append(
            LongLogits(
                fold=fold,
                corpus=source,
                system=system,
                insert=place * HOP_SECONDS if system else -1.0,
                hop_seconds=HOP_SECONDS,
                window_seconds=INSERT_SECONDS - (SPAN_WINDOWS - 1) * HOP_SECONDS,
                logits=tuple(logits[:count]),
            )
        )
    return made
