"""Who is asked tells no more than the service would, and no more often."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from deepfake_service.answers import redact
from deepfake_service.store.keys import Policy
from deepfake_training.attacks.victim import POLICIES, Answer, Finished, Goal, Victim, answer_as

from deepfake.preprocess import Floats
from deepfake.types import Report, Verdict
from tests.reports import make_report

SERVED = {"score": Policy.FULL, "rounded": Policy.ROUNDED, "word": Policy.VERDICT}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("probability", [0.04, 0.4567, 0.95, None])
def test_a_policy_tells_what_the_service_tells(policy: str, probability: float | None) -> None:
    report = replace(make_report(), probability=probability)
    served = redact(report, SERVED[policy])
    assert answer_as(policy, report) == Answer(served.verdict, served.probability)


def test_losses_fall_towards_the_goal() -> None:
    evade, frame = Goal(True), Goal(False)
    words = [Verdict.SYNTHETIC, Verdict.SUSPICIOUS, Verdict.INCONCLUSIVE, Verdict.AUTHENTIC]
    falling = [evade.loss(Answer(word, None)) for word in words]
    assert falling == sorted(falling, reverse=True)
    assert [frame.loss(Answer(word, None)) for word in words] == [-loss for loss in falling]
    assert evade.loss(Answer(Verdict.SYNTHETIC, 0.93)) > evade.loss(Answer(Verdict.SYNTHETIC, 0.92))
    assert [evade.is_reached(word) for word in words] == [False, False, True, True]
    assert [frame.is_reached(word) for word in words] == [True, True, False, False]


def brightness(signal: Floats) -> Report:
    """An alarm above a mean of 100."""
    height = float(signal.mean())
    word = Verdict.SYNTHETIC if height > 100 else Verdict.INCONCLUSIVE
    return replace(make_report(), verdict=word, probability=min(1.0, height / 255))


def test_a_victim_counts_and_ends() -> None:
    original = np.full((4, 4, 3), 120, np.float32)
    victim = Victim(original, brightness, goal=Goal(True), policy="score", budget=3)
    victim.ask(original - 10)
    victim.ask(original + 10)
    assert victim.best.mean() == 110
    assert victim.reached_after is None
    with pytest.raises(Finished):
        victim.ask(original - 40)
    assert (victim.queries, victim.reached_after, victim.best.mean()) == (3, 3, 80)
    with pytest.raises(Finished):
        victim.ask(original)
    assert victim.queries == 3


def test_what_is_changed_too_much_does_not_count() -> None:
    original = np.full((4, 4, 3), 120, np.float32)
    victim = Victim(
        original, brightness, goal=Goal(True), policy="word", budget=9, most_change=25.0
    )
    assert victim.passes(original - 60)
    assert victim.reached_after is None
    assert victim.best is original
    with pytest.raises(Finished):
        victim.passes(original - 24)
    assert victim.reached_after == 2
    assert victim.change(original[:2]) == float("inf")
