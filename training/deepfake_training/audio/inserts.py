"""A short synthetic sentence in a long genuine recording: is the file raised, and is it located?

Recordings of a minute are put together from genuine clips of one corpus that the model never heard;
in every other one a clip of a system that it never heard replaces three seconds.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from deepfake.bundle import Calibration
from deepfake.preprocess import AudioPreprocess, Samples

from ..calibrate import SUSPICIOUS_FPR, SYNTHETIC_FPR
from ..perturb import SAMPLE_RATE

if TYPE_CHECKING:
    from .data import Clip

RECORDING_SECONDS = 60
INSERT_SECONDS = 3
SPAN_WINDOWS = 3
RECORDINGS_PER_FOLD = 60


@dataclass(frozen=True)
class LongLogits:
    """The window logits of a long recording; ``insert`` is where the synthetic part begins, or -1.

    ``hop_seconds`` and ``window_seconds`` tell where the windows lie.
    """

    fold: int
    corpus: str
    system: str
    insert: float
    hop_seconds: float
    window_seconds: float
    logits: tuple[float, ...]


@dataclass(frozen=True)
class InsertRow:
    """Recordings of one kind: how many were called something, and were the inserts located?

    ``located`` is the share whose highest span of windows lies within a second of the insert.
    """

    kind: str
    recordings: int
    flagged_synthetic: float
    flagged_suspicious: float
    located: float


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
            (fakes if clip.item.label else genuine).setdefault(clip.source, []).append(clip)
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
                logits=tuple(round(float(logit), 5) for logit in logits),
            )
        )
    write_long(path, made)
    return made


def write_long(path: Path, recordings: Sequence[LongLogits]) -> None:
    partial = path.with_suffix(".partial")
    lines = (json.dumps(asdict(one)) + "\n" for one in recordings)
    partial.write_text("".join(lines), encoding="utf-8")
    partial.replace(path)


def read_long(path: Path) -> list[LongLogits]:
    lines = path.read_text(encoding="utf-8").splitlines()
    values = [json.loads(line) for line in lines]
    return [LongLogits(**{**value, "logits": tuple(value["logits"])}) for value in values]


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


def with_spans(calibration: Calibration, recordings: Sequence[LongLogits]) -> Calibration:
    """The calibration with spans that can raise a file, their penalty set so that by a span no more
    genuine minutes reach ``synthetic`` and ``suspicious`` than 1 % and 5 %, every corpus weighing
    the same.
    """
    genuine = [one for one in recordings if not one.system]
    counts = Counter(one.corpus for one in genuine)
    spans = np.array([_means(one).max() for one in genuine])
    weights = np.array([1 / counts[one.corpus] for one in genuine])
    order = np.argsort(-spans)
    mass = np.cumsum(weights[order]) / weights.sum()
    growth = math.log(len(genuine[0].logits) / SPAN_WINDOWS)
    points, penalty = calibration.points, 0.0
    for limit, share in ((points.synthetic, SYNTHETIC_FPR), (points.suspicious, SUSPICIOUS_FPR)):
        highest = float(spans[order][int(np.flatnonzero(mass > share)[0])])
        odds = (math.log(limit / (1 - limit)) - calibration.intercept) / calibration.slope
        penalty = max(penalty, (highest - odds) / growth)
    return replace(calibration, span_windows=SPAN_WINDOWS, length_penalty=penalty)


def tabulate_inserts(recordings: Sequence[LongLogits], calibration: Calibration) -> list[InsertRow]:
    """Rows for genuine minutes and for those with an insert, each fold with the span penalty that
    the *other* folds set.
    """
    scored: dict[str, list[tuple[float, float, float]]] = {}
    for fold in sorted({one.fold for one in recordings}):
        fitted = with_spans(calibration, [one for one in recordings if one.fold != fold])
        for one in (one for one in recordings if one.fold == fold):
            score = fitted.probability(fitted.pool(np.array(one.logits, np.float32)))
            centre = _means(one).argmax() * one.hop_seconds + _span_seconds(one) / 2
            near = float(abs(centre - one.insert - INSERT_SECONDS / 2) <= 1.0)
            located = near if one.system else float("nan")
            kind = "with 3 synthetic seconds" if one.system else "genuine"
            points = fitted.points
            flags = (float(score >= points.synthetic), float(score >= points.suspicious))
            scored.setdefault(kind, []).append((*flags, located))
    return [
        InsertRow(kind, len(rows), *(float(v) for v in np.mean(rows, axis=0)))
        for kind, rows in sorted(scored.items())
    ]


def _means(one: LongLogits) -> npt.NDArray[np.float64]:
    spans = np.lib.stride_tricks.sliding_window_view(np.array(one.logits), SPAN_WINDOWS)
    means: npt.NDArray[np.float64] = spans.mean(axis=1)
    return means


def _span_seconds(one: LongLogits) -> float:
    return (SPAN_WINDOWS - 1) * one.hop_seconds + one.window_seconds
