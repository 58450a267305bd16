"""The bank of clips: training bursts in couples, drawn once, kept on disk, used by every fold.

A couple is a genuine and a synthetic burst with the same moments, crop, retouching and compression.
It is a burst and its pseudo-fake, or it comes from two clips, or from two stills under one camera
move. So neither frame rate, size, codec nor caption tells the two apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from deepfake.preprocess import ClipPreprocess, Pixels

from ..manifests import balance
from .camera import move_camera
from .fakes import METHODS, Maker
from .footage import TAKE_FRAMES, TAKE_RATE, Clip
from .history import History

LEAST_CHANGE = 0.35
"""Grey levels by which a pseudo-fake must differ from its burst after their history."""

Stack = npt.NDArray[np.uint8]
EVERY_FOLD = -1


@dataclass(frozen=True)
class BankSettings:
    """``generated`` is the share of couples of a genuine and a generated clip, ``stills`` that of a
    genuine and a generated still under the same camera move; the rest are a burst and its
    pseudo-fake, ``moved`` of them on a genuine photo under a camera move. A source's size to the
    power of ``balance`` weights it.
    """

    couples: int
    seed: int
    generated: float = 0.35
    stills: float = 0.1
    moved: float = 0.3
    balance: float = 0.5


@dataclass(frozen=True)
class Bank:
    """``bursts`` (couples, 2, frames, side, side, 3), genuine first; ``folds`` (couples, 2) is -1
    for stills, which no fold holds out; ``methods`` (couples,) says how the fake was made.
    """

    bursts: Stack
    folds: npt.NDArray[np.int64]
    methods: tuple[str, ...]

    @property
    def kinds(self) -> npt.NDArray[np.str_]:
        """Of each couple: ``pseudo``, ``still`` or ``generated`` (couples,)."""
        kinds = [
            name if name == "still" else "pseudo" if name in METHODS else "generated"
            for name in self.methods
        ]
        return np.array(kinds)

    def without(self, fold: int | None, *, generated: float = 1.0) -> npt.NDArray[np.int64]:
        """Couples of which neither burst belongs to ``fold`` (None: all), and of those with a
        generated clip only a share, the same ones each time.
        """
        seen = (self.folds != (-2 if fold is None else fold)).all(axis=1)
        few = np.random.default_rng(5).random(len(self.methods)) < generated
        return np.flatnonzero(seen & (few | (self.kinds != "generated")))


@dataclass(frozen=True)
class Take:
    """A take of one clip; ``frames`` reads it (frames, side, side, 3)."""

    frames: Callable[[], Stack]
    clip: Clip
    face: bool


@dataclass(frozen=True)
class Still:
    """A picture of ``source``; ``pixels`` reads it."""

    source: str
    pixels: Callable[[], Pixels]


class Drawer:
    """Draws couple number ``i``, the same for the same settings."""

    def __init__(
        self,
        takes: Sequence[Take],
        stills: tuple[Sequence[Still], Sequence[Still]],
        makers: Mapping[str, Maker],
        *,
        preprocess: ClipPreprocess,
        settings: BankSettings,
    ) -> None:
        self.stills, self.makers = stills, makers
        self.preprocess, self.settings = preprocess, settings
        self.classes = [[t for t in takes if t.clip.label == label] for label in (0, 1)]
        self.weights = [
            balance([(t.clip.source, t.clip.path) for t in chosen], power=settings.balance)
            for chosen in self.classes
        ]
        self.still_weights = [
            balance(
                [(still.source, str(n)) for n, still in enumerate(chosen)], power=settings.balance
            )
            for chosen in stills
        ]

    def draw(self, number: int) -> tuple[Stack, tuple[int, int], str]:
        """Both bursts (2, frames, side, side, 3), their folds, and how the fake was made."""
        rng = np.random.default_rng([self.settings.seed, number])
        kind = rng.random()
        if kind < self.settings.generated:
            return self._two_clips(rng)
        if kind < self.settings.generated + self.settings.stills:
            move = int(rng.integers(2**31))
            pair = [
                move_camera(self._still(label, rng), self.preprocess.frames, seed=move)
                for label in (0, 1)
            ]
            history = History.draw(rng, face=False, preprocess=self.preprocess)
            return self._finish(history, pair), (EVERY_FOLD, EVERY_FOLD), "still"
        return self._pseudo(rng)

    def _two_clips(self, rng: np.random.Generator) -> tuple[Stack, tuple[int, int], str]:
        fake = self._take(1, rng)
        genuine = self._take(0, rng)
        while genuine.face != fake.face:
            genuine = self._take(0, rng)
        moments = draw_moments(rng, self.preprocess)
        history = History.draw(rng, face=fake.face, preprocess=self.preprocess)
        pair = [take.frames()[moments] for take in (genuine, fake)]
        folds = (genuine.clip.fold, fake.clip.fold)
        return self._finish(history, pair), folds, fake.clip.source

    def _pseudo(self, rng: np.random.Generator) -> tuple[Stack, tuple[int, int], str]:
        while True:
            face, fold = False, EVERY_FOLD
            if rng.random() < self.settings.moved:
                burst = move_camera(
                    self._still(0, rng), self.preprocess.frames, seed=int(rng.integers(2**31))
                )
            else:
                take = self._take(0, rng)
                burst, face, fold = take.frames(), take.face, take.clip.fold
                burst = burst[draw_moments(rng, self.preprocess)]
            method = str(rng.choice(list(self.makers), p=self._shares()))
            fake = self.makers[method](burst, rng, face=face)
            history = History.draw(rng, face=face, preprocess=self.preprocess)
            couple = self._finish(history, [burst, fake])
            if np.abs(couple[0].astype(np.int16) - couple[1]).mean() > LEAST_CHANGE:
                return couple, (fold, fold), method

    def _shares(self) -> npt.NDArray[np.float64]:
        """The slow autoencoder makes a third of what each other maker does."""
        weights = np.array([1 / 3 if name == "autoencoder" else 1.0 for name in self.makers])
        return np.asarray(weights / weights.sum(), np.float64)

    def _take(self, label: int, rng: np.random.Generator) -> Take:
        chosen = self.classes[label]
        return chosen[int(rng.choice(len(chosen), p=self.weights[label]))]

    def _still(self, label: int, rng: np.random.Generator) -> Pixels:
        chosen = self.stills[label]
        return chosen[int(rng.choice(len(chosen), p=self.still_weights[label]))].pixels()

    @staticmethod
    def _finish(history: History, pair: Sequence[Stack]) -> Stack:
        return np.stack([history(burst) for burst in pair])


def draw_moments(rng: np.random.Generator, preprocess: ClipPreprocess) -> npt.NDArray[np.int64]:
    """Frames of a take for one burst: a step apart, at times with shaken, skipped or repeated ones,
    in genuine and synthetic bursts alike, so that the cadence of a source tells nothing.
    """
    step = preprocess.step_seconds * TAKE_RATE
    places = np.arange(preprocess.frames) * step + rng.uniform(0, step)
    kind = rng.random()
    if kind < 0.4:
        places += rng.uniform(-0.5, 0.5, len(places)) * step * rng.uniform(0, 0.8)
    index = int(rng.integers(1, len(places)))
    if 0.25 < kind < 0.5:
        places[index:] -= step
    elif 0.5 < kind < 0.6:
        places[index:] += step * 0.6
    return np.sort(places.round().clip(0, TAKE_FRAMES - 1)).astype(np.int64)


def build_bank(
    open_drawer: Callable[[BankSettings], Drawer],
    *,
    settings: BankSettings,
    preprocess: ClipPreprocess,
    folder: Path,
) -> Bank:
    """Draw every couple into ``folder``, or read what is there; an interrupted bank goes on, and a
    complete one needs no drawer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    side = preprocess.side_pixels
    shape = (settings.couples, 2, preprocess.frames, side, side, 3)
    facts_path, path = folder / "facts.jsonl", folder / "bursts.npy"
    head = json.dumps([*shape, asdict(settings)])
    lines = facts_path.read_text(encoding="utf-8").splitlines() if facts_path.exists() else []
    if not lines or lines[0] != head or not path.exists():
        lines = [head]
        facts_path.write_text(head + "\n", encoding="utf-8")
        bursts = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    else:
        bursts = np.lib.format.open_memmap(path, mode="r+")
    with facts_path.open("a", encoding="utf-8") as file:
        numbers = range(len(lines) - 1, settings.couples)
        drawer = open_drawer(settings) if numbers else None
        for number in tqdm(numbers, desc="bank", unit="couple", mininterval=5):
            assert drawer is not None  # there are numbers
            bursts[number], folds, method = drawer.draw(number)
            lines.append(json.dumps([*folds, method]))
            file.write(lines[-1] + "\n")
            file.flush()
    rows = [json.loads(line) for line in lines[1:]]
    return Bank(bursts, np.array([row[:2] for row in rows]), tuple(row[2] for row in rows))
