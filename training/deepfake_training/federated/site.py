"""What one site computes of its own files: statistics, and steps from the common head."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from deepfake.errors import DeepfakeError

from ..privacy.descent import Start, choose_pace, descend, descend_privately, tensors_of
from ..privacy.design import Private, Samples, Scale, measure_scale, release_scale
from ..privacy.guarantee import Schedule, plan, spent
from .terms import Common, Floats, Terms, pack_head, pack_scale, unpack_head, unpack_scale

History = list[tuple[float, float, int]]


@dataclass
class Site:
    """``history`` is what was spent of a budget, where there is one: noise, sample rate, steps.

    ``flipped`` labels and ``boosted`` updates make a poisoned site for simulations.
    """

    samples: Samples
    terms: Terms
    private: Private | None = None
    history: History = field(default_factory=list)
    seed: int = 0
    flipped: bool = False
    boost: float = 1.0
    _scaled: tuple[Scale, tuple[torch.Tensor, ...]] | None = None

    def schedule(self) -> Schedule:
        """How noise is spread over all rounds of these terms."""
        assert self.private is not None
        budget = self.private.budget
        budget.check(len(self.samples.labels))
        return plan(budget, rate=1.0, steps=self.terms.rounds * self.terms.steps)

    @property
    def epsilon(self) -> float:
        """What was spent so far."""
        assert self.private is not None
        return spent(self.history, self.private.budget.delta) if self.history else 0.0

    def statistics(self) -> Floats:
        """Means and mean squares of its files, with noise where it has a budget."""
        if self.private is None:
            return pack_scale(measure_scale(self.samples, started=self.terms.started))
        schedule = self.schedule()
        self._spend(schedule.statistics_noise, 1)
        return pack_scale(
            release_scale(
                self.samples,
                self.private.reference,
                noise=schedule.statistics_noise,
                started=self.terms.started,
                rng=np.random.default_rng(self._draw(0)),
            )
        )

    def step(self, common: Common, round_number: int) -> Floats:
        """How far the steps of one round lead away from the common head, as one vector."""
        given, terms = self._scale(common.scale), self.terms
        if self.private is None:
            home = Start(*common.scale.start())
            found = descend(given, common.head, home, steps=terms.steps, pace=terms.pace)
        else:
            whole = self.schedule()
            self._spend(whole.noise, terms.steps)
            found, _ = descend_privately(
                given,
                common.head,
                Schedule(
                    statistics_noise=whole.statistics_noise,
                    noise=whole.noise,
                    rate=1.0,
                    steps=terms.steps,
                ),
                delta=self.private.budget.delta,
                seed=self._draw(round_number),
                pace=choose_pace(whole, len(self.samples.labels)),
            )
        moved = pack_head(found) - pack_head(common.head)
        return np.asarray(self.boost * moved)

    def _scale(self, scale: Scale) -> tuple[torch.Tensor, ...]:
        """Its files on the common scale, kept from round to round."""
        if self._scaled is None or self._scaled[0] is not scale:
            labels = 1 - self.samples.labels if self.flipped else self.samples.labels
            own = replace(self.samples, labels=labels)
            self._scaled = scale, tensors_of(own, scale)
        return self._scaled[1]

    def _draw(self, number: int) -> int:
        """A seed of noise: by chance, unless a simulation fixed one."""
        if self.seed:
            return self.seed * 100_003 + number
        return secrets.randbits(63)

    def _spend(self, noise: float, steps: int) -> None:
        """Note what a step costs before it is taken; raise where the budget does not hold it."""
        assert self.private is not None
        budget = self.private.budget
        after = [*self.history, (noise, 1.0, steps)]
        if spent(after, budget.delta) > budget.epsilon * (1 + 1e-6):
            raise DeepfakeError(
                f"privacy budget: ε {budget.epsilon:g} at δ {budget.delta:g} is spent; this site "
                "takes no further part",
                hint="the head of the last round is kept by the server",
            )
        self.history.append((noise, 1.0, steps))


def start_common(vector: Floats, terms: Terms) -> Common:
    """What all sites begin with: the aggregated statistics, and the shipped head or nothing."""
    scale = unpack_scale(vector, started=terms.started)
    return Common(scale, Start(*scale.start()))


def move_common(common: Common, update: Floats) -> Common:
    """The head after the aggregated update of a round."""
    return Common(common.scale, unpack_head(pack_head(common.head) + update))
