"""Training material of the ``audio`` slot: clips, folds and the pool of windows.

The pool is made once and shared by all folds and networks: rounds of windows, each through a random
channel whose distribution is the same for every class, corpus and system. A bona fide clip and its
copy go through the very same channel.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed

from deepfake.errors import SettingsError
from deepfake.preprocess import AudioPreprocess, Samples

from .. import perturb
from ..files import write_array
from ..manifests import Item, OfItem, read_manifest
from .channels import change_channel
from .fakes import Stored, maker_of, store

SAMPLE_RATE = perturb.SAMPLE_RATE
SMALLEST_SOURCE = 10
RESERVED_ONE_IN = 5
MANY_SPEAKERS = 25
IN_TIME = frozenset({"wave_codec", "phase_changes", "mel_vocoder", "mel_generator"})
SPEAKER = re.compile(r"(?:LibriSpeech|VCTK)[^/]*?__(p?\d+)[-_]")


@dataclass(frozen=True, kw_only=True)
class SpeechFold:
    """Folders that are held out together; copies by ``unseen_makers`` of any clip are so too."""

    name: str
    folders: tuple[str, ...]
    unseen_makers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clip(OfItem):
    """One recording: where it comes from, the fold that it is held out with, and its samples.

    A ``reserved`` one is bona fide and left out of every fold, so that each fold's model has
    unheard clips of the corpora that it did hear.
    """

    group: str
    fold: int
    stored: Stored
    reserved: bool = False

    @property
    def samples(self) -> Samples:
        return self.stored.astype(np.float32) / np.float32(32768)


@dataclass(frozen=True)
class Pool:
    """Windows int16 (rows, samples) with what each row is.

    ``clips[row]`` is the clip's place in the list, ``makers[row]`` the name of the copy's maker or
    "" for the clip itself, ``pairs[row]`` the row of the bona fide original, or -1.
    """

    windows: list[npt.NDArray[np.int16]]
    clips: npt.NDArray[np.int64]
    makers: npt.NDArray[np.str_]
    pairs: npt.NDArray[np.int64]

    def batch(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        size = len(self.windows[0])
        picked = np.stack([self.windows[row // size][row % size] for row in rows])
        return picked.astype(np.float32) / np.float32(32768)


def read_samples(path: Path) -> Stored:
    """A mono 16 kHz file as int16."""
    pieces = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        for frame in (*container.decode(audio=0), None):
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
    return np.asarray(np.concatenate(pieces), dtype=np.int16)


def read_clips(folders: Iterable[Path], *, folds: Sequence[SpeechFold]) -> list[Clip]:
    """All clips of the ``manifest.tsv`` of every folder.

    ``folds`` lists what is held out together. The source of a bona fide clip is its corpus, that of
    a fake its system; systems with fewer than 10 clips of one folder are counted together. Raises
    ``SettingsError`` for a folder that is in no fold.
    """
    items = [i for folder in folders for i in read_manifest(folder, source_column="system")]
    homes = {name: index for index, fold in enumerate(folds) for name in fold.folders}
    counts = Counter((item.path.parent.name, item.label, item.source) for item in items)
    systems = Counter((place, label) for place, label, _ in counts)
    speakers = [_speaker(item) for item in items]
    known = Counter(
        source for source, _ in set(zip((i.source for i in items), speakers, strict=True))
    )
    clips = []
    for item, speaker in zip(items, speakers, strict=True):
        place = item.path.parent.name
        if place not in homes:
            raise SettingsError(f"folder {place}: in no fold", hint="name it in the configuration")
        source = item.source
        if item.label and systems[place, 1] > 1:
            few = counts[place, 1, item.source] < SMALLEST_SOURCE
            source = f"{place}: {'others' if few else source}"
        source = source if item.label else {"gt": "WaveGrad page"}.get(source, source)
        unit = speaker if known[item.source] > MANY_SPEAKERS else item.path.name
        clips.append(
            Clip(
                item=replace(item, source=source),
                group=folds[homes[place]].name,
                fold=homes[place],
                stored=read_samples(item.path),
                reserved=not item.label and zlib.crc32(unit.encode()) % RESERVED_ONE_IN == 0,
            )
        )
    return clips


def _speaker(item: Item) -> str:
    """The speaker that a manifest or a file name states, or the file's own name."""
    found = SPEAKER.search(item.path.name)
    return item.facts.get("speaker") or (found[1] if found else item.path.name)


def make_round(
    clips: Sequence[Clip],
    copies: dict[str, dict[int, Stored]],
    *,
    number: int,
    preprocess: AudioPreprocess,
    seed: int,
) -> npt.NDArray[np.int16]:
    """One round of the pool: every clip, and after each bona fide one a copy of it."""
    babble = [clip for clip in clips if not clip.label]
    rows, bona_fide = [], -1
    for index, clip in enumerate(clips):
        versions = [clip.samples]
        if not clip.label:
            bona_fide += 1
            maker = maker_of(sorted(copies), sound=bona_fide, number=number)
            copy = copies[maker][bona_fide].astype(np.float32) / np.float32(32768)
            rng = np.random.default_rng((seed, number, index, 1))
            if maker in IN_TIME and rng.random() < 0.3:
                copy = keep_band(copy, original=clip.samples, rng=rng)
            versions.append(copy)
        for version in versions:
            rng = np.random.default_rng((seed, number, index))
            piece = cut_randomly(version, preprocess=preprocess, rng=rng)
            crowd = [babble[int(i)].samples for i in rng.integers(len(babble), size=4)]
            piece = change_channel(piece, rng=rng, babble=crowd)
            window = preprocess(piece, max_windows=1).batch[0]
            rows.append(store(np.clip(window, -1, 1)))
    return np.stack(rows)


def make_pool(
    clips: Sequence[Clip],
    read_copies: Callable[[], dict[str, dict[int, Stored]]],
    *,
    names: Sequence[str],
    rounds: int,
    preprocess: AudioPreprocess,
    folder: Path,
    seed: int,
    workers: int = 1,
) -> Pool:
    """All rounds, each kept in ``folder`` as soon as it is made and read from there as needed.

    ``names`` are the sorted names of the makers, whose copies are only read where a round lacks.
    """
    paths = [folder / f"pool_{number:02}.npy" for number in range(rounds)]

    lacking = [number for number, path in enumerate(paths) if not path.exists()]
    copies = read_copies() if lacking else {}

    def prepare(number: int) -> None:
        made = make_round(clips, copies, number=number, preprocess=preprocess, seed=seed)
        write_array(paths[number], made)

    Parallel(n_jobs=workers, verbose=10 if lacking else 0)(map(delayed(prepare), lacking))
    windows, places, makers, pairs = [], [], [], []
    for number, path in enumerate(paths):
        windows.append(np.load(path, mmap_mode="r", allow_pickle=False))
        bona_fide = -1
        for index, clip in enumerate(clips):
            places.append(index)
            makers.append("")
            pairs.append(-1)
            if not clip.label:
                bona_fide += 1
                places.append(index)
                makers.append(maker_of(names, sound=bona_fide, number=number))
                pairs.append(len(places) - 2)
    return Pool(windows, np.array(places), np.array(makers), np.array(pairs))


def cut_randomly(
    samples: Samples, *, preprocess: AudioPreprocess, rng: np.random.Generator
) -> Samples:
    """A random part, mostly a little longer than one window, sometimes shorter."""
    window = preprocess.window_samples
    length = round(window * (rng.uniform(0.5, 1.0) if rng.random() < 0.15 else 1.15))
    start = int(rng.integers(max(1, len(samples) - length + 1)))
    return samples[start : start + length]


def keep_band(copy: Samples, *, original: Samples, rng: np.random.Generator) -> Samples:
    """A copy that is in time with its original gets the original's low or high band back."""
    edge = rng.uniform(1500, 5500)
    low, high = (copy, original) if rng.random() < 0.5 else (original, copy)
    below = perturb.limit_band(low, low_hz=0, high_hz=edge, slope_octaves=0.05)
    above = high - perturb.limit_band(high, low_hz=0, high_hz=edge, slope_octaves=0.05)
    return (below + above).astype(np.float32)
