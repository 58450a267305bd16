"""Minutes put together from genuine clips of one corpus, half of them with a synthetic sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from deepfake.preprocess import AudioPreprocess, Samples

from ..inserts import INSERT_SECONDS, RECORDING_SECONDS, RECORDINGS_PER_FOLD
from ..perturb import SAMPLE_RATE
from ..records import LongLogits, read_long, round_logits, write_records
from .data import Clip


def score_long(
    network: nn.Module,
    clips: Sequence[Clip],
    *,
    fold: int,
    preprocess: AudioPreprocess,
    path: Path,
    seed: int,
) -> list[LongLogits]:
    """Logits of long recordings made from the clips of ``fold``, or those already in ``path``."""
    if path.exists():
        return read_long(path)
    genuine: dict[str, list[Clip]] = {}
    fakes: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.fold == fold:
            (fakes if clip.label else genuine).setdefault(clip.source, []).append(clip)
    made = []
    for number in range(RECORDINGS_PER_FOLD):
        rng = np.random.default_rng((seed, fold, number))
        corpus = str(rng.choice(sorted(genuine)))
        system = str(rng.choice(sorted(fakes))) if number % 2 else ""
        fake = fakes[system][int(rng.integers(len(fakes[system])))].samples if system else None
        samples, insert = chain(genuine[corpus], fake, rng=rng, preprocess=preprocess)
        windows = preprocess(samples)
        with torch.inference_mode():
            logits = network(torch.from_numpy(windows.batch))
        made.append(
            LongLogits(
                fold=fold,
                corpus=corpus,
                system=system,
                insert=insert,
                hop_seconds=preprocess.hop_seconds,
                window_seconds=preprocess.window_seconds,
                logits=round_logits(logits),
            )
        )
    write_records(path, made)
    return made


def chain(
    genuine: Sequence[Clip],
    fake: Samples | None,
    *,
    rng: np.random.Generator,
    preprocess: AudioPreprocess,
) -> tuple[Samples, float]:
    """A minute of clips at one level, three seconds of ``fake`` somewhere inside, and where."""
    pieces: list[Samples] = []
    length = RECORDING_SECONDS * SAMPLE_RATE
    while sum(map(len, pieces)) < length:
        pieces.append(_trimmed(genuine[int(rng.integers(len(genuine)))].samples, preprocess))
    samples = np.concatenate(pieces)[:length]
    if fake is None:
        return samples, -1.0
    speech = _trimmed(fake, preprocess)
    speech = np.resize(speech, INSERT_SECONDS * SAMPLE_RATE)
    start = int(rng.integers(2 * SAMPLE_RATE, length - (INSERT_SECONDS + 2) * SAMPLE_RATE))
    samples[start : start + len(speech)] = speech
    return samples, start / SAMPLE_RATE


def _trimmed(samples: Samples, preprocess: AudioPreprocess) -> Samples:
    first, last = preprocess.active(samples)
    return preprocess.level(samples[first:last])
