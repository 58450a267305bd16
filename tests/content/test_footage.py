from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepfake.content.faces import Face
from deepfake.content.footage import Burst, FaceBurst, Footage, Spread, pick_spread, unclear_spans
from deepfake.content.tracks import Track
from deepfake.engine.engine import Engine
from deepfake.engine.scores import Scored
from deepfake.settings import Settings

FACE = Face((0, 0, 60, 60), ((20, 20), (40, 20), (30, 30), (22, 42), (38, 42)), 0.9)


@pytest.fixture
def engine(known_models: Path) -> Engine:
    return Engine(Settings(models_folder=known_models, threads=1))


def scored(engine: Engine, logit: float) -> Scored:
    return Scored.read(np.array([logit], np.float32), engine.active["video"].calibration)


def footage(engine: Engine, *logits: float, step: float = 3.0) -> Footage:
    bursts = [Burst(step * i, None, scored(engine, logit)) for i, logit in enumerate(logits)]
    return Footage(bursts=bursts)


def test_clear_videos_are_not_looked_at_again(engine: Engine) -> None:
    assert unclear_spans(footage(engine, -4, -4, -4), engine) == []
    assert unclear_spans(footage(engine, 4, 4, 4), engine) == []


def test_gaps_beside_an_unclear_or_lonely_burst_are(engine: Engine) -> None:
    assert unclear_spans(footage(engine, -4, 0, -4, -4), engine) == [(1, 3), (4, 6)]
    assert unclear_spans(footage(engine, -4, -4, 4, 4), engine) == [(4, 6)]


def test_bursts_that_follow_each_other_leave_no_gap(engine: Engine) -> None:
    assert unclear_spans(footage(engine, -4, 0, -4, step=1.0), engine) == []


def test_an_unclear_face_counts_where_it_is_seen(engine: Engine) -> None:
    seen = footage(engine, -4, -4, -4, -4)
    seen.people = [(Track(0), [FaceBurst(9.0, FACE, scored(engine, 0.0), None, None)])]
    assert unclear_spans(seen, engine) == [(7, 9)]


def test_what_is_kept_of_many_things_is_spread_over_all_of_them() -> None:
    kept: Spread[int] = Spread(4)
    for number in range(100):
        if kept.wants_next():
            kept.add(number)
    assert len(kept.things) in (3, 4)
    assert kept.things[0] == 0
    steps = np.diff(kept.things)
    assert set(steps) == {32}


def test_of_few_places_the_ends_are_among_them() -> None:
    assert pick_spread("abcdefgh", most=3) == ["a", "e", "h"]
    assert pick_spread("abc", most=8) == ["a", "b", "c"]
    assert pick_spread("abc", most=1) == ["a"]


def test_few_things_are_all_kept() -> None:
    kept: Spread[int] = Spread(4)
    for number in range(4):
        assert kept.wants_next()
        kept.add(number)
    assert kept.things == [0, 1, 2, 3]
