"""Speech that anybody can fetch or make, beside the training material: one folder, one manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from deepfake.preprocess import AudioPreprocess, Samples

from ..files import replaced
from ..perturb import SAMPLE_RATE
from .corpora import CORPORA, LONGEST_SECONDS, SHORTEST_SECONDS, Corpus, collect_recordings
from .engines import ENGINES, Engine
from .fakes import store

COLUMNS = ("path", "sha256", "label", "system", "speaker", "licence")


def collect_speech(
    folder: Path,
    *,
    corpora: tuple[Corpus, ...] = CORPORA,
    engines: tuple[Engine, ...] = ENGINES,
    seed: int = 0,
) -> None:
    """Write the recordings of ``corpora`` and sentences of ``engines`` as FLAC of at most 3.5 s,
    16 kHz mono, with a ``manifest.tsv`` like that of the training material.

    A folder that has its manifest is left as it is. Raises ``SettingsError`` when a package or a
    program is missing.
    """
    manifest = folder / "manifest.tsv"
    if manifest.exists():
        return
    rows = ["\t".join(COLUMNS)]
    for corpus in corpora:
        for recording in tqdm(collect_recordings(corpus), desc=corpus.name, mininterval=5):
            path = folder / "real" / corpus.name / f"{recording.name}.flac"
            speaker = f"{corpus.name}/{recording.speaker}"
            facts = ("real", corpus.name, speaker, corpus.licence)
            rows.append(_write(path, recording.samples, facts, folder=folder))
    for engine in engines:
        clips = tqdm(_sentences(engine, seed=seed), desc=engine.system, mininterval=5)
        for number, samples in enumerate(clips):
            path = folder / "fake" / engine.system / f"{engine.system}__{number:03}.flac"
            facts = ("fake", engine.system, engine.system, engine.licence)
            rows.append(_write(path, samples, facts, folder=folder))
    with replaced(manifest) as partial:
        partial.write_text("\n".join(rows) + "\n", encoding="utf-8")


def _sentences(engine: Engine, *, seed: int) -> Iterator[Samples]:
    """The sentences of an engine without leading and trailing silence, cut into clips."""
    longest, shortest = (round(s * SAMPLE_RATE) for s in (LONGEST_SECONDS, SHORTEST_SECONDS))
    for number in range(engine.sentences):
        samples = engine.speak(np.random.default_rng((seed, number)))
        first, last = AudioPreprocess().active(samples)
        for start in range(first, max(first + 1, last - shortest), longest):
            yield samples[start : min(last, start + longest)]


def _write(path: Path, samples: Samples, facts: tuple[str, ...], *, folder: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE)
        stream.layout, stream.format = "mono", "s16"
        frame = av.AudioFrame.from_ndarray(store(samples)[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return "\t".join((path.relative_to(folder).as_posix(), digest, *facts))
