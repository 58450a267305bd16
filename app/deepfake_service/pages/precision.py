"""How often rulings confirm each verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from deepfake.types import Verdict

from ..store.cases import UNRULED
from ..store.tables import Ruling

Z = 1.959964
"""Of 95 %, two-sided, in the normal distribution."""


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


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The interval of 95 % of a share (E. B. Wilson, 1927); 0 to 1 of nothing."""
    if not of:
        return 0.0, 1.0
    share, square = hits / of, Z * Z / of
    middle = (share + square / 2) / (1 + square)
    half = Z * math.sqrt(share * (1 - share) / of + square / (4 * of)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)
