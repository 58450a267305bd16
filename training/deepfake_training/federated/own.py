"""``deepfake train --federated client``: this site's files, the common head, and a bundle with it
that is calibrated on files which no head has seen.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from deepfake.bundle import Bundle
from deepfake.errors import SettingsError

from ..own.features import Gathered
from ..own.folds import Fold, Judged, judge, judge_held_out, make_folds
from ..own.head import Lessons, fit_head, join_head, read_samples
from ..own.network import Linear, measure_golden
from ..own.train import Base, Made, conclude, open_base, present
from ..own.views import View
from ..own.wish import Wish
from ..privacy.design import Private
from ..privacy.guarantee import Ledger
from .certificates import open_context
from .client import Client, take_part
from .site import Site
from .terms import Common, Terms

Mask = npt.NDArray[np.bool_]
HELD_OUT = 0.3
"""Of the files of every source, that are kept for the calibration."""
PARTS = 3


def join(wish: Wish, *, address: str, certificates: Path, name: str) -> Bundle:
    """Take part as site ``name`` and write the bundle of this site.

    Raises ``SettingsError`` for a wish that cannot be fulfilled and for a server that trains
    another network, ``ServiceError`` for one that cannot be reached.
    """
    began = time.perf_counter()
    wish = replace(wish, split="random")
    context = open_context(certificates, name)
    base = open_base(wish)
    client = Client(address, context)
    try:
        terms = client.terms()
        check_terms(terms, base, wish)
        gathered, lessons = base.read()
        trust = judge_own(base, gathered, lessons)
        if trust.min() < 1:
            lessons = replace(lessons, trust=trust)
        kept = hold_out(gathered, seed=wish.seed)
        learnt = np.array([number not in kept for number in range(len(gathered.files))])
        site = make_site(base, terms, gathered, lessons=lessons, learnt=learnt)
        with tqdm(total=terms.rounds + 1, desc="rounds", disable=None) as bar:

            def tell(_: str) -> None:
                bar.update()

            common = take_part(client, site, folder=base.work / "federated", told=tell)
    finally:
        client.close()
    head = common_head(common, base.shipped(terms.start))
    folds = split_kept(gathered, kept, seed=wish.seed)
    judged = judge_kept(gathered, folds, head, base.views)
    assessed, leaks = present(base, gathered, judged)
    ledger = None if site.private is None else _ledger(site)
    facts = base.describe(gathered, [fold.group for fold in folds], ledger, trust=trust)
    facts["federated"] = describe(terms, name, len(kept))
    facts["wall_seconds"] = round(time.perf_counter() - began)
    made = Made(gathered, judged, assessed, leaks, head, facts, ledger=ledger, note=_note(terms))
    return conclude(base, made)


def check_terms(terms: Terms, base: Base, wish: Wish) -> None:
    """Raise ``SettingsError`` where the server trains something else than this site would."""
    pairs = [
        ("slot", terms.slot, wish.slot),
        ("network", terms.bundle_sha256, base.bundle.sha256),
        ("start", terms.start, wish.start),
        ("number of features", terms.features, len(measure_golden(base.bundle)) - 1),
    ]
    for what, theirs, ours in pairs:
        if theirs != ours:
            raise SettingsError(
                f"{what} {ours}: the server has {theirs}",
                hint="sites and server need the same release, --slot, --start and --models",
            )


def judge_own(base: Base, gathered: Gathered, lessons: Lessons) -> npt.NDArray[np.float64]:
    """What each file (files,) of this site counts, by heads of its own that are sent to nobody.

    Raises ``DeepfakeError`` with ``--suspicious refuse`` where anything grave was found.
    """
    files, wish = gathered.files, base.wish
    if wish.suspicious == "off":
        return np.ones(len(files))
    folds = make_folds(files, split=wish.split, seed=wish.seed)
    fit = partial(fit_head, lessons, files, shipped=base.shipped(wish.start))
    judged = judge_held_out(files, fit, folds, base.views)
    return base.gate.judge(files, folds, judged, work=base.work, seed=wish.seed)


def make_site(
    base: Base, terms: Terms, gathered: Gathered, *, lessons: Lessons, learnt: Mask
) -> Site:
    """What takes part: the files that are ``learnt`` from (files,)."""
    wish = base.wish
    private = None
    if wish.budget is not None:
        wish.budget.check(int(learnt.sum()))
        private = Private(wish.budget, measure_golden(base.bundle))
    return Site(read_samples(lessons, gathered.files, learnt), terms, private)


def hold_out(gathered: Gathered, *, seed: int) -> frozenset[int]:
    """The numbers of some files of every source, drawn by their content and the seed."""

    def place(number: int) -> bytes:
        content = gathered.files[number].info.sha256.encode()
        return blake2b(content, digest_size=8, key=str(seed).encode()).digest()

    kept: list[int] = []
    order = sorted(range(len(gathered.files)), key=place)
    for label, source in sorted({(one.label, one.source) for one in gathered.files}):
        own = [
            number
            for number in order
            if (gathered.files[number].label, gathered.files[number].source) == (label, source)
        ]
        kept += own[: max(PARTS, round(HELD_OUT * len(own)))]
    return frozenset(kept)


def split_kept(gathered: Gathered, kept: frozenset[int], *, seed: int) -> list[Fold]:
    """Held-out files in parts, each with files of every source, so that what a calibration says is
    tried on files that it was not fitted to.
    """
    order = np.random.default_rng(seed).permutation(sorted(kept)).tolist()
    ranked = sorted(order, key=lambda n: (gathered.files[n].label, gathered.files[n].source))
    return [
        Fold(f"part {start + 1} of {PARTS}", frozenset(ranked[start::PARTS]))
        for start in range(PARTS)
    ]


def judge_kept(
    gathered: Gathered, folds: list[Fold], head: Linear, views: list[View]
) -> list[Judged]:
    """Held-out files by the common head."""
    return [
        one
        for number, fold in enumerate(folds)
        for one in judge(gathered.files, fold, number, head, views)
    ]


def common_head(common: Common, shipped: Linear | None) -> Linear:
    """The head of rows as they are."""
    raw, bias = common.scale.unscale(common.head.weights, common.head.bias)
    return join_head(raw, bias, shipped=shipped)


def describe(terms: Terms, name: str, kept: int) -> dict[str, object]:
    """How it was made, for ``bundle.json``."""
    return {
        "site": name,
        "rule": terms.rule,
        "rounds": terms.rounds,
        "steps": terms.steps,
        "held_out_files": kept,
    }


def _ledger(site: Site) -> Ledger:
    assert site.private is not None
    return Ledger(
        epsilon=site.epsilon,
        delta=site.private.budget.delta,
        schedule=site.schedule(),
        clip=1.0,
    )


def _note(terms: Terms) -> str:
    return (
        f"The head was fitted together with other sites that keep their files: {terms.rounds} "
        f"rounds of {terms.steps} steps, joined by {terms.rule}. What is calibrated and measured "
        "here are files of this site that no site learnt from, of sources that it did."
    )
