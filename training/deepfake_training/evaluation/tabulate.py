"""From outcomes to rows: each system against all genuine files, each genuine source against all
synthetic ones, and all together, by kind of file and view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from deepfake.types import Verdict

from .measures import Draws, Estimate, estimate_all, estimate_share
from .run import Outcome

SYNTHETIC, GENUINE = "synthetic", "genuine"
ALL, MEAN = "all files", "all sources alike"
OWN_NETWORK = {"image": "image", "audio": "audio", "video": "video"}
"""The network that a kind of file is not cleared without, whose score stands beside the fused one:
what a file says of itself moves its verdict, and so the fused numbers flatter or suffer.
"""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How well one score tells ``synthetic`` files from ``genuine`` ones, of so many that have it.
    A measure is its value with the ends of its 95 % interval, or None.
    """

    synthetic: int
    genuine: int
    auc: Estimate | None
    eer: Estimate | None
    tpr_at_1: Estimate | None
    tpr_at_01: Estimate | None
    calibration_error: Estimate | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One source, or all of one class, of one kind of file in one view.

    ``verdicts`` are the shares of its examined files by the word that they were given; a genuine
    file that is called synthetic is a wrong accusation. ``scores`` compare its files with all files
    of the other class.
    """

    kind: str
    view: str
    label: str
    source: str
    files: int
    failed: int
    verdicts: Mapping[str, Estimate]
    scores: Mapping[str, Ranking]


def tabulate(outcomes: Sequence[Outcome], *, draws: int, seed: int) -> list[Row]:
    """All rows; ``draws`` bootstrap draws make the intervals, the same for the same ``seed``."""
    rows = []
    places = dict.fromkeys((one.kind, one.view) for one in outcomes if one.kind)
    for kind, view in sorted(places, key=lambda place: str(place[0])):
        inside = [one for one in outcomes if (one.kind, one.view) == (kind, view)]
        rows += [*_rows_of_view(inside, draws=draws, seed=seed)]
    return rows


def _rows_of_view(inside: Sequence[Outcome], *, draws: int, seed: int) -> Iterator[Row]:
    names = sorted({name for one in inside for name in one.scores}, key=_rank)
    for label in (SYNTHETIC, GENUINE):
        own = [one for one in inside if one.synthetic == (label == SYNTHETIC)]
        others = [one for one in inside if one.synthetic != (label == SYNTHETIC)]
        if not own:
            continue
        parts = [(ALL, own), (MEAN, own)]
        parts += [
            (source, [one for one in own if one.source == source])
            for source in sorted({one.source for one in own})
        ]
        for source, mine in parts:
            examined = [one for one in mine if one.verdict]
            draw = partial(make_draws, count=draws, seed=seed, each_alike=source == MEAN)
            known: dict[bytes, Draws] = {}
            shares = {}
            if examined:
                lots = draw(examined)
                shares = {
                    word.value: estimate_share(
                        np.array([one.verdict == word.value for one in examined]), lots
                    )
                    for word in Verdict
                }
            yield Row(
                kind=str(mine[0].kind),
                view=mine[0].view,
                label=label,
                source=source,
                files=len(examined),
                failed=len(mine) - len(examined),
                verdicts=shares,
                scores={
                    name: _rank_files([*mine, *others], name, known, draw=draw)
                    for name in names
                    if any(name in one.scores for one in mine)
                },
            )


def _rank_files(
    outcomes: Sequence[Outcome],
    name: str,
    known: dict[bytes, Draws],
    *,
    draw: Callable[[Sequence[Outcome]], Draws],
) -> Ranking:
    """``known`` keeps the draws of a set of files for the other scores of the same set."""
    scored = [one for one in outcomes if name in one.scores]
    which = bytes(name in one.scores for one in outcomes)
    labels = np.array([one.synthetic for one in scored], np.float64)
    scores = np.array([one.scores[name] for one in scored])
    if which not in known:
        known[which] = draw(scored)
    return Ranking(
        synthetic=int(labels.sum()),
        genuine=int((1 - labels).sum()),
        **estimate_all(labels, scores, known[which]),
    )


def make_draws(
    outcomes: Sequence[Outcome], *, count: int, seed: int, each_alike: bool = False
) -> Draws:
    """The bootstrap of some outcomes of one view."""
    return Draws(
        np.array([one.synthetic for one in outcomes], np.float64),
        [one.group for one in outcomes],
        sources=[one.source for one in outcomes],
        count=count,
        seed=seed,
        each_alike=each_alike,
    )


def _rank(name: str) -> tuple[int, str]:
    """The fused score first, peers last."""
    return (0 if name == "fused" else 2 if name.startswith("peer:") else 1), name
