"""Two detectors on the same files: is the difference more than chance?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from deepfake.errors import SettingsError
from deepfake.types import Verdict

from .measures import Estimate, compare_areas, estimate_difference, measure_auc
from .run import FUSED, PEER, Outcome
from .tabulate import OWN_NETWORK, make_draws

ALARM = frozenset({Verdict.SYNTHETIC.value, Verdict.SUSPICIOUS.value})
_RARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two scores of the same files of one kind in one view.

    ``gain`` is how much higher the AUC of the second is, with an interval over sources drawn anew,
    as ``p_sources`` is; ``p_files`` is that of DeLong's test, which takes all files for independent
    and so is too sure where a source has many. ``text`` says it in words.
    """

    kind: str
    view: str
    first: str
    second: str
    synthetic: int
    genuine: int
    first_auc: float
    second_auc: float
    gain: Estimate
    p_sources: float
    p_files: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Flips:
    """Files of one class whose verdict became an alarm (synthetic or suspicious), ``raised``, or
    was one before, ``dropped``; ``p`` is McNemar's exact test, over files.
    """

    kind: str
    view: str
    label: str
    files: int
    raised: int
    dropped: int
    p: float
    text: str


@dataclass(frozen=True)
class Pairing:
    """``missing`` are the views of files that only one of two results has."""

    comparisons: list[Comparison]
    flips: list[Flips]
    paired: int
    missing: int

    @property
    def sentences(self) -> list[str]:
        """What was found, in words."""
        told = [f"{one.kind}, {one.view}: {one.text}" for one in self.comparisons]
        return [*told, *(f"{one.kind}, {one.view}: {one.text}" for one in self.flips)]


def compare_results(
    before: Sequence[Outcome], after: Sequence[Outcome], *, draws: int, seed: int
) -> Pairing:
    """Every score that both results have, over the files (by sha256) and views of both.

    Raises ``SettingsError`` where they share no file, or label one differently.
    """
    known = {(one.sha256, one.view): one for one in before if one.sha256}
    pairs = [
        (known[one.sha256, one.view], one)
        for one in after
        if one.sha256 and (one.sha256, one.view) in known
    ]
    if not pairs:
        raise SettingsError(
            "comparison: the two results have no file and view in common",
            hint="evaluate the same files in both",
        )
    for one, other in pairs:
        if one.synthetic != other.synthetic:
            raise SettingsError(
                f"comparison: the results label {other.name} differently", hint="mend the labels"
            )
    comparisons, flips = [], []
    for kind, view in dict.fromkeys((str(other.kind), other.view) for _, other in pairs):
        inside = [pair for pair in pairs if (pair[1].kind, pair[1].view) == (kind, view)]
        names = [name for name in inside[0][1].scores if not name.startswith(PEER)]
        names = [name for name in (FUSED, OWN_NETWORK[kind]) if name in names] or names
        for name in names:
            found = _compare(
                [other for _, other in inside],
                (f"{name} before", [one.scores.get(name) for one, _ in inside]),
                (f"{name} now", [other.scores.get(name) for _, other in inside]),
                draws=draws,
                seed=seed,
            )
            comparisons += [found] if found else []
        for synthetic in (True, False):
            own = [pair for pair in inside if pair[1].synthetic is synthetic]
            flips += [_count_flips(own)] if own else []
    total = len({(one.sha256, one.view) for one in (*before, *after) if one.sha256})
    return Pairing(comparisons, flips, len(pairs), total - len(pairs))


def compare_peers(outcomes: Sequence[Outcome], *, draws: int, seed: int) -> list[Comparison]:
    """Each peer beside the fused score and beside the network's own, on the files that both
    scored.
    """
    found = []
    for kind, view in dict.fromkeys((str(one.kind), one.view) for one in outcomes if one.kind):
        inside = [one for one in outcomes if (one.kind, one.view) == (kind, view)]
        names = {name for one in inside for name in one.scores if name.startswith(PEER)}
        for peer in sorted(names):
            for ours in (FUSED, OWN_NETWORK[kind]):
                one = _compare(
                    inside,
                    (peer, [outcome.scores.get(peer) for outcome in inside]),
                    (ours, [outcome.scores.get(ours) for outcome in inside]),
                    draws=draws,
                    seed=seed,
                )
                found += [one] if one else []
    return found


def _compare(
    outcomes: Sequence[Outcome],
    first: tuple[str, Sequence[float | None]],
    second: tuple[str, Sequence[float | None]],
    *,
    draws: int,
    seed: int,
) -> Comparison | None:
    rows = [
        (outcome, one, other)
        for outcome, one, other in zip(outcomes, first[1], second[1], strict=True)
        if one is not None and other is not None
    ]
    labels = np.array([outcome.synthetic for outcome, _, _ in rows], np.float64)
    if len(set(labels)) < 2:
        return None
    scores = {"first": np.array([r[1] for r in rows]), "second": np.array([r[2] for r in rows])}
    lots = make_draws([row[0] for row in rows], count=draws, seed=seed)
    gain, p_sources = estimate_difference(labels, scores, lots)
    areas = [float(measure_auc(labels, values, lots.base[None])[0]) for values in scores.values()]
    return Comparison(
        kind=str(outcomes[0].kind),
        view=outcomes[0].view,
        first=first[0],
        second=second[0],
        synthetic=int(labels.sum()),
        genuine=int((1 - labels).sum()),
        first_auc=areas[0],
        second_auc=areas[1],
        gain=gain,
        p_sources=p_sources,
        p_files=compare_areas(labels, *scores.values()),
        text=_say_gain(first[0], second[0], gain),
    )


def _say_gain(first: str, second: str, gain: Estimate) -> str:
    value, low, high = gain
    interval = f"{abs(value):.3f} (95 % interval of the gain {low:+.3f} to {high:+.3f})"
    if value == low == high == 0:
        return f"{second} ranks the files as {first} does."
    better, worse = (second, first) if value >= 0 else (first, second)
    if low > 0 or high < 0:
        return f"{better} ranks better than {worse}, by an AUC of {interval}."
    return (
        f"{better} ranks better than {worse} by an AUC of {interval}, which may be chance: other "
        "sources could turn it round."
    )


def _count_flips(pairs: Sequence[tuple[Outcome, Outcome]]) -> Flips:
    def count(test: Callable[[bool, bool], bool]) -> int:
        alarms = ((one.verdict in ALARM, other.verdict in ALARM) for one, other in both)
        return sum(test(*alarm) for alarm in alarms)

    both = [(one, other) for one, other in pairs if one.verdict and other.verdict]
    raised = count(lambda before, now: now and not before)
    dropped = count(lambda before, now: before and not now)
    p = float(binomtest(raised, raised + dropped).pvalue) if raised + dropped else 1.0
    other = pairs[0][1]
    label = "synthetic" if other.synthetic else "genuine"
    good = raised > dropped if other.synthetic else dropped > raised
    if p >= _RARE:
        judged = "no more than chance would do" if raised + dropped else "nothing changed"
    else:
        judged = "an improvement" if good else "a change for the worse"
    return Flips(
        kind=str(other.kind),
        view=other.view,
        label=label,
        files=len(both),
        raised=raised,
        dropped=dropped,
        p=p,
        text=f"Of {len(both)} {label} files {raised} became an alarm and {dropped} no longer are "
        f"one: {judged}.",
    )


def versions_differ(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between the bundles and versions of two results, in words."""
    return [
        f"{name}: {before.get(name, 'none')} → {after.get(name, 'none')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
