"""The active part of every recording, decoded once and kept on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from tqdm import tqdm

from deepfake.errors import SettingsError
from deepfake.files import replaced
from deepfake.preprocess import AudioPreprocess, Samples

from ..known import Known
from ..perturb import SAMPLE_RATE

MOST_SECONDS = 12
LEAST_SECONDS = 0.4
UNREADABLE = (av.error.FFmpegError, OSError, IndexError)
"""What :func:`read_samples` raises; the last for a file without sound."""


@dataclass(frozen=True)
class Recordings:
    """``samples`` (all,) of all recordings one after another at 16 kHz, ``starts`` (files + 1,)
    where each begins; one that could not be read, or is too short, has none.
    """

    samples: npt.NDArray[np.int16]
    starts: npt.NDArray[np.int64]

    def __getitem__(self, number: int) -> Samples:
        part = self.samples[self.starts[number] : self.starts[number + 1]]
        return np.asarray(part, np.float32) / np.float32(32768)

    @property
    def readable(self) -> npt.NDArray[np.bool_]:
        return np.asarray(np.diff(self.starts) > 0)


def build_recordings(files: Sequence[Known], folder: Path, *, workers: int) -> Recordings:
    """The recordings of ``files`` in ``folder``, decoded where they are not there yet: at most 12
    seconds of each from where it first is loud, without trailing silence.

    Raises ``SettingsError`` where another number of files was decoded into that folder.
    """
    facts, store = folder / "recordings.json", folder / "recordings.bin"
    if not facts.exists():
        folder.mkdir(parents=True, exist_ok=True)
        tasks = (delayed(_read)(str(file.item.path)) for file in files)
        starts = [0]
        with store.open("wb") as stream:
            made = Parallel(n_jobs=workers, return_as="generator", batch_size=16)(tasks)
            for part in tqdm(made, total=len(files), desc="recordings", mininterval=5):
                stream.write(part.tobytes())
                starts.append(starts[-1] + len(part))
        with replaced(facts) as partial:
            partial.write_text(json.dumps(starts))
    content = np.array(json.loads(facts.read_text()), np.int64)
    if len(content) != len(files) + 1:
        raise SettingsError(
            f"recordings {str(folder)!r}: are of {len(content) - 1} files, not of {len(files)}",
            hint="give other material, or a part of it, a folder of its own",
        )
    return Recordings(np.memmap(store, np.int16, "r", shape=(content[-1],)), content)


def _read(path: str) -> npt.NDArray[np.int16]:
    try:
        samples = read_samples(Path(path))
    except UNREADABLE:
        return np.zeros(0, np.int16)
    first, last = AudioPreprocess().active(samples.astype(np.float32) / np.float32(32768))
    part = samples[first : min(last, first + MOST_SECONDS * SAMPLE_RATE)]
    return part if len(part) >= LEAST_SECONDS * SAMPLE_RATE and part.any() else part[:0]


def read_samples(path: Path) -> npt.NDArray[np.int16]:
    """A file as mono int16 at 16 kHz (samples,); raises one of ``UNREADABLE`` where it cannot."""
    pieces = [np.zeros(0, np.int16)]
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        for frame in (*container.decode(audio=0), None):
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
    return np.asarray(np.concatenate(pieces), np.int16)
