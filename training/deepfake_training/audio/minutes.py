"""Minutes put together from genuine recordings of one source, half with a synthetic sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepfake.preprocess import AudioPreprocess, Samples

from ..inserts import INSERT_SECONDS, RECORDING_SECONDS, RECORDINGS_PER_FOLD
from ..known import Known
from ..perturb import SAMPLE_RATE
from ..records import LongLogits, read_long, round_logits, write_records
from .judging import open_graph
from .recordings import Recordings

_LEAST_RECORDINGS = 4
"""Of a source whose recordings make up a minute, so that not one of them fills it."""


def judge_minutes(
    files: Sequence[Known],
    recordings: Recordings,
    *,
    fold: int,
    graph: Path,
    preprocess: AudioPreprocess,
    path: Path,
    seed: int,
    unheard: Sequence[bool],
) -> list[LongLogits]:
    """Logits of minutes made from the recordings of ``fold``, or those already in ``path``; voices
    are the genuine ones that are ``unheard`` (files,).
    """
    if path.exists():
        return read_long(path)
    voices: dict[str, list[int]] = {}
    fakes: dict[str, list[int]] = {}
    for number, file in enumerate(files):
        usable = file.fold == fold and bool(recordings.readable[number])
        if usable and (file.label or unheard[number]):
            (fakes if file.label else voices).setdefault(file.source, []).append(number)
    voices = {name: some for name, some in voices.items() if len(some) >= _LEAST_RECORDINGS}
    run, made = open_graph(graph), []
    for number in range(RECORDINGS_PER_FOLD):
        rng = np.random.default_rng((seed, fold, number))
        source = str(rng.choice(sorted(voices)))
        system = str(rng.choice(sorted(fakes))) if number % 2 else ""
        fake = recordings[int(rng.choice(fakes[system]))] if system else None
        samples, insert = chain(
            [recordings[one] for one in voices[source]], fake, rng=rng, preprocess=preprocess
        )
        made.append(
            LongLogits(
                fold=fold,
                corpus=source,
                system=system,
                insert=insert,
                hop_seconds=preprocess.hop_seconds,
                window_seconds=preprocess.window_seconds,
                logits=round_logits(run(preprocess(samples).batch)),
            )
        )
    write_records(path, made)
    return made


def chain(
    genuine: Sequence[Samples],
    fake: Samples | None,
    *,
    rng: np.random.Generator,
    preprocess: AudioPreprocess,
) -> tuple[Samples, float]:
    """A minute of recordings at one level, three seconds of ``fake`` inside it, and from where."""
    pieces: list[Samples] = []
    length = RECORDING_SECONDS * SAMPLE_RATE
    while sum(map(len, pieces)) < length:
        pieces.append(_trimmed(genuine[int(rng.integers(len(genuine)))], preprocess))
    samples = np.concatenate(pieces)[:length]
    if fake is None:
        return samples, -1.0
    speech = np.resize(_trimmed(fake, preprocess), INSERT_SECONDS * SAMPLE_RATE)
    start = int(rng.integers(2 * SAMPLE_RATE, length - (INSERT_SECONDS + 2) * SAMPLE_RATE))
    samples[start : start + len(speech)] = speech
    return samples, start / SAMPLE_RATE


def _trimmed(samples: Samples, preprocess: AudioPreprocess) -> Samples:
    first, last = preprocess.active(samples)
    return preprocess.level(samples[first:last])
