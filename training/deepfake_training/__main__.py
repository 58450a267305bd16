"""Command line of the training module: ``python -m deepfake_training COMMAND …``."""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from deepfake.errors import DeepfakeError

if TYPE_CHECKING:
    from deepfake.bundle import Bundle

    from .export import Trained
    from .recipes import Recipe

EXAMPLES = """\
examples:
  python -m deepfake_training bundle training/configs/image-2.toml --data DATA --weights WEIGHTS
      trains, calibrates, exports and writes models/image-2 with its model card;
      an interrupted run goes on where it stopped
  python -m deepfake_training evaluate training/configs/image-2.toml
      prints the accuracy of every left-out source in every view, from the out-of-fold
      logits of that run, and writes metrics.json, roc.png and reliability.png
  python -m deepfake_training video
      fits how the motion and the frames of a clip are read together and prints what a user is
      told about clips whose system and genuine source no model saw, from the runs of face-1,
      video-1 and frames
  python -m deepfake_training sync --data DATA
      prints how well lip motion and speech tell genuine clips from shifted sound
  python -m deepfake_training quantise models/image-2 --data DATA
      adds model.int8.onnx to a bundle where that costs no accuracy, and says so in its card
  python -m deepfake_training localise models/image-2 --data DATA
      pastes generated regions into real photos and prints how well the heat map shows where they
      are (IoU, pixel AUC, pointing game), beside maps that know nothing; writes localise.json and
      the picture sheet localise.png to runs/localise
  python -m deepfake_training frames --data DATA
      fits how the frame bundle reads the frames of videos, and prints the accuracy on
      each source of clips with a fit that did not see it
  python -m deepfake_training graphics --data DATA
      fits what tells drawings and screenshots from photographs, and prints how many of
      each source are caught by a fit that did not see it, and the weights for the code
  python -m deepfake_training ship image-2
      records a new or changed bundle of models/ as the one of its slot that the next release
      ships, and makes it the active one; deepfake models activate does only the latter
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 on success, 1 on a problem that is told, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m deepfake_training",
        description="Train, evaluate and export the detectors.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    bundle = commands.add_parser("bundle", help="train and write one bundle")
    bundle.add_argument("--data", type=Path, required=True, help="folder with the material")
    bundle.add_argument("--weights", type=Path, required=True, help="initial weights")
    evaluate = commands.add_parser("evaluate", help="print the accuracy on left-out sources")
    evaluate.add_argument(
        "--data", type=Path, help="draw the pictures that are judged worst too (failures.png)"
    )
    frames = commands.add_parser("frames", help="calibrate the frame bundle for video frames")
    video = commands.add_parser("video", help="print what a user is told about left-out clips")
    video.add_argument("--bundles", nargs=2, default=["face-1", "video-1"], help="face and video")
    ship = commands.add_parser("ship", help="record a bundle as one that the release ships")
    ship.add_argument("name", help="a bundle of the models folder, such as image-2")
    for command in (bundle, frames, video, ship):
        command.add_argument(
            "--models", type=Path, default=Path("models"), help="where bundles are"
        )
    sync = commands.add_parser("sync", help="print the power of lip motion against speech")
    quantise = commands.add_parser("quantise", help="add an int8 graph to a bundle")
    quantise.add_argument("bundle", type=Path, help="folder of a bundle, such as models/image-2")
    quantise.add_argument(
        "--most-files", type=int, default=0, help="files that measure the loss; 0 for all"
    )
    graphics = commands.add_parser("graphics", help="fit what tells graphics from photographs")
    graphics.add_argument("--most-files", type=int, default=30, help="files of every source")
    graphics.add_argument("--drawn", type=int, default=14, help="drawn pictures of every kind")
    localise = commands.add_parser(
        "localise",
        help="print how well heat maps show a pasted region",
        description="Paste regions of generated pictures into real photos, after one JPEG round "
        "of both on one grid, and compare the heat map of the image slot with where they are. A "
        "bundle knows the files that it was trained on, so expect less on other pictures.",
        epilog="columns: IoU of the marked region with the true one, AUC of the heat map's pixels, "
        "share of maxima inside the region (pointing), share of pictures with a marked region; "
        "each beside the same photo before pasting (before), a spot in the middle of the picture "
        "(middle) and the whole picture marked (everything). Regions of other genuine photos are "
        "the control: there an AUC of 0.5 is right. In the sheet: composite, true region, heat map "
        "with the marked region outlined in green.",
    )
    localise.add_argument("bundle", type=Path, help="folder of a bundle, such as models/image-2")
    localise.add_argument(
        "--composites",
        type=int,
        default=182,
        help="how many with generated regions, and half as many with genuine ones (default: 182)",
    )
    localise.add_argument("--seed", type=int, default=1, help="which ones (default: 1)")
    for command in (frames, sync, quantise, graphics, localise):
        command.add_argument("--data", type=Path, required=True, help="folder with the material")
    for command in (bundle, evaluate):
        command.add_argument("config", type=Path, help="a file of training/configs")
    for command in (bundle, evaluate, frames, video, sync, localise):
        command.add_argument("--runs", type=Path, default=Path("runs"), help="checkpoints, logits")
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except (DeepfakeError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.command == "frames":
        run_frames(options)
    elif options.command == "video":
        run_video(options)
    elif options.command == "quantise":
        from .quantise import quantise_bundle

        quantise_bundle(options.bundle, data=options.data, most_files=options.most_files)
        _tell_next(options.bundle)
    elif options.command == "ship":
        from deepfake.trust.registry import ship

        ship(options.models, options.name)
        print(f"recorded {options.name} in shipped.json and in {options.models}/active.json")
    elif options.command == "graphics":
        from .image import drawings as graphics

        graphics.run(options.data, most_files=options.most_files, drawn=options.drawn)
    elif options.command == "localise":
        from .image.localisation import localise

        localise(
            options.bundle,
            data=options.data,
            output=options.runs / "localise",
            composites=options.composites,
            seed=options.seed,
        )
    elif options.command == "sync":
        from .video import sync

        sync.run(options.data, options.runs / "sync")
    else:
        from .recipes import read_recipe

        recipe = read_recipe(options.config)
        if options.command == "bundle":
            make_bundle(recipe, options=options, output=options.runs / recipe.name)
        else:
            evaluate_run(recipe, output=options.runs / recipe.name, data=options.data)


def make_bundle(recipe: Recipe, *, options: argparse.Namespace, output: Path) -> None:
    """Train by the recipe, then calibrate, export and describe."""
    from .assess import assess
    from .card import write_card
    from .export import metrics_to_dict, write_bundle
    from .records import write_records

    output.mkdir(parents=True, exist_ok=True)
    if recipe.slot == "face-finder":
        from .finder import recipe as finder

        assert isinstance(recipe, finder.FinderRecipe)
        made = finder.make_bundle(
            recipe, data=options.data, weights=options.weights, models=options.models, output=output
        )
        finder.evaluate(output)
        print(f"wrote {made.folder}")
        _tell_next(made.folder)
        return
    trained: Trained = importlib.import_module(type(recipe).__module__).train(
        recipe, data=options.data, weights=options.weights, output=output
    )
    write_records(output / "out_of_fold.jsonl", trained.records)
    write_records(output / "long.jsonl", trained.recordings)
    each_source = recipe.calibration.each_source
    calibration, sources, views, inserts = assess(
        trained.records, trained.recordings, each_source=each_source
    )
    bundle = write_bundle(
        trained,
        name=recipe.name,
        calibration=calibration,
        metrics=metrics_to_dict(sources=sources, views=views, inserts=inserts),
        folder=options.models / recipe.name,
    )
    write_card(
        bundle,
        sources=sources,
        views=views,
        inserts=inserts,
        text=asdict(recipe.card),
        command=f"python -m deepfake_training evaluate training/configs/{recipe.name}.toml",
        each_source=each_source,
    )
    evaluate_run(recipe, output=output, data=options.data)
    if recipe.slot == "image":
        illustrate(bundle, output=output)
    print(f"wrote {bundle.folder}")
    _tell_next(bundle.folder)


def _tell_next(folder: Path) -> None:
    """A bundle that was written is not active before somebody says so."""
    print(f"to use it: deepfake models activate {folder.name} --models {folder.parent}")


def illustrate(bundle: Bundle, *, output: Path) -> None:
    """Add the figures of the run in ``output``, and drawings, to an image card."""
    from .card import add_part
    from .image.failures import drawing_table, judge_drawings

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


def run_frames(options: argparse.Namespace) -> None:
    """Calibrate for video frames and print the accuracy on left-out sources."""
    from .card import add_frames, source_table, view_table
    from .video.frame_calibration import calibrate_frames

    bundle, sources, views = calibrate_frames(
        models=options.models, data=options.data, output=options.runs / "frames"
    )
    add_frames(bundle, sources=sources, views=views)
    _tell_next(bundle.folder)
    print(view_table(views))
    print(source_table(sources, label=1))
    print(source_table(sources, label=0))


def run_video(options: argparse.Namespace) -> None:
    """Fit how motion and frames are read together, store it in the video bundle, and print and
    store what a user is told about clips of left-out sources.
    """
    from dataclasses import replace

    from deepfake.bundle import Bundle

    from .card import add_part
    from .export import metrics_to_dict
    from .video.verdicts import fused_tables, read_clips, tabulate_clips

    face, video = options.bundles
    least = Bundle.read(options.models / face).limits.min_side_pixels
    rows, calibration = read_clips(options.runs, face=face, video=video, least_pixels=least)
    sources, fused = tabulate_clips(rows)
    bundle = Bundle.read(options.models / video)
    tables = fused_tables(sources, fused)
    metrics = {**bundle.metrics, **metrics_to_dict(clips=sources, clip_views=fused)}
    replace(bundle, frames_calibration=calibration, metrics=metrics).write(bundle.folder)
    add_part(
        bundle,
        title="Motion, frames and faces together",
        text="What a user is told, from models and calibrations that saw neither the clip's system "
        f"nor its genuine source (`python -m deepfake_training video` prints this, with {face} for "
        "the faces). There are few clips and few sources, so read the numbers with care.",
        tables=tables,
    )
    print(tables)
    _tell_next(bundle.folder)


def evaluate_run(recipe: Recipe, *, output: Path, data: Path | None = None) -> None:
    """Print and store the accuracy of the run in ``output``, and with ``data`` draw a sheet of the
    pictures that are judged worst.
    """
    if recipe.slot == "face-finder":
        from .finder import recipe as finder

        finder.evaluate(output)
        return

    from .assess import assess
    from .card import insert_table, plot_evaluation, source_table, view_table
    from .export import metrics_to_dict
    from .records import read_long, read_records, unheard

    records = read_records(output / "out_of_fold.jsonl")
    long = output / "long.jsonl"
    recordings = read_long(long) if long.exists() else []
    each_source = recipe.calibration.each_source
    calibration, sources, views, inserts = assess(records, recordings, each_source=each_source)
    print(view_table(views))
    print(source_table(sources, label=1))
    print(source_table(sources, label=0))
    if inserts:
        print(insert_table(inserts))
    text = json.dumps(metrics_to_dict(sources=sources, views=views, inserts=inserts), indent=2)
    (output / "metrics.json").write_text(text + "\n", encoding="utf-8")
    plot_evaluation(unheard(records), top_fraction=calibration.top_fraction, folder=output)
    if recipe.slot == "image" and data:
        from .image.failures import choose_failures, draw_failures

        failures = choose_failures(
            records, top_fraction=calibration.top_fraction, each_source=each_source
        )
        draw_failures(failures, folder=data / "image", path=output / "failures.png")


if __name__ == "__main__":
    sys.exit(main())
