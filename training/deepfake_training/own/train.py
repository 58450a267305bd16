"""``deepfake train``: from folders of media to a bundle that ``deepfake detect`` uses."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deepfake.bundle import Bundle
from deepfake.errors import ModelError
from deepfake.settings import Settings, shipped_models_folder, user_keys_folder
from deepfake.trust.registry import LIST, activate, read_bundles
from deepfake.trust.signatures import Trust, require_signed, sign_own
from deepfake.version import VERSION

from ..card import plot_evaluation
from ..export import Trained, metrics_to_dict, write_bundle
from ..manifests import Item, data_sha256
from ..records import write_records
from .assessment import assess, check_worth
from .card import Story, write_card
from .features import Gathered, drop_small_sources, gather
from .folds import judge_held_out, make_folds
from .head import Lessons, fit_head
from .leaks import find_leaks
from .material import CLASSES, Source, check_sources, find_sources
from .network import FeatureGraph, digest, golden, open_network
from .reading import Recorder
from .report import print_report
from .views import View, list_views
from .wish import Wish, check_wish

LEAST_FILES = 5
"""Fewest files of a source that counts."""
FEW_FILES = 30


def train(wish: Wish) -> Bundle:
    """Train, try on what was left out, write the bundle and make it the active one of its folder.

    What was computed stays in ``OUTPUT.work``, from which the same command goes on after a stop.
    Raises ``SettingsError`` for a wish that cannot be fulfilled, and ``DeepfakeError``, with
    nothing written, for a detector that tells left-out sources no better than chance.
    """
    began = time.perf_counter()
    check_wish(wish)
    sources = find_sources(
        wish.genuine, wish.synthetic, split=wish.split, limit=wish.limit, seed=wish.seed
    )
    work = wish.output.with_name(f"{wish.output.name}.work")
    work.mkdir(parents=True, exist_ok=True)
    active = read_bundles(wish.models)
    if wish.slot not in active:
        raise ModelError(f"slot {wish.slot}: no bundle in {wish.models}", hint="leave --models out")
    for text in require_signed(active.values(), Trust.read(Settings(models_folder=wish.models))):
        print(f"warning: {text}", file=sys.stderr)
    base, threads = active[wish.slot], wish.threads or len(os.sched_getaffinity(0))
    _print_sources(sources)
    views = list_views(wish.slot, seed=wish.seed)
    gathered = read_material(wish, sources, base, active, views, work=work, threads=threads)
    lessons = Lessons.read(gathered.files, views)
    network = open_network(base)
    shipped = network.head() if wish.start == "shipped" else None
    folds = make_folds(gathered.files, split=wish.split, seed=wish.seed)
    judged = judge_held_out(gathered.files, lessons, folds, views, shipped=shipped)
    write_records(work / "out_of_fold.jsonl", [one.record for one in judged])
    assessed = assess(judged, slot=wish.slot)
    leaks = find_leaks(gathered.files)
    print_report(assessed.clips or (assessed.sources, assessed.views), split=wish.split)
    for leak in leaks:
        print(f"warning: {leak}", file=sys.stderr)
    check_worth(wish.output.name, assessed)
    everything = np.ones(len(gathered.files), np.bool_)
    head = fit_head(lessons, gathered.files, everything, shipped=shipped)
    facts = describe(wish, base, gathered, [fold.group for fold in folds], threads=threads)
    facts["wall_seconds"] = round(time.perf_counter() - began)
    trained = Trained(
        network=network.with_head(head),
        network_name=base.network,
        network_options=dict(base.network_options),
        preprocess=base.preprocess,
        records=[one.record for one in judged],
        limits=base.limits,
        facts=facts,
    )
    network.check(golden(base))
    print("writing the bundle: graph, weights, golden inputs, card")
    story = Story(
        wish=wish, base=base, assessed=assessed, leaks=leaks, gathered=gathered, views=views
    )
    bundle = write(trained, story, work=work)
    others = None if (wish.output.parent / LIST).exists() else True
    activate(wish.output.parent, wish.output.name, others_shipped=others)
    _print_next(bundle, wish, work)
    return bundle


def read_material(
    wish: Wish,
    sources: Sequence[Source],
    base: Bundle,
    active: dict[str, Bundle],
    views: Sequence[View],
    *,
    work: Path,
    threads: int,
) -> Gathered:
    """The files of the sources that can be used, with their features in ``work``."""
    cv2.setNumThreads(threads)
    graph = FeatureGraph(base, folder=work, threads=threads)
    key = digest(VERSION, base.sha256, wish.seed, [view.name for view in views])
    recorder = Recorder(Settings(device="cpu", threads=threads), active, base, graph)
    try:
        gathered = gather(sources, recorder, views, folder=work / f"features-{key}")
    finally:
        recorder.close()
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
