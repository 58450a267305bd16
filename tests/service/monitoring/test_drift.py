"""Streams of signals with and without a change."""

from __future__ import annotations

import json
import random

import pytest
from deepfake_service.monitoring.drift import LIMIT, Stream, bound_share
from deepfake_service.monitoring.signals import Signals, read_signals

from deepfake.types import Kind
from tests.reports import make_evidence, make_report, video_evidence


def draw(rng: random.Random, *, new: float = 0.0) -> Signals:
    """Scores of two kinds of files, a tenth of them high; a share ``new`` is of a third kind."""
    score = rng.betavariate(2, 9) if rng.random() < 0.9 else rng.betavariate(9, 2)
    if rng.random() < new:
        score = rng.betavariate(30, 12)
    verdict = "synthetic" if score > 0.9 else "authentic" if score < 0.4 else "inconclusive"
    return {
        "verdict": verdict,
        "format": rng.choice(("jpeg", "jpeg", "jpeg", "png")),
        "image score": score,
        "megapixels": rng.lognormvariate(1, 0.5),
        "frame_rate": 30.0,
    }


def learn(rng: random.Random) -> Stream:
    stream = Stream()
    while stream.learnt < 1:
        stream.add(draw(rng))
    return stream


def watch(stream: Stream, rng: random.Random, most: int, **how: float) -> int | None:
    for number in range(1, most + 1):
        stream.add(draw(rng, **how))
        if stream.evidence >= LIMIT:
            return number
    return None


def test_a_new_generator_at_one_in_twenty_files_is_noticed_and_named() -> None:
    delays = []
    for seed in range(5):
        rng = random.Random(seed)
        stream = learn(rng)
        delay = watch(stream, rng, 8000, new=0.05)
        assert delay is not None
        delays.append(delay)
        (change,) = stream.changes(most=1)
        assert change.event.signal in ("image score", "verdict")
        assert change.recent > change.reference
    assert sorted(delays)[2] < 4000


@pytest.mark.slow
def test_nothing_is_noticed_where_nothing_changes() -> None:
    alarms = 0
    for seed in range(2):
        rng = random.Random(100 + seed)
        alarms += watch(learn(rng), rng, 30_000) is not None
    assert alarms == 0  # each of 30 days with 1,000 files has a chance of 3 % at most


def test_bursts_of_files_that_are_alike_are_no_change() -> None:
    for seed in range(3):
        rng = random.Random(200 + seed)
        stream = Stream()
        for _ in range(1200):
            one = draw(rng)
            for _ in range(rng.randint(1, 9)):
                stream.add(one)
            assert stream.evidence < LIMIT
        assert stream.burst > 4
    assert learn(random.Random(1)).burst == 1.0


def test_what_was_never_seen_is_noticed_at_once() -> None:
    rng = random.Random(1)
    stream = learn(rng)
    for _ in range(30):
        stream.add({**draw(rng), "format": "webp", "frame_rate": 25.0})
    assert stream.evidence >= LIMIT
    named = {change.event.signal: str(change.event) for change in stream.changes(most=2)}
    assert named == {"format": "format is new", "frame_rate": "frame_rate below 30"}


def test_a_stream_goes_on_from_its_stored_form() -> None:
    for files in (100, 900, 2500):
        rng = random.Random(3)
        stream = Stream()
        for _ in range(files):
            stream.add(draw(rng))
        again = Stream.from_dict(json.loads(json.dumps(stream.to_dict())))
        state = rng.getstate()
        for one in (stream, again):
            rng.setstate(state)
            for _ in range(1500):
                one.add(draw(rng, new=0.2))
        assert again.files == stream.files
        assert again.evidence == pytest.approx(stream.evidence)
        assert again.events == stream.events


def test_odd_values_change_nothing() -> None:
    rng = random.Random(4)
    stream = learn(rng)
    before = stream.evidence
    stream.add({"unknown": 1.0, "image score": "a text", "format": 3.0})
    stream.add({})
    assert stream.evidence == pytest.approx(before, abs=1.0)


@pytest.mark.parametrize(("happened", "of"), [(0, 1000), (20, 1000), (500, 1000), (1000, 1000)])
def test_a_bound_is_seldom_exceeded(happened: int, of: int) -> None:
    bound = bound_share(happened, of)
    assert happened / of <= bound <= 1
    rng = random.Random(5)
    # Were it the probability, so few would happen in 1 of 1,000 times at most.
    fewer = sum(sum(rng.random() < bound for _ in range(of)) <= happened for _ in range(100))
    assert fewer <= 3 or happened == of


def test_no_signal_tells_one_file_from_another() -> None:
    report = make_report(*video_evidence(), kind=Kind.VIDEO, seconds=20.0, frame_rate=25.0)
    signals = read_signals(report)
    assert signals["verdict"] == "suspicious"
    assert signals["video score"] == 0.7
    assert signals["frame_rate"] == 25.0
    text = json.dumps(signals)
    assert report.media.sha256 not in text
    assert report.path not in text
    failed = make_evidence("audio", score=None, reason="audio_too_short")
    assert read_signals(make_report(failed))["audio state"] == "audio_too_short"
