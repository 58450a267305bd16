"""How often rulings confirm each verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deepfake.types import Verdict

from ..monitoring.field import wilson
from ..store.cases import UNRULED
from ..store.tables import Ruling


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Of one verdict: how many reports have it and how they were ruled on last."""

    verdict: Verdict
    confirmed: int
    overturned: int
    escalated: int
    unruled: int

    @property
    def decided(self) -> int:
        return self.confirmed + self.overturned

    @property
    def share(self) -> float | None:
        """Of the rulings that decide, those that confirm."""
        return self.confirmed / self.decided if self.decided else None

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95 % around the share."""
        return wilson(self.confirmed, self.decided)


def tabulate(counts: Mapping[tuple[Verdict, str], int]) -> list[Precision]:
    """A row for each verdict."""
    return [
        Precision(
            verdict=verdict,
            confirmed=counts.get((verdict, Ruling.CONFIRM), 0),
            overturned=counts.get((verdict, Ruling.OVERTURN), 0),
            escalated=counts.get((verdict, Ruling.ESCALATE), 0),
            unruled=counts.get((verdict, UNRULED), 0),
        )
        for verdict in Verdict
    ]
