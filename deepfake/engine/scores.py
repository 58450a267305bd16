"""What logits mean: calibrated scores, and every reading that needs the logits behind them.

Logits stay in here. Whoever wants to know more of a scored input than its score asks ``Scored``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..bundle import Calibration, Logits
from ..types import OperatingPoints

FRAMES_FRACTION = 0.5
"""How many of a video's frames its score rests on, the highest."""


@dataclass(frozen=True)
class Scored:
    """Calibrated P(synthetic): of the input as a whole, its interval, and of each window alone."""

    score: float
    interval: tuple[float, float]
    windows: tuple[float, ...]
    _logits: Logits = field(repr=False, compare=False)
    _calibration: Calibration = field(repr=False, compare=False)

    @classmethod
    def read(cls, logits: Logits, calibration: Calibration) -> Scored:
        """What the logits (windows,) of one input mean."""
        return cls._of(calibration.pool(logits), logits, calibration)

    @classmethod
    def join(cls, parts: Sequence[Scored]) -> Scored:
        """One input that was scored in several parts, in the order of time."""
        return cls.read(np.concatenate([part._logits for part in parts]), parts[0]._calibration)

    @classmethod
    def join_moments(cls, moments: Sequence[Scored]) -> Scored:
        """The same, with each part as one window: the mean of those that it was scored in."""
        means = np.array([moment._logits.mean() for moment in moments], np.float32)
        return cls.read(means, moments[0]._calibration)

    @classmethod
    def add(cls, scores: Sequence[float], calibration: Calibration) -> Scored:
        """Scores of one input by several bundles as one: ``calibration`` reads the sum of their
        log-odds, and so allows for what they have in common.
        """
        return cls._of_odds(sum(map(_odds, scores)), calibration)

    @classmethod
    def pool_frames(cls, scores: Sequence[float], calibration: Calibration) -> Scored:
        """The scores of a video's frames as one: ``calibration`` reads what :func:`pool_frames`
        makes of them.
        """
        return cls._of_odds(pool_frames(scores), calibration)

    @property
    def points(self) -> OperatingPoints:
        """By which the score is read."""
        return self._calibration.points

    @property
    def log_odds(self) -> npt.NDArray[np.float64]:
        """Calibrated log-odds of each window (windows,), without the floor that scores have."""
        slope, intercept = self._calibration.slope, self._calibration.intercept
        return slope * self._logits.astype(np.float64) + intercept

    def drops(self) -> npt.NDArray[np.float32]:
        """By how much the log-odds of each further window (windows - 1,) lie below the first's."""
        odds = self._logits * self._calibration.slope
        return np.asarray(odds[0] - odds[1:], np.float32)

    def only(self, windows: Sequence[int]) -> Scored:
        """The score of some of the windows alone."""
        return Scored.read(self._logits[list(windows)], self._calibration)

    def shifted(self, before: Scored, after: Scored) -> Scored:
        """The input as it would be if all of it changed as some windows did.

        ``before`` and ``after`` are the same windows without and with the change.
        """
        calibration = self._calibration
        change = calibration.pool(after._logits) - calibration.pool(before._logits)
        return Scored.read(self._logits + np.float32(change), calibration)

    def beside(self, quick: Scored) -> Scored:
        """This score of a full tier with that of the ``quick`` one for the same input counted in,
        where the calibration of the full one does so.
        """
        calibration = self._calibration.beside(quick._calibration, quick._logits)
        return Scored.read(self._logits, calibration)

    def mixed(self, other: Scored, *, share: float) -> Scored:
        """The same windows seen in two ways, of which the ``other`` counts by its ``share``."""
        logits = (1 - share) * self._logits + share * other._logits
        return Scored.read(logits, self._calibration)

    @classmethod
    def _of_odds(cls, odds: float, calibration: Calibration) -> Scored:
        """What the log-odds of an input that was scored already mean to another calibration."""
        return cls._of(odds, np.array([odds], np.float32), calibration)

    @classmethod
    def _of(cls, pooled: float, logits: Logits, calibration: Calibration) -> Scored:
        return cls(
            score=calibration.probability(pooled),
            interval=calibration.interval(logits),
            windows=tuple(calibration.probability(float(logit)) for logit in logits),
            _logits=logits,
            _calibration=calibration,
        )


def pool_frames(scores: Sequence[float]) -> float:
    """The mean log-odds of the higher half of the frames' scores.

    Half, because a clip may be generated in part; not fewer, because single frames are noisy.
    """
    odds = sorted(map(_odds, scores))
    return float(np.mean(odds[-max(1, math.ceil(FRAMES_FRACTION * len(odds))) :]))


def _odds(score: float) -> float:
    return math.log(score / (1 - score))
