"""Training material of the ``audio`` slot: clips, folds, channels and the pool of windows.

The pool is made once and shared by all folds and networks: rounds of windows, each through a random
channel whose distribution is the same for every class, corpus and system. A bona fide clip and its
copy go through the very same channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from deepfake import perturb
from deepfake.errors import SettingsError
from deepfake.preprocess import AudioPreprocess, Samples

from .audio_fakes import Stored, maker_of, store
from .manifests import Item, read_manifest

SAMPLE_RATE = perturb.SAMPLE_RATE
SMALLEST_SOURCE = 10
IN_TIME = frozenset({"wave_codec", "phase_changes"})


@dataclass(frozen=True)
class Clip:
    """One recording: where it comes from, the fold that it is held out with, and its samples."""

    item: Item
    source: str
    group: str
    fold: int
    stored: Stored

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


def read_clips(folder: Path, *, folds: Sequence[dict[str, Any]]) -> list[Clip]:
    """All clips of ``folder/manifest.tsv``.

    ``folds`` lists tables with ``name`` and ``folders``: what is held out together. The source of a
    bona fide clip is its corpus, that of a fake its system; systems with fewer than 10 clips of one
    folder are counted together. Raises ``SettingsError`` for a folder that is in no fold.
    """
    items = read_manifest(folder, source_column="system")
    homes = {name: index for index, fold in enumerate(folds) for name in fold["folders"]}
    counts = Counter((item.path.parent.name, item.label, item.source) for item in items)
    systems = Counter((place, label) for place, label, _ in counts)
    clips = []
    for item in tqdm(items, desc="reading sound", mininterval=5):
        place = item.path.parent.name
        if place not in homes:
            raise SettingsError(f"folder {place}: in no fold", hint="name it in the configuration")
        source = item.source
        if item.label and systems[place, 1] > 1:
            few = counts[place, 1, item.source] < SMALLEST_SOURCE
            source = f"{place}: {'others' if few else source}"
        source = source if item.label else {"gt": "WaveGrad page"}.get(source, source)
        clips.append(
            Clip(
                item=replace(item, source=source),
                source=source,
                group=str(folds[homes[place]]["name"]),
                fold=homes[place],
                stored=read_samples(item.path),
            )
        )
    return clips


def change_channel(
    samples: Samples, *, rng: np.random.Generator, babble: Sequence[Clip], light_share: float = 0.6
) -> Samples:
    """A random microphone, room, band, codec and line, drawn without a look at the class.

    A share of the windows meets only what leaves fine traces in place: a hiss that hides noise
    floors, an equaliser, a wide band limit and a good codec.
    """
    if rng.random() < 0.3:
        samples = perturb.change_speed(samples, factor=rng.uniform(0.9, 1.1))
    if rng.random() < 0.25:
        samples = perturb.gate_quiet(
            samples, below_db=rng.uniform(18, 40), keep=rng.choice([0.0, 0.05, 0.2])
        )
    if rng.random() < light_share:
        return _change_lightly(samples, rng=rng)
    if rng.random() < 0.2:
        samples = perturb.boost_convolutive(samples, rng=rng)
    if rng.random() < 0.3:
        samples = perturb.add_room(
            samples,
            decay_seconds=rng.uniform(0.1, 0.7),
            direct_db=rng.uniform(-3, 12),
            rng=rng,
        )
    samples = _add_some_noise(samples, rng=rng, babble=babble)
    if rng.random() < 0.1:
        samples = perturb.boost_impulsive(samples, rng=rng)
    if rng.random() < 0.08:
        samples = perturb.clip_peaks(samples, share=rng.uniform(0.001, 0.03))
    if rng.random() < 0.4:
        samples = perturb.filter_audio(samples, perturb.notches(rng, count=3))
    if rng.random() < 0.45:
        samples = perturb.limit_band(
            samples,
            low_hz=rng.uniform(20, 300),
            high_hz=rng.choice([3400, 3800, rng.uniform(3000, 7900), rng.uniform(5000, 7900)]),
            slope_octaves=rng.uniform(0.02, 0.3),
        )
    if rng.random() < 0.08:
        samples = perturb.resample_and_back(samples, sample_rate=int(rng.integers(7000, 15000)))
    return _code_somehow(samples, rng=rng)


def _change_lightly(samples: Samples, *, rng: np.random.Generator) -> Samples:
    if rng.random() < 0.25:
        samples = perturb.add_room(
            samples, decay_seconds=rng.uniform(0.1, 0.5), direct_db=rng.uniform(3, 15), rng=rng
        )
    samples = perturb.add_noise(
        samples, snr_db=rng.uniform(25, 55), tilt=rng.uniform(0, 1.2), rng=rng
    )
    if rng.random() < 0.5:
        samples = perturb.filter_audio(samples, perturb.notches(rng, count=3))
    if rng.random() < 0.4:
        samples = perturb.limit_band(
            samples, low_hz=rng.uniform(20, 150), high_hz=rng.uniform(5000, 7900)
        )
    if rng.random() < 0.2:
        samples = perturb.code_audio(
            samples, codec=str(rng.choice(["mp3", "aac", "opus"])), bit_rate=64000
        )
    return samples


def make_round(
    clips: Sequence[Clip],
    copies: dict[str, dict[int, Stored]],
    *,
    number: int,
    preprocess: AudioPreprocess,
    seed: int,
) -> npt.NDArray[np.int16]:
    """One round of the pool: every clip, and after each bona fide one a copy of it."""
    babble = [clip for clip in clips if not clip.item.label]
    rows, bona_fide = [], -1
    for index, clip in enumerate(tqdm(clips, desc=f"pool round {number}", mininterval=5)):
        versions = [clip.samples]
        if not clip.item.label:
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
            piece = change_channel(piece, rng=rng, babble=babble)
            window = preprocess(piece, max_windows=1).batch[0]
            rows.append(store(np.clip(window, -1, 1)))
    return np.stack(rows)


def make_pool(
    clips: Sequence[Clip],
    copies: dict[str, dict[int, Stored]],
    *,
    rounds: int,
    preprocess: AudioPreprocess,
    folder: Path,
    seed: int,
) -> Pool:
    """All rounds, each kept in ``folder`` as soon as it is made and read back from there."""
    windows, places, makers, pairs = [], [], [], []
    for number in range(rounds):
        path = folder / f"pool_{number:02}.npy"
        if not path.exists():
            made = make_round(clips, copies, number=number, preprocess=preprocess, seed=seed)
            partial = folder / "pool.partial.npy"
            np.save(partial, made)
            partial.replace(path)
        windows.append(np.load(path, allow_pickle=False))
        bona_fide = -1
        for index, clip in enumerate(clips):
            places.append(index)
            makers.append("")
            pairs.append(-1)
            if not clip.item.label:
                bona_fide += 1
                places.append(index)
                makers.append(maker_of(sorted(copies), sound=bona_fide, number=number))
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


def _add_some_noise(
    samples: Samples, *, rng: np.random.Generator, babble: Sequence[Clip]
) -> Samples:
    manner = rng.random()
    if manner < 0.35:
        return perturb.add_noise(
            samples, snr_db=rng.uniform(8, 45), tilt=rng.uniform(0, 1.2), rng=rng
        )
    if manner < 0.5:
        return perturb.boost_stationary(samples, rng=rng)
    if manner < 0.6:
        voices = [babble[int(i)].samples for i in rng.integers(len(babble), size=4)]
        crowd = np.sum([np.resize(voice, len(samples)) for voice in voices], axis=0)
        return perturb.mix(samples, crowd.astype(np.float32), snr_db=rng.uniform(10, 30))
    return samples


def _code_somehow(samples: Samples, *, rng: np.random.Generator) -> Samples:
    peak = float(np.abs(samples).max())
    samples = samples * np.float32(rng.uniform(0.1, 0.95) / max(peak, 1e-6))
    manner = rng.random()
    if manner < 0.36:
        name = str(rng.choice(["mp3", "mp3", "aac", "opus", "opus", "amr"]))
        bit_rate = int(rng.choice(perturb.AUDIO_CODECS[name].bit_rates))
        samples = perturb.code_audio(samples, codec=name, bit_rate=bit_rate)
    elif manner < 0.42:
        samples = perturb.code_mu_law(samples)
    if rng.random() < 0.06:
        samples = perturb.drop_packets(
            samples, share=rng.uniform(0.01, 0.1), rng=rng, repeat=bool(rng.integers(2))
        )
    return samples
