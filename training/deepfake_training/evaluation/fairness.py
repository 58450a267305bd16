"""Whether some groups are accused or missed more often than the rest.

A group is what a column of the manifest says of a file: a language, a sex, a device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.stats import fisher_exact

from deepfake.types import Verdict

from .compare import ALARM
from .measures import Estimate, estimate_share
from .run import Outcome
from .tabulate import make_draws

UNFAIR = 0.05
"""The probability of one warning or more where no group differs, of one kind and view."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The files of one kind and view with one ``value`` of one ``trait``.

    ``accused`` is the share of its genuine files that were called synthetic, ``alarmed`` that of
    those called synthetic or suspicious, ``missed`` that of its synthetic files of which no sign
    was found. ``p`` tells whether its genuine files are alarmed more often than those of other
    values (Fisher's exact test, one-sided, corrected after Holm 1979 for all groups of the kind and
    view); it takes files for independent.
    """

    kind: str
    view: str
    trait: str
    value: str
    genuine: int
    synthetic: int
    accused: Estimate | None
    alarmed: Estimate | None
    missed: Estimate | None
    p: float | None

    @property
    def unfair(self) -> bool:
        return self.p is not None and self.p < UNFAIR


def compare_groups(outcomes: Sequence[Outcome], *, draws: int, seed: int) -> list[Group]:
    """Every group of every trait that has more than one value."""
    found: list[Group] = []
    for kind, view in sorted({(str(one.kind), one.view) for one in outcomes if one.verdict}):
        inside = [one for one in outcomes if (one.kind, one.view) == (kind, view) and one.verdict]
        found += _correct([*_groups_of_view(inside, draws=draws, seed=seed)])
    return found


def warn_of_groups(groups: Sequence[Group]) -> list[str]:
    """A sentence for each group whose genuine files are alarmed significantly more often."""
    return [
        f"{it.kind}, {it.view}: genuine files with {it.trait} {it.value} are called synthetic or "
        f"suspicious more often than others ({it.alarmed[0]:.1%} of {it.genuine}, p {it.p:.2g} "
        "after correction)"
        for it in groups
        if it.unfair and it.alarmed is not None
    ]


def _groups_of_view(inside: Sequence[Outcome], *, draws: int, seed: int) -> Iterator[Group]:
    draw = partial(make_draws, count=draws, seed=seed)
    for trait in sorted({name for one in inside for name in one.traits}):
        stated = [one for one in inside if trait in one.traits]
        values = sorted({one.traits[trait] for one in stated})
        for value in values if len(values) > 1 else ():
            own = [one for one in stated if one.traits[trait] == value]
            genuine = [one for one in own if not one.synthetic]
            synthetic = [one for one in own if one.synthetic]
            others = [one for one in stated if one.traits[trait] != value and not one.synthetic]

            def share(files: list[Outcome], words: frozenset[str]) -> Estimate | None:
                chosen = np.array([one.verdict in words for one in files])
                return estimate_share(chosen, draw(files)) if files else None

            yield Group(
                kind=str(own[0].kind),
                view=own[0].view,
                trait=trait,
                value=value,
                genuine=len(genuine),
                synthetic=len(synthetic),
                accused=share(genuine, frozenset({Verdict.SYNTHETIC.value})),
                alarmed=share(genuine, ALARM),
                missed=share(synthetic, frozenset({Verdict.AUTHENTIC.value})),
                p=_test(genuine, others),
            )


def _test(own: Sequence[Outcome], others: Sequence[Outcome]) -> float | None:
    if not own or not others:
        return None
    table = [
        [sum(one.verdict in ALARM for one in files), sum(one.verdict not in ALARM for one in files)]
        for files in (own, others)
    ]
    return float(fisher_exact(table, alternative="greater").pvalue)


def _correct(groups: list[Group]) -> list[Group]:
    """The groups with p-values that hold for all of them together."""
    tested = sorted(
        (place for place, it in enumerate(groups) if it.p is not None),
        key=lambda place: groups[place].p or 0.0,
    )
    least = 0.0
    for rank, place in enumerate(tested):
        least = max(least, min(1.0, (groups[place].p or 0.0) * (len(tested) - rank)))
        groups[place] = replace(groups[place], p=least)
    return groups
