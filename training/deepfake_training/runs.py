"""A run of a recipe: trained, calibrated, exported and described, or its numbers told again."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from deepfake.bundle import Bundle, Calibration

from .assess import assess, told
from .audio import tier as speech
from .card import add_part, insert_table, plot_evaluation, source_table, view_table, write_card
from .clips import faces
from .clips import recipe as clips
from .export import metrics_to_dict, write_bundle
from .finder import recipe as finder
from .manifests import read_manifest
from .recipes import Recipe
from .records import (
    FileLogits,
    LongLogits,
    read_long,
    read_records,
    unheard,
    write_records,
)
from .studies.failures import choose_failures, draw_failures, drawing_table, judge_drawings
from .wide import recipe as wide
from .wide.bundles import write_bundles

if TYPE_CHECKING:
    from .export import Trained

LARGE = "large"
"""What the records and the folder of a full tier are called in a run."""


def make_bundle(recipe: Recipe, *, data: Path, weights: Path, models: Path, runs: Path) -> Bundle:
    """Train by the recipe, then calibrate, export and describe; an interrupted run goes on."""
    output = runs / recipe.name
    output.mkdir(parents=True, exist_ok=True)
    if isinstance(recipe, finder.FinderRecipe):
        bundle = finder.make_bundle(
            recipe, data=data, weights=weights, models=models, output=output
        )
        finder.evaluate(output)
        return bundle
    if isinstance(recipe, wide.WideRecipe):
        tiers = wide.train(recipe, data=data, weights=weights, output=output)
        quick, full = write_bundles(recipe, tiers, models=models, output=output)
        evaluate_run(recipe, runs=runs, data=data)
        illustrate(quick, output=output)
        illustrate(full, output=output / LARGE)
        return quick
    if isinstance(recipe, clips.FrameRecipe):
        quick, _ = clips.make_tiers(recipe, data=data, models=models, output=output)
        evaluate_run(recipe, runs=runs)
        return quick
    if isinstance(recipe, faces.FaceTierRecipe | speech.SpeechTierRecipe):
        if isinstance(recipe, faces.FaceTierRecipe):
            bundle = faces.make_tier(recipe, data=data, models=models, output=output)
        else:
            bundle = speech.make_tier(recipe, data=data, models=models, output=output)
        evaluate_run(recipe, runs=runs)
        return bundle
    trained: Trained = importlib.import_module(type(recipe).__module__).train(
        recipe, data=data, weights=weights, output=output
    )
    write_records(output / "out_of_fold.jsonl", trained.records)
    write_records(output / "long.jsonl", trained.recordings)
    each_source = recipe.calibration.each_source
    calibration, sources, views, inserts = assess(
        trained.records, trained.recordings, each_source=each_source
    )
    sources = told(sources)
    bundle = write_bundle(
        trained,
        name=recipe.name,
        calibration=calibration,
        metrics=metrics_to_dict(
            sources=sources, views=views, inserts=inserts, families=trained.families
        ),
        folder=models / recipe.name,
    )
    write_card(
        bundle,
        sources=sources,
        views=views,
        inserts=inserts,
        families=trained.families,
        text=asdict(recipe.card),
        command=f"deepfake recipe evaluate training/configs/{recipe.name}.toml",
        each_source=each_source,
    )
    evaluate_run(recipe, runs=runs)
    return bundle


def evaluate_run(recipe: Recipe, *, runs: Path, data: Path | None = None) -> None:
    """Print and store the accuracy of a run, of its full tier too; with ``data`` draw the pictures
    that are judged worst.
    """
    output = runs / recipe.name
    if isinstance(recipe, finder.FinderRecipe):
        finder.evaluate(output)
        return
    each_source, long = recipe.calibration.each_source, output / "long.jsonl"
    records = read_records(output / "out_of_fold.jsonl")
    recordings = read_long(long) if long.exists() else []
    calibration = _tell(records, recordings, each_source=each_source, folder=output)
    if not isinstance(recipe, wide.WideRecipe | clips.FrameRecipe):
        return
    print("The full tier:\n")
    large = read_records(output / f"out_of_fold-{LARGE}.jsonl")
    _tell(large, [], each_source=each_source, folder=output / LARGE)
    if data and isinstance(recipe, wide.WideRecipe):
        failures = choose_failures(
            records, top_fraction=calibration.top_fraction, each_source=each_source
        )
        folders = [data / name for name in recipe.material]
        items = [item for one in folders for item in read_manifest(one, source_column="source")]
        draw_failures(failures, items, path=output / "failures.png")


def _tell(
    records: Sequence[FileLogits],
    recordings: Sequence[LongLogits],
    *,
    each_source: bool,
    folder: Path,
) -> Calibration:
    """Print the tables of records, and write them and their figures into ``folder``."""
    folder.mkdir(exist_ok=True)
    calibration, sources, views, inserts = assess(records, recordings, each_source=each_source)
    print(view_table(views))
    print(source_table(sources, label=1))
    print(source_table(sources, label=0))
    if inserts:
        print(insert_table(inserts))
    text = json.dumps(metrics_to_dict(sources=sources, views=views, inserts=inserts), indent=2)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
    plot_evaluation(unheard(records), top_fraction=calibration.top_fraction, folder=folder)
    return calibration


def illustrate(bundle: Bundle, *, output: Path) -> None:
    """Add the figures of the run in ``output``, and drawings, to an image card."""
    for name in ("roc.png", "reliability.png"):
        shutil.copyfile(output / name, bundle.folder / name)
    drawings = judge_drawings(bundle, path=bundle.folder / "drawings.jpg")
    add_part(
        bundle,
        title="Figures",
        text="ROC curves and reliability of the out-of-fold scores, all left-out files together:",
        tables="![ROC curves](roc.png) ![Reliability](reliability.png)\n",
    )
    add_part(
        bundle,
        title="Drawings",
        text="What no camera made and no generative model either: seeded drawings of our own, with "
        "the scores that they get. The last of every kind:\n\n![Drawings](drawings.jpg)",
        tables=drawing_table(drawings),
    )
