"""Short inserts in long recordings: making them, finding them, and the price of looking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from deepfake_training.audio.minutes import chain
from deepfake_training.inserts import tabulate_inserts, with_spans
from deepfake_training.records import LongLogits, read_long, write_records

from deepfake.bundle import Calibration
from deepfake.preprocess import AudioPreprocess
from deepfake.types import OperatingPoints

CALIBRATION = Calibration(
    slope=1.0,
    intercept=0.0,
    spread=0.2,
    points=OperatingPoints(authentic=0.3, suspicious=0.7, synthetic=0.9),
)


def tone(hertz: float) -> np.ndarray:
    time = np.arange(3 * 16000) / 16000
    return (0.25 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def minute(*, fold: int, seed: int, height: float | None) -> LongLogits:
    """Noise around -1, and three windows of ``height`` somewhere."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, 59)
    start = int(rng.integers(2, 54))
    if height is not None:
        logits[start : start + 3] = height
    return LongLogits(
        fold=fold,
        corpus="ab"[seed % 2],
        system="" if height is None else "s",
        insert=-1.0 if height is None else start + 0.5,
        hop_seconds=1.0,
        window_seconds=2.0,
        logits=tuple(float(v) for v in logits),
    )


def test_a_minute_holds_the_insert_at_the_stated_place() -> None:
    preprocess = AudioPreprocess(window_seconds=2.0, hop_seconds=1.0)
    fake = tone(2500)
    samples, start = chain(
        [tone(300), tone(310)], fake, rng=np.random.default_rng(0), preprocess=preprocess
    )
    assert len(samples) == 60 * 16000
    frames = samples.reshape(-1, 1600)
    tops = np.fft.rfftfreq(1600, 1 / 16000)[np.abs(np.fft.rfft(frames, axis=1)).argmax(axis=1)]
    high = np.flatnonzero(tops > 1000)
    assert high[0] / 10 == pytest.approx(start, abs=0.11)
    assert len(high) == pytest.approx(30, abs=1)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(10 ** (-26 / 20), rel=0.02)
    plain, nowhere = chain([tone(300)], None, rng=np.random.default_rng(0), preprocess=preprocess)
    assert nowhere == -1.0
    assert len(plain) == len(samples)


def test_the_penalty_holds_the_false_positives_of_minutes_and_inserts_are_found(
    tmp_path: Path,
) -> None:
    genuine = [minute(fold=seed % 3, seed=seed, height=None) for seed in range(300)]
    altered = [minute(fold=seed % 3, seed=seed, height=6.0) for seed in range(300)]
    path = tmp_path / "long.jsonl"
    write_records(path, [*genuine, *altered])
    recordings = read_long(path)
    assert recordings == [*genuine, *altered]
    fitted = with_spans(CALIBRATION, recordings)
    assert fitted.span_windows == 3
    scores = [fitted.probability(fitted.pool(np.array(g.logits, np.float32))) for g in genuine]
    assert np.mean(np.array(scores) >= fitted.points.synthetic) <= 0.015
    assert 0.02 < np.mean(np.array(scores) >= fitted.points.suspicious) <= 0.06
    rows = {row.kind: row for row in tabulate_inserts(recordings, CALIBRATION)}
    assert rows["genuine"].flagged_synthetic <= 0.02
    assert np.isnan(rows["genuine"].located)
    assert rows["with 3 synthetic seconds"].flagged_synthetic > 0.95
    assert rows["with 3 synthetic seconds"].located > 0.95
    weak = [minute(fold=seed % 3, seed=seed, height=0.0) for seed in range(300)]
    row = {r.kind: r for r in tabulate_inserts([*genuine, *weak], CALIBRATION)}
    assert row["with 3 synthetic seconds"].flagged_synthetic < 0.1
    assert row["with 3 synthetic seconds"].located < 0.5
