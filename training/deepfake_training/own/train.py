"""``deepfake train``: from folders of media to a bundle that ``deepfake detect`` uses."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepfake.bundle import Bundle
from deepfake.errors import ModelError
from deepfake.settings import Settings, shipped_models_folder, user_keys_folder
from deepfake.trust.registry import LIST, activate, read_bundles
from deepfake.trust.signatures import Trust, require_signed, sign_own

from ..audit.shortcuts import find_leaks
from ..card import plot_evaluation
from ..export import Trained, metrics_to_dict, write_bundle
from ..manifests import CLASSES, Item, data_sha256
from ..privacy.design import Private
from ..privacy.guarantee import Ledger
from ..records import write_records
from .assessment import Assessed, assess, check_worth
from .auditing import Gate, open_gate, read_features
from .card import Story, write_card
from .features import Gathered, drop_small_sources
from .folds import Judged, judge_held_out, make_folds
from .head import Lessons, fit_head, fit_private_head
from .material import Source, check_sources, find_sources
from .network import Linear, OpenNetwork, golden, measure_golden, open_network
from .report import print_report
from .views import View, list_views
from .wish import Wish, check_wish

LEAST_FILES = 5
"""Fewest files of a source that counts."""
FEW_FILES = 30


@dataclass(frozen=True, kw_only=True)
class Base:
    """The shipped network that a wish starts from, and what is read and written beside it."""

    wish: Wish
    bundle: Bundle
    active: dict[str, Bundle]
    network: OpenNetwork
    views: list[View]
    work: Path
    threads: int
    gate: Gate

    def read(self) -> tuple[Gathered, Lessons]:
        """The wish's files and their features."""
        wish = self.wish
        sources = find_sources(
            wish.genuine, wish.synthetic, split=wish.split, limit=wish.limit, seed=wish.seed
        )
        _print_sources(sources)
        gathered = read_material(
            wish,
            sources,
            self.bundle,
            self.active,
            self.views,
            work=self.work,
            threads=self.threads,
            gate=self.gate,
        )
        return gathered, Lessons.read(gathered.files, self.views)

    def shipped(self, start: str) -> Linear | None:
        """The head that the network came with, where a fit starts from it."""
        return self.network.head() if start == "shipped" else None

    def describe(
        self,
        gathered: Gathered,
        folds: Sequence[str],
        ledger: Ledger | None,
        *,
        trust: npt.NDArray[np.float64],
    ) -> dict[str, Any]:
        """What the bundle says of how it was made; ``trust`` (files,) is what each file counted."""
        facts = describe(self.wish, self.bundle, gathered, folds, threads=self.threads)
        less = int((trust < 1).sum())
        facts["suspicious"] = f"{self.wish.suspicious}, {less} files counted less"
        return facts if ledger is None else facts | _describe_privacy(ledger)


def open_base(wish: Wish) -> Base:
    """What a wish starts from; raises ``SettingsError`` for one that cannot be fulfilled."""
    check_wish(wish)
    gate = open_gate(wish.suspicious, wish.decisions)
    work = wish.output.with_name(f"{wish.output.name}.work")
    work.mkdir(parents=True, exist_ok=True)
    active = read_bundles(wish.models)
    if wish.slot not in active:
        raise ModelError(f"slot {wish.slot}: no bundle in {wish.models}", hint="leave --models out")
    for text in require_signed(active.values(), Trust.read(Settings(models_folder=wish.models))):
        print(f"warning: {text}", file=sys.stderr)
    return Base(
        wish=wish,
        bundle=active[wish.slot],
        active=active,
        network=open_network(active[wish.slot]),
        views=list_views(wish.slot, seed=wish.seed),
        work=work,
        threads=wish.threads or len(os.sched_getaffinity(0)),
        gate=gate,
    )


def train(wish: Wish) -> Bundle:
    """Train, try on what was left out, write the bundle and make it the active one of its folder.

    What was computed stays in ``OUTPUT.work``, from which the same command goes on after a stop.
    Raises ``SettingsError`` for a wish that cannot be fulfilled, and ``DeepfakeError``, with
    nothing written, for a detector that tells left-out sources no better than chance.
    """
    began = time.perf_counter()
    base = open_base(wish)
    gathered, lessons = base.read()
    shipped = base.shipped(wish.start)
    private = None
    if wish.budget is not None:
        wish.budget.check(len(gathered.files))
        private = Private(wish.budget, measure_golden(base.bundle))
    ledger: Ledger | None = None

    def fit(chosen: npt.NDArray[np.bool_]) -> Linear:
        nonlocal ledger
        if private is None:
            return fit_head(lessons, gathered.files, chosen, shipped=shipped)
        head, ledger = fit_private_head(
            lessons, gathered.files, chosen, shipped=shipped, private=private
        )
        return head

    folds = make_folds(gathered.files, split=wish.split, seed=wish.seed)
    judged = judge_held_out(gathered.files, fit, folds, base.views)
    trust = base.gate.judge(gathered.files, folds, judged, work=base.work, seed=wish.seed)
    if trust.min() < 1:
        lessons = replace(lessons, trust=trust)
        judged = judge_held_out(gathered.files, fit, folds, base.views)
    assessed, leaks = present(base, gathered, judged)
    head = fit(np.ones(len(gathered.files), np.bool_))
    facts = base.describe(gathered, [fold.group for fold in folds], ledger, trust=trust)
    facts["wall_seconds"] = round(time.perf_counter() - began)
    made = Made(gathered, judged, assessed, leaks, head, facts, ledger=ledger)
    return conclude(base, made)


def present(base: Base, gathered: Gathered, judged: Sequence[Judged]) -> tuple[Assessed, list[str]]:
    """Print how heads do on files that they never saw, and warn of what shines through.

    Raises ``DeepfakeError`` where they do no better than chance.
    """
    wish = base.wish
    write_records(base.work / "out_of_fold.jsonl", [one.record for one in judged])
    assessed = assess(judged, slot=wish.slot)
    leaks = find_leaks(gathered.files)
    print_report(assessed.clips or (assessed.sources, assessed.views), split=wish.split)
    for leak in leaks:
        print(f"warning: {leak}", file=sys.stderr)
    check_worth(wish.output.name, assessed)
    return assessed, leaks


@dataclass(frozen=True)
class Made:
    """A head that is good enough, and all that the bundle and its card say of it."""

    gathered: Gathered
    judged: Sequence[Judged]
    assessed: Assessed
    leaks: Sequence[str]
    head: Linear
    facts: dict[str, Any]
    ledger: Ledger | None = None
    note: str = ""


def conclude(base: Base, made: Made) -> Bundle:
    """Write the bundle and make it the active one of its folder."""
    wish, bundle, network = base.wish, base.bundle, base.network
    trained = Trained(
        network=network.with_head(made.head),
        network_name=bundle.network,
        network_options=dict(bundle.network_options),
        preprocess=bundle.preprocess,
        records=[one.record for one in made.judged],
        limits=bundle.limits,
        facts=made.facts,
    )
    network.check(golden(bundle))
    print("writing the bundle: graph, weights, golden inputs, card")
    story = Story(
        wish=wish,
        base=bundle,
        assessed=made.assessed,
        leaks=made.leaks,
        gathered=made.gathered,
        views=base.views,
        ledger=made.ledger,
        note=made.note,
    )
    written = write(trained, story, work=base.work)
    others = None if (wish.output.parent / LIST).exists() else True
    activate(wish.output.parent, wish.output.name, others_shipped=others)
    _print_next(written, wish, base.work)
    return written


def read_material(
    wish: Wish,
    sources: Sequence[Source],
    base: Bundle,
    active: dict[str, Bundle],
    views: Sequence[View],
    *,
    work: Path,
    threads: int,
    gate: Gate,
) -> Gathered:
    """The files of the sources that can be used, with their features in ``work``."""
    gathered = gate.drop(
        read_features(sources, base, active, views, work=work, threads=threads, seed=wish.seed)
    )
    gathered, told = drop_small_sources(gathered, least=LEAST_FILES)
    for text in told:
        print(f"warning: {text}", file=sys.stderr)
    if gathered.left_out:
        reasons = ", ".join(f"{name} {n}" for name, n in sorted(gathered.left_out.items()))
        print(f"left out: {gathered.left_out.total()} files ({reasons})", file=sys.stderr)
    left = Counter((one.label, one.source) for one in gathered.files)
    few = [name for (_, name), count in sorted(left.items()) if count < FEW_FILES]
    if few:
        print(
            f"warning: fewer than {FEW_FILES} files in {', '.join(few)}: read their rows with care",
            file=sys.stderr,
        )
    kept = [Source(name, label, ()) for label, name in left]
    check_sources(kept, split=wish.split)
    return gathered


def describe(
    wish: Wish, base: Bundle, gathered: Gathered, folds: Sequence[str], *, threads: int
) -> dict[str, Any]:
    """What the bundle says of how it was made."""
    counts = Counter((one.label, one.source) for one in gathered.files)
    items = [
        Item(one.path, one.label, one.source, {"sha256": one.info.sha256}) for one in gathered.files
    ]
    return {
        "start": f"{wish.start} head on the features of {base.name}, sha256 {base.sha256}",
        "split": wish.split,
        "seed": wish.seed,
        "data_sha256": data_sha256(items),
        "files": len(gathered.files),
        **{
            f"{word} files": {name: n for (one, name), n in sorted(counts.items()) if one == label}
            for label, word in enumerate(CLASSES)
        },
        "left_out": dict(sorted(gathered.left_out.items())) or "none",
        "machine": f"{platform.machine()} CPU, {threads} threads",
        "folds": list(folds),
    }


def _describe_privacy(ledger: Ledger) -> dict[str, Any]:
    """The guarantee for ``bundle.json``. A hash over all files would tell whoever knows all of them
    but one whether that one is among them, and so would a seed of the noise: neither is there.
    """
    print(
        f"private: ε {ledger.epsilon:.2f} at δ {ledger.delta:g} of one file, for the head; "
        "calibration, limits and tables are outside of it (see the card)"
    )
    return {"privacy": ledger.to_dict(), "data_sha256": None}


def write(trained: Trained, story: Story, *, work: Path) -> Bundle:
    """The bundle with its card and pictures, made and signed with the key of this user in ``work``,
    and put in its place as a whole.
    """
    output, assessed = story.wish.output, story.assessed
    clips = assessed.clips or ([], [])
    bundle = write_bundle(
        trained,
        name=output.name,
        slot=story.wish.slot,
        calibration=assessed.calibration,
        metrics=metrics_to_dict(
            sources=assessed.sources, views=assessed.views, clips=clips[0], clip_views=clips[1]
        ),
        folder=work / output.name,
    )
    if assessed.frames_calibration is not None:
        bundle = replace(bundle, frames_calibration=assessed.frames_calibration)
        bundle.write(bundle.folder)
    plot_evaluation(
        trained.records, top_fraction=assessed.calibration.top_fraction, folder=bundle.folder
    )
    write_card(bundle, story)
    sign_own(bundle)
    shutil.move(bundle.folder, output)
    return Bundle.read(output)


def _print_sources(sources: Sequence[Source]) -> None:
    for label, word in enumerate(CLASSES):
        own = [f"{one.name} ({len(one.files)})" for one in sources if one.label == label]
        print(f"{word}: {', '.join(own)}")


def _print_next(bundle: Bundle, wish: Wish, work: Path) -> None:
    folder = wish.output.parent
    print(f"wrote {wish.output} ({bundle.size_bytes / 1e6:.1f} MB), active in {folder / LIST}")
    print(f"signed with your key in {user_keys_folder()}, which is trusted on this machine")
    print(f"features and logits are in {work}, which may be deleted")
    if folder.resolve() == shipped_models_folder().resolve():
        print(
            f"warning: {folder} is where the shipped bundles are, so that every command now uses "
            f"{bundle.name}",
            file=sys.stderr,
        )
    print(f"next: deepfake detect --models {folder} FILE")
