"""Whole recordings in every view, read as the product reads them, and minutes with an insert."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from tqdm import tqdm

from deepfake.content.inputs import Judge, Sound, read_sound
from deepfake.preprocess import Samples

from ..export import compile_graph
from ..files import read_lines, write_lines
from ..known import Known
from ..perturb import (
    AUDIO_VIEWS,
    SAMPLE_RATE,
    add_noise,
    add_room,
    change_speed,
    code_audio,
    limit_band,
)
from ..records import round_logits
from .recordings import UNREADABLE, read_samples

MOST_SECONDS = 20
_BLOCK = 16
"""Files after which what is known so far is kept."""


def _noise(samples: Samples) -> Samples:
    return add_noise(samples, snr_db=20, rng=np.random.default_rng(len(samples)))


def _room(samples: Samples) -> Samples:
    rng = np.random.default_rng(len(samples))
    return add_room(samples, decay_seconds=0.5, direct_db=0, rng=rng)


VIEWS: Mapping[str, Callable[[Samples], Samples]] = {
    **AUDIO_VIEWS,
    "mp3_32k": lambda samples: code_audio(samples, codec="mp3", bit_rate=32000),
    "opus_12k": lambda samples: code_audio(samples, codec="opus", bit_rate=12000),
    "aac_32k": lambda samples: code_audio(samples, codec="aac", bit_rate=32000),
    "noise_20db": _noise,
    "room": _room,
    "faster": lambda samples: change_speed(samples, factor=1.03),
    "slower": lambda samples: change_speed(samples, factor=0.97),
    "band_4k": lambda samples: limit_band(samples, low_hz=0, high_hz=4000),
}


@dataclass(frozen=True)
class Judged:
    """One recording in one view: the window logits of the network that saw none of its fold."""

    file: int
    view: str
    logits: tuple[float, ...]


class Hearing(Protocol):
    """A network for every fold: how a recording is read for it, and the logits (windows,) that the
    one of a fold gives.
    """

    @property
    def judge(self) -> Judge: ...

    def logits(self, sound: Sound, *, fold: int) -> tuple[float, ...]: ...


@dataclass(frozen=True)
class Networks:
    """``judge`` reads a recording for the graph of its fold."""

    judge: Judge
    graphs: Mapping[int, Path]

    def logits(self, sound: Sound, *, fold: int) -> tuple[float, ...]:
        run = open_graph(self.graphs[fold])
        return round_logits(float(one) for batch in sound.batches(self.judge) for one in run(batch))


def judge_files(
    files: Sequence[Known],
    chosen: Sequence[int],
    *,
    networks: Hearing,
    folder: Path,
    workers: int,
    views: Sequence[str] = tuple(VIEWS),
) -> list[Judged]:
    """What the ``chosen`` recordings, at most their first 20 seconds, look like in every view; goes
    on where an earlier run stopped. Those that cannot be read or judged are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    blocks = [chosen[start : start + _BLOCK] for start in range(0, len(chosen), _BLOCK)]
    paths = [folder / f"{number:04d}.jsonl" for number in range(len(blocks))]
    tasks = (
        delayed(_judge_block)([(file, files[file]) for file in block], networks, path, views)
        for block, path in zip(blocks, paths, strict=True)
        if not path.exists()
    )
    done = sum(path.exists() for path in paths)
    running = Parallel(n_jobs=workers, return_as="generator_unordered")(tasks)
    for _ in tqdm(running, initial=done, total=len(blocks), desc="judging", mininterval=5):
        pass
    return [
        Judged(file, view, tuple(logits))
        for path in paths
        for file, view, logits in read_lines(path)
    ]


def _judge_block(
    files: Sequence[tuple[int, Known]], networks: Hearing, path: Path, views: Sequence[str]
) -> None:
    made = [one for number, file in files for one in _judge(number, file, networks, views)]
    write_lines(path, ([one.file, one.view, one.logits] for one in made))


def _judge(number: int, file: Known, networks: Hearing, views: Sequence[str]) -> list[Judged]:
    try:
        stored = read_samples(file.item.path)[: MOST_SECONDS * SAMPLE_RATE]
    except UNREADABLE:
        return []
    samples = stored.astype(np.float32) / np.float32(32768)
    made = []
    for view in views:
        sound = read_sound(VIEWS[view](samples), networks.judge)
        if sound.why_not(networks.judge) is None:
            made.append(Judged(number, view, networks.logits(sound, fold=file.fold)))
    return made


@lru_cache
def open_graph(path: Path) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """A graph on one thread: windows (windows, samples) to logits (windows,)."""
    run = compile_graph(path, threads=1)
    return lambda batch: np.asarray(run(batch)[0])
