"""Who is attacked by questions: what it answers, how often it was asked, and what was reached.

An attacker of a service sees no more than its policy shows: all digits of the score, one digit, or
the verdict alone, as ``deepfake_service.answers`` cuts a report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from deepfake.preprocess import Floats
from deepfake.types import Verdict

from ..evaluation.compare import ALARM

POLICIES = ("score", "rounded", "word")
DIGITS = 1
"""Of a score under the policy ``rounded``."""
_CONCERN = (Verdict.AUTHENTIC, Verdict.INCONCLUSIVE, Verdict.SUSPICIOUS, Verdict.SYNTHETIC)
_TIE = 1e-3


class Finished(Exception):
    """The attack has what it wants, or no question left."""


class Said(Protocol):
    """What a detector says, of which an attacker is told some: a report, or less."""

    @property
    def verdict(self) -> Verdict: ...

    @property
    def probability(self) -> float | None: ...


class Answer(NamedTuple):
    """What an attacker is told; ``score`` is None where no score is shown."""

    verdict: Verdict
    score: float | None


def answer_as(policy: str, report: Said) -> Answer:
    """What is left of a report under one of :data:`POLICIES`."""
    if policy == "word" or report.probability is None:
        return Answer(report.verdict, None)
    rounded = policy == "rounded"
    return Answer(
        report.verdict, round(report.probability, DIGITS) if rounded else report.probability
    )


@dataclass(frozen=True)
class Goal:
    """No alarm for a ``synthetic`` file, an alarm for a genuine one. An alarm is the verdict
    *synthetic* or *suspicious*.
    """

    synthetic: bool

    def is_reached(self, verdict: Verdict) -> bool:
        return (verdict in ALARM) is not self.synthetic

    def loss(self, answer: Answer) -> float:
        """Falls towards the goal. Of equal scores the word decides; words alone are four steps."""
        concern = _CONCERN.index(answer.verdict) / (len(_CONCERN) - 1)
        height = concern if answer.score is None else answer.score
        height += _TIE * concern
        return height if self.synthetic else -height


@dataclass(frozen=True)
class Range:
    """What values a signal may have: grey levels of a picture, or samples of a sound."""

    low: float
    high: float

    def clip(self, signal: Floats) -> Floats:
        return np.asarray(np.clip(signal, self.low, self.high), np.float32)


GREY_LEVELS, SAMPLES = Range(0.0, 255.0), Range(-1.0, 1.0)


class Victim:
    """Answers an attack on one ``original`` signal, (height, width, 3) or (samples,) float32.

    ``detect`` examines a signal. After ``budget`` questions, and once an answer reaches the goal
    for a signal whose root-mean-square change is at most ``most_change`` (None: whatever it is),
    :class:`Finished` is raised. ``best`` is the signal that reached it, or else the one whose
    answer was nearest; ``reached_after`` the questions that it took, None without success.
    """

    def __init__(
        self,
        original: Floats,
        detect: Callable[[Floats], Said],
        *,
        goal: Goal,
        policy: str,
        budget: int,
        most_change: float | None = None,
    ) -> None:
        self.original, self.goal, self.policy, self.budget = original, goal, policy, budget
        self.range = GREY_LEVELS if original.ndim == 3 else SAMPLES
        self.best, self.least_loss = original, np.inf
        self.queries = 0
        self.reached_after: int | None = None
        self._detect, self._most_change = detect, most_change

    @property
    def is_coarse(self) -> bool:
        """Whether many different signals get the same answer."""
        return self.policy != "score"

    def ask(self, signal: Floats) -> Answer:
        """One question. Raises :class:`Finished`."""
        if self.queries >= self.budget:
            raise Finished
        answer = answer_as(self.policy, self._detect(signal))
        self.queries += 1
        near = self._most_change is None or self.change(signal) <= self._most_change + 1e-6
        loss = self.goal.loss(answer)
        if near and loss < self.least_loss:
            self.best, self.least_loss = signal, loss
        if near and self.goal.is_reached(answer.verdict):
            self.best, self.reached_after = signal, self.queries
            raise Finished
        return answer

    def loss(self, signal: Floats) -> float:
        """The loss of one question."""
        return self.goal.loss(self.ask(signal))

    def passes(self, signal: Floats) -> bool:
        """Whether one question has the goal for an answer."""
        return self.goal.is_reached(self.ask(signal).verdict)

    def change(self, signal: Floats) -> float:
        """The root-mean-square difference from the original; infinite for another size."""
        if signal.shape != self.original.shape:
            return float("inf")
        return float(np.sqrt(np.mean(np.square(signal - self.original, dtype=np.float64))))
