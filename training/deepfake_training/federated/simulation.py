"""What a federation is worth: the sources of the material as sites, against training in one place
and against each site alone, honest and poisoned, with and without privacy, always judged on the
sources of a site that was left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
from msgspec import structs
from tqdm import tqdm

from ..card import markdown
from ..exposure.material import Mask, Shelf
from ..metrics import separation
from ..own.head import join_head
from ..own.network import Linear
from ..privacy.design import Private
from ..privacy.guarantee import Budget
from .aggregation import aggregate
from .site import Site, move_common, start_common
from .terms import Common, Terms

NOTHING = "nothing, the shipped head"
LABELS, REVERSED = "labels flipped", "reversed, ten times"
BOOST = -10.0


@dataclass(frozen=True)
class Place:
    """One site: a genuine source and synthetic ones, or a single source; which files (files,)."""

    name: str
    files: Mask


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """A way to train; ``poison`` is what so many sites do, ``epsilon`` the budget of every site."""

    name: str
    rule: str = ""
    poison: str = ""
    poisoned: int = 0
    epsilon: float = 0.0


@dataclass(frozen=True)
class SiteRow:
    """A scheme: the mean AUC of the left-out synthetic sources against the genuine ones left out
    with them, files as they are, the worst of them, and the mean after changes.
    """

    scheme: str
    rule: str
    poison: str
    poisoned: int
    epsilon: float
    auc: float
    worst_auc: float
    auc_changed: float


def make_places(shelf: Shelf, *, alone: bool = False) -> list[Place]:
    """One site for each genuine source, with synthetic sources dealt out to them by their number of
    files, the largest first; with ``alone`` every source is a site of one class.
    """
    counts = shelf.counts()
    names = shelf.sources
    genuine, synthetic = (
        sorted((p for p in counts if p[0] == label), key=lambda p: (-counts[p], p))
        for label in (0, 1)
    )
    if alone:
        return [
            Place(name, (names == name) & (shelf.labels == label))
            for label, name in sorted(genuine + synthetic)
        ]
    hands: list[list[str]] = [[] for _ in genuine]
    held = [0] * len(genuine)
    for place in synthetic:
        hand = held.index(min(held))
        hands[hand].append(place[1])
        held[hand] += counts[place]
    return [
        Place(
            "+".join((own[1], *hand)),
            ((names == own[1]) & (shelf.labels == 0))
            | (np.isin(names, hand) & (shelf.labels == 1)),
        )
        for own, hand in zip(genuine, hands, strict=True)
        if hand
    ]


def list_schemes(*, epsilons: Sequence[float], poisoned: Sequence[int]) -> list[Scheme]:
    """All that is compared."""
    rules = ("fedavg", "median", "trimmed", "krum")
    return [
        Scheme(name=NOTHING),
        Scheme(name="in one place, logistic regression"),
        Scheme(name="in one place, the same steps"),
        Scheme(name="each site alone"),
        *(Scheme(name="federated", rule=rule) for rule in rules),
        *(
            Scheme(name="federated", rule=rule, poison=poison, poisoned=count)
            for count in poisoned
            for poison in (LABELS, REVERSED)
            for rule in rules
        ),
        *(
            Scheme(name="federated", rule=rule, epsilon=epsilon)
            for epsilon in epsilons
            for rule in ("fedavg", "median")
        ),
    ]


def simulate(
    shelf: Shelf,
    schemes: Sequence[Scheme],
    *,
    rounds: int,
    steps: int,
    delta: float,
    seed: int,
    alone: bool = False,
    most_folds: int = 0,
) -> list[SiteRow]:
    """A row for each scheme. With sites of one source, those of a fold of sources are left out
    together; such sites cannot train alone.
    """
    terms = Terms(
        slot=shelf.base.slot,
        bundle_sha256=shelf.base.sha256,
        features=shelf.clean.shape[1] - 1,
        start="fresh" if shelf.shipped is None else "shipped",
        rule="fedavg",
        rounds=rounds,
        steps=steps,
    )
    places = make_places(shelf, alone=alone)
    outs = [~shelf.outside(fold) for fold in shelf.folds] if alone else [p.files for p in places]
    outs = outs[: most_folds or len(outs)]
    if alone:
        schemes = [scheme for scheme in schemes if scheme.name != "each site alone"]
    found: dict[Scheme, list[tuple[list[float], list[float]]]] = {one: [] for one in schemes}
    with tqdm(total=len(outs) * len(schemes), desc="schemes", disable=None) as bar:
        for out in outs:
            inside = [Place(p.name, p.files & ~out) for p in places]
            inside = [p for p in inside if p.files.any()]
            for scheme in schemes:
                heads = _train(shelf, scheme, inside, terms, delta=delta, seed=seed)
                found[scheme] += [judge_out(shelf, head, out) for head in heads]
                bar.update()
    return [
        SiteRow(
            *(scheme.name, scheme.rule, scheme.poison, scheme.poisoned, scheme.epsilon),
            auc=float(np.mean([np.mean(plain) for plain, _ in results])),
            worst_auc=float(min(min(plain) for plain, _ in results)),
            auc_changed=float(np.mean([np.mean(changed) for _, changed in results])),
        )
        for scheme, results in found.items()
    ]


def judge_out(shelf: Shelf, head: Linear, out: Mask) -> tuple[list[float], list[float]]:
    """The AUC of every left-out synthetic source against the left-out genuine files, as they are
    and after changes.
    """
    found: tuple[list[float], list[float]] = ([], [])
    rows, files = shelf.lessons.rows[:, :-1], shelf.lessons.files
    everything = np.arange(len(shelf.files))
    for areas, logits, place in (
        (found[0], head(shelf.clean[:, :-1]), everything),
        (found[1], head(rows), files),
    ):
        labels, names = shelf.labels[place], shelf.sources[place]
        genuine = logits[out[place] & (labels == 0)].tolist()
        for name in np.unique(names[out[place] & (labels == 1)]):
            own = logits[out[place] & (names == name) & (labels == 1)]
            areas.append(separation(own.tolist(), genuine))
    return found


def federate(sites: Sequence[Site], terms: Terms, *, rule: str) -> Common:
    """All rounds, in this process."""
    common = start_common(
        aggregate(np.stack([one.statistics() for one in sites]), rule=rule), terms
    )
    for number in range(1, terms.rounds + 1):
        updates = np.stack([one.step(common, number) for one in sites])
        common = move_common(common, aggregate(updates, rule=rule))
    return common


def _train(
    shelf: Shelf, scheme: Scheme, places: Sequence[Place], terms: Terms, *, delta: float, seed: int
) -> list[Linear]:
    """The head of a scheme; of sites alone one head each."""
    if scheme.name == NOTHING:
        return [shelf.original]
    everything = np.any([place.files for place in places], axis=0)
    if not scheme.rule and "logistic" in scheme.name:
        return [shelf.fit(everything)]
    if not scheme.rule:
        parts = [everything] if "one place" in scheme.name else [p.files for p in places]
        return [_alone(shelf, part, terms) for part in parts]
    terms = structs.replace(terms, rule=scheme.rule)
    private = None
    if scheme.epsilon:
        private = Private(Budget(epsilon=scheme.epsilon, delta=delta), shelf.reference)
    sites = [
        Site(shelf.samples(place.files), terms, private, seed=seed + 1 + number)
        for number, place in enumerate(places)
    ]
    order = np.random.default_rng(seed).permutation(len(sites))
    for number in order[: scheme.poisoned]:
        labels = scheme.poison == LABELS
        sites[number] = replace(sites[number], flipped=labels, boost=1.0 if labels else BOOST)
    return [_read(shelf, federate(sites, terms, rule=scheme.rule))]


def _alone(shelf: Shelf, chosen: Mask, terms: Terms) -> Linear:
    """The same number of steps on one pile of files."""
    return _read(shelf, federate([Site(shelf.samples(chosen), terms)], terms, rule="fedavg"))


def _read(shelf: Shelf, common: Common) -> Linear:
    raw, bias = common.scale.unscale(common.head.weights, common.head.bias)
    return join_head(raw, bias, shipped=shelf.shipped)


def table(rows: Sequence[SiteRow]) -> str:
    """The rows for a person."""
    head = ["trained", "joined by", "poisoned sites", "how", "ε of a site", "AUC", "worst AUC"]
    cells = [
        [
            *(row.scheme, row.rule or None, row.poisoned or None, row.poison or None),
            *(f"{row.epsilon:g}" if row.epsilon else None, *astuple(row)[5:]),
        ]
        for row in rows
    ]
    return markdown([*head, "AUC changed"], cells)
