"""``deepfake calibrate``, ``quantise`` and ``recipe``: the training package, which is reached by
name, and only when one of them runs.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import MissingDependency, SettingsError
from .options import make_console
from .signing import read_keys, sign_made

FILES = """\
FILES is a folder with the files of each genuine source in genuine/SOURCE and those of each
generating system in synthetic/SYSTEM, or one with a manifest.tsv (columns path, sha256, label,
which is real or fake, and source or system).
"""

CALIBRATE = """\
Every file is read as `deepfake detect` reads it, as it is and degraded as it might circulate. What
the logits mean is fitted on all of them, genuine and synthetic sources counting equally, and the
limits of the words hold their false-positive rates on these genuine files. Printed are the numbers
of each source by a fit without it. The bundle's folder is changed (bundle.json and the card); with
--output a copy of it, under the name of that folder, such as newsroom-1: a word of your own and a
number. It is then signed with your own key, which is trusted on this machine.

Of a frame bundle this fits how the frames of a clip are read, and of a video bundle how frames and
motion are read together; both need clips.

examples:
  deepfake calibrate models/image-3 --files newsroom/ --output my-models/newsroom-1
  deepfake models activate newsroom-1 --models my-models
  deepfake detect --models my-models photo.jpg
  deepfake calibrate models/frame-2 --files DATA/video --records runs/frames/frames.jsonl

"""

QUANTISE = """\
Adds model.int8.onnx, which OpenVINO runs with --precision auto on processors that have instructions
for it: a quarter of the size and up to three times as quick. 150 files (at most a quarter of all)
give the ranges of the activations, all others measure what is lost; the graph is kept only when no
AUC falls by more than 0.002 in any view. What it costs is printed and stands in the card. The
bundle is then signed with your own key.

examples:
  deepfake quantise models/image-3 --files DATA/image --most-files 1200
  deepfake quantise models/video-1 --files DATA/video

"""

RECIPE = """\
A recipe is a file of training/configs: all that a shipped bundle is trained by. Runs are kept in
--runs; one that was stopped goes on where it was, and what is done is not done again.

make      train, calibrate, export and describe a bundle, signed with your own key
evaluate  print the accuracy of a run on every left-out source in every view, from its out-of-fold
          logits, and write metrics.json, roc.png and reliability.png beside them
parts     write the clips of a recipe of frames as a labelled folder for `deepfake evaluate`, those
          that show several side by side cut into their parts
folds     make bundles for every fold of the recipes of frames and of faces, unsigned, and evaluate
          the clips of each fold by bundles that saw nothing of them
ablate    print what parts of the material are worth on groups that were left out, and of clips what
          each kind of evidence is, alone and with others; goes on from what runs of recipes left
lips      print how well lip motion tells sound that belongs to a talking face from shifted sound,
          and the constants for the code
graphics  print what tells drawings and screenshots from photographs, how many of each source are
          caught by a fit that did not see it, and the weights for the code
localise  paste generated regions into real photos and print how well the heat map shows them
variety   tune the quick network of the image slot again and again, shortly, with fewer sources,
          without pairs, with a fixed trunk or on shrunk pictures, and print what each is worth on
          repositories that were left out
poison    plant wrong labels and triggers into training data and print how much an audit finds, and
          what an attack gains before and after
ship      record new or changed bundles of models/ as those of their slots that the next release
          ships, log them in releases.jsonl, and make them the active ones; with --keys they are
          signed before

examples:
  deepfake recipe make training/configs/image-3.toml --data DATA --weights WEIGHTS
  deepfake recipe evaluate training/configs/image-3.toml
  deepfake recipe localise models/image-3 --data DATA
  deepfake recipe folds training/configs/frame-2.toml training/configs/face-1-large.toml \\
    --data DATA --output FOLDER --limit 2
  deepfake recipe ablate training/configs/audio-3-large.toml --data DATA
  deepfake recipe ship image-3 image-3-large --keys KEYS
"""

LOCALISE = """\
Regions of generated pictures are pasted into real photos after one JPEG round of both on one grid,
and the heat map of the image slot is compared with where they are. A bundle knows the files that it
was trained on, so expect less on other pictures.

columns: IoU of the marked region with the true one, AUC of the heat map's pixels, share of maxima
inside the region (pointing), share of pictures with a marked region; each beside the same photo
before pasting (before), a spot in the middle of the picture (middle) and the whole picture marked
(everything). Regions of other genuine photos are the control: there an AUC of 0.5 is right. In the
sheet: composite, true region, heat map with the marked region outlined in green.
"""


ABLATE = """\
The recipes of frames and of faces tell of clips, that of the full tier of speech of recordings.
What runs of these recipes left in --runs is taken from there, and what is missing is made. Every
number is about groups (repositories, corpora) that were left out of what was learnt.

of clips: how many are taken for graphics, what fewer synthetic clips would do, and what frames,
faces, motion and sound are worth alone and together.

of speech: a row for what the last layer learns from; all rows judge the same recordings.
  N genuine sources           the other class whole; a larger N holds the sources of a smaller one
  N synthetic sources         a source is a system on a page
  without pairs               of a page that has both classes only one is kept
  the first half              of the pieces, or the first quarter; large groups come last
  without channels            pieces as they are only; beside it as many pieces of both kinds
  without our own copies      no vocoder copies that were made for the material
  without class tokens        of every block means and spreads of the patches alone; and so on
columns: recordings judged as they are; sources learnt from, by the mean over the folds; mean AUC
over systems with at least three recordings, against the genuine ones of their folds; AUC, EER and
TPR at 1 % FPR over all recordings; AUC over those of which a piece went through a random channel.
What is drawn by chance is drawn three times, and the mean told. Where the run of the quick network
lies beside, it is compared too.

examples:
  deepfake recipe ablate training/configs/frame-2.toml training/configs/face-1-large.toml \\
    --data DATA
  deepfake recipe ablate training/configs/audio-3-large.toml --data DATA
  deepfake recipe ablate training/configs/audio-3-large.toml --data DATA --quick --limit 4 \\
    --runs SMALL
"""


def add_calibrate(commands: Any) -> None:
    """Add the command."""
    calibrate = _add(commands, "calibrate", "fit what the scores of a bundle mean on your files")
    calibrate.epilog = CALIBRATE + FILES
    calibrate.add_argument("bundle", type=Path, help="folder of a bundle, such as models/image-3")
    _files(calibrate)
    calibrate.add_argument(
        "--output", type=Path, metavar="FOLDER", help="a new bundle; that one stays as it is"
    )
    calibrate.add_argument(
        "--each-source",
        action="store_true",
        help="hold the false-positive rates on 95 %% of the genuine sources, not on their mean",
    )
    calibrate.add_argument(
        "--records",
        type=Path,
        metavar="JSONL",
        help="keep what the bundle said of every file",
    )
    calibrate.set_defaults(run=run_calibrate)


def add_quantise(commands: Any) -> None:
    """Add the command."""
    quantise = _add(commands, "quantise", "add an int8 graph to a bundle, if it costs nothing")
    quantise.epilog = QUANTISE + FILES
    quantise.add_argument("bundle", type=Path, help="folder of a bundle, such as models/image-3")
    _files(quantise)
    quantise.add_argument(
        "--most-files", type=int, default=0, help="files that measure the loss (all)"
    )
    quantise.set_defaults(run=run_quantise)


def add_recipe(commands: Any) -> None:
    """Add the command and its actions."""
    recipe = _add(commands, "recipe", "train the shipped bundles again, and what belongs to that")
    recipe.epilog = RECIPE
    actions = recipe.add_subparsers(dest="action", required=True, metavar="ACTION")
    make = _add(actions, "make", "train and write one bundle")
    evaluate = _add(actions, "evaluate", "print the accuracy of a run on left-out sources")
    parts = _add(actions, "parts", "write the clips of a recipe as a labelled folder")
    folds = _add(actions, "folds", "evaluate clips by bundles that saw nothing of them")
    ablate = _add(
        actions, "ablate", "print what parts of the material and of the evidence are worth"
    )
    lips = _add(actions, "lips", "print the power of lip motion against speech")
    graphics = _add(actions, "graphics", "fit what tells graphics from photographs")
    localise = _add(actions, "localise", "print how well heat maps show a pasted region")
    variety = _add(actions, "variety", "print what variety of material and way of tuning are worth")
    poison = _add(actions, "poison", "print what an audit finds of poisoned training data")
    ship = _add(actions, "ship", "record a bundle as one that the release ships")
    for action in (make, evaluate, variety, parts):
        action.add_argument("recipe", type=Path, help="a file of training/configs")
    folds.add_argument("frames", type=Path, help="the recipe of a frame bundle")
    folds.add_argument("faces", type=Path, help="the recipe of a face-large bundle")
    _describe_ablation(ablate)
    for action in (make, variety):
        action.add_argument("--weights", type=Path, required=True, help="folder of initial weights")
    for action in (make, lips, graphics, localise, variety, poison, parts, folds, ablate):
        action.add_argument("--data", type=Path, required=True, help="folder with the material")
    evaluate.add_argument(
        "--data", type=Path, help="draw the pictures that are judged worst too (failures.png)"
    )
    parts.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="where to: links and new files"
    )
    folds.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="for clips, bundles and results",
    )
    folds.add_argument("--views", default="as-is", help="as for deepfake evaluate (as-is)")
    folds.add_argument("--limit", type=int, default=0, help="clips of each source in a fold (all)")
    folds.add_argument("--workers", type=int, default=2, help="clips examined at once (2)")
    folds.add_argument("--seed", type=int, default=1, help="which clips, and of intervals (1)")
    graphics.add_argument("--most-files", type=int, default=30, help="of every source (30)")
    graphics.add_argument("--drawn", type=int, default=14, help="pictures of every kind (14)")
    localise.epilog = LOCALISE
    localise.add_argument("bundle", type=Path, help="folder of a bundle, such as models/image-3")
    localise.add_argument(
        "--composites",
        type=int,
        default=182,
        help="how many with generated regions, and half as many with genuine ones (182)",
    )
    localise.add_argument("--seed", type=int, default=1, help="which ones (1)")
    localise.add_argument(
        "--card", action="store_true", help="put the first table into the bundle's card too"
    )
    ship.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="a bundle of the models folder, such as image-3: all that changed, a quick tier "
        "before its full one",
    )
    ship.add_argument(
        "--keys", type=Path, metavar="FOLDER", help="sign it with the pair of private keys in there"
    )
    ship.add_argument(
        "--recipe",
        type=Path,
        metavar="FILE",
        help="that they were trained by (training/configs/NAME.toml, where it is there)",
    )
    ship.add_argument("--commit", metavar="HEX", help="of the source that it was trained with")
    poison.add_argument("--seed", type=int, default=1, help="of all that is drawn by chance (1)")
    poison.add_argument(
        "--quick", action="store_true", help="few files, one third left out, 10 %% alone"
    )
    poison.add_argument(
        "--folds", type=int, choices=(1, 2, 3), default=3, help="how many thirds are left out (3)"
    )
    poison.add_argument("--threads", type=int, default=1, help="for the features (1)")
    for action in (make, ship, poison, folds, ablate):
        action.add_argument(
            "--models", type=Path, default=Path("models"), help="folder of bundles (models)"
        )
    variety.add_argument("--crops", type=int, default=5000, help="each variant is tuned on (5000)")
    variety.add_argument("--fold", type=int, default=0, help="whose groups are left out (0)")
    for action in (make, evaluate, lips, localise, variety, poison, folds, ablate):
        action.add_argument(
            "--runs", type=Path, default=Path("runs"), help="checkpoints and logits (runs)"
        )
    recipe.set_defaults(run=run_recipe)


def _describe_ablation(ablate: argparse.ArgumentParser) -> None:
    ablate.epilog = ABLATE
    ablate.add_argument(
        "recipes",
        type=Path,
        nargs="+",
        metavar="recipe",
        help="those of a frame and of a face-large bundle, or that of an audio-large bundle alone",
    )
    ablate.add_argument(
        "--quick",
        action="store_true",
        help="one frame of each clip, and faces, as they are; of speech what is drawn by chance "
        "once, not three times",
    )
    ablate.add_argument(
        "--limit",
        type=int,
        default=0,
        help="clips or recordings of each source; give --runs a folder (all)",
    )


def run_calibrate(options: argparse.Namespace) -> int:
    """``deepfake calibrate``."""
    _require_signed(options.bundle)
    card, items = _training("card"), _training("manifests").list_labelled(options.files)
    with _copied(options.bundle, options.output) as folder:
        tables = _training("recalibrate").recalibrate(
            folder, items, each_source=options.each_source, kept=options.records
        )
    if tables is None:
        print("calibrated; give two sources of either class to have numbers of a fit without one")
    else:
        sources, views = tables
        print(card.view_table(views))
        print(card.source_table(sources, label=1))
        print(card.source_table(sources, label=0))
    sign_made(folder)
    _tell_next(folder)
    return 0


def run_quantise(options: argparse.Namespace) -> int:
    """``deepfake quantise``."""
    _require_signed(options.bundle)
    items = _training("manifests").list_labelled(options.files)
    _training("quantise").quantise_bundle(options.bundle, items, most_files=options.most_files)
    sign_made(options.bundle)
    _tell_next(options.bundle)
    return 0


def run_recipe(options: argparse.Namespace) -> int:
    """``deepfake recipe``; a stopped run can be taken up by the same command."""
    try:
        _ACTIONS[options.action](options)
    except OSError as error:
        raise SettingsError(f"recipe {options.action}: {error}") from error
    except KeyboardInterrupt:
        print("deepfake: stopped; the same command goes on from there", file=sys.stderr)
        return 130
    return 0


def _make(options: argparse.Namespace) -> None:
    from ..bundle import SIGNATURE

    recipe = _training("recipes").read_recipe(options.recipe)
    bundle = _training("runs").make_bundle(
        recipe,
        data=options.data,
        weights=options.weights,
        models=options.models,
        runs=options.runs,
    )
    print(f"wrote {bundle.folder}")
    quick = bundle.folder.with_name(bundle.name.removesuffix("-large"))
    for folder in (quick, quick.with_name(f"{quick.name}-large")):
        if folder.is_dir() and not (folder / SIGNATURE).exists():  # written or changed just now
            sign_made(folder)
    _tell_next(bundle.folder)


def _evaluate(options: argparse.Namespace) -> None:
    recipe = _training("recipes").read_recipe(options.recipe)
    _training("runs").evaluate_run(recipe, runs=options.runs, data=options.data)


def _parts(options: argparse.Namespace) -> None:
    recipe = _training("recipes").read_recipe(options.recipe)
    count = _training("clips.parts").write_all(recipe, data=options.data, folder=options.output)
    print(f"wrote {count} clips and manifest.tsv into {options.output}")


def _folds(options: argparse.Namespace) -> None:
    folds = _training("clips.folds")
    frames, faces = _read_recipes([options.frames, options.faces], _CLIPS)
    folds.evaluate_folds(
        frames,
        faces,
        data=options.data,
        models=options.models,
        runs=options.runs,
        output=options.output,
        plan=folds.Plan(
            views=options.views, limit=options.limit, workers=options.workers, seed=options.seed
        ),
        console=make_console(stderr=True),
    )


def _ablate(options: argparse.Namespace) -> None:
    if options.limit < 0:
        raise SettingsError(
            f"option limit {options.limit}: too low", hint="give at least 0, for all"
        )
    recipes = _read_recipes(options.recipes, *_ABLATIONS)
    module = _ABLATIONS[tuple(recipe.slot for recipe in recipes)]
    _training(module).print_ablation(
        *recipes,
        data=options.data,
        models=options.models,
        runs=options.runs,
        quick=options.quick,
        limit=options.limit,
    )


def _read_recipes(paths: Sequence[Path], *slots: tuple[str, ...]) -> list[Any]:
    """The recipes of files; raises ``SettingsError`` where theirs are not some of these ``slots``,
    in this order.
    """
    recipes = [_training("recipes").read_recipe(path) for path in paths]
    own = tuple(recipe.slot for recipe in recipes)
    if own not in slots:
        known = " or ".join(" and ".join(some) for some in slots)
        raise SettingsError(
            f"recipes {', '.join(recipe.name for recipe in recipes)}: are of {' and '.join(own)}",
            hint=f"name those of {known}, in this order, of training/configs",
        )
    return recipes


def _lips(options: argparse.Namespace) -> None:
    _training("studies.lips").run(options.data, options.runs / "lips")


def _graphics(options: argparse.Namespace) -> None:
    _training("studies.graphics").run(
        options.data, most_files=options.most_files, drawn=options.drawn
    )


def _localise(options: argparse.Namespace) -> None:
    _require_signed(options.bundle)
    _training("studies.localisation").localise(
        options.bundle,
        data=options.data,
        output=options.runs / "localise",
        composites=options.composites,
        seed=options.seed,
        card=options.card,
    )
    if options.card:
        sign_made(options.bundle)


def _variety(options: argparse.Namespace) -> None:
    recipe = _training("recipes").read_recipe(options.recipe)
    if not isinstance(recipe, _training("wide.recipe").WideRecipe):
        raise SettingsError(f"recipe {recipe.name}: tunes no network on wide material")
    study = _training("studies.variety")
    rows = study.compare(
        recipe,
        data=options.data,
        weights=options.weights,
        runs=options.runs,
        crops=options.crops,
        fold=options.fold,
    )
    print(study.table(rows))


def _poison(options: argparse.Namespace) -> None:
    _training("studies.poisoning").print_study(
        options.data,
        runs=options.runs,
        models=options.models,
        quick=options.quick,
        seed=options.seed,
        folds=options.folds,
        threads=options.threads,
    )


def _ship(options: argparse.Namespace) -> None:
    from ..trust.registry import ship

    releases = ship(
        options.models,
        *options.names,
        keys=options.keys and read_keys(options.keys),
        recipes={name: options.recipe or find_recipe(name) for name in options.names},
        commit=options.commit,
    )
    for name, release in zip(options.names, releases, strict=True):
        print(
            f"recorded {name} in shipped.json, in {options.models}/active.json and as line "
            f"{release.number} of releases.jsonl"
        )


def find_recipe(name: str) -> Path | None:
    """The recipe of this clone that a bundle of this name is made by: its own, or that of both
    tiers.
    """
    folder = Path("training/configs")
    places = [folder / f"{one}.toml" for one in (name, name.removesuffix("-large"))]
    return next((place for place in places if place.is_file()), None)


_CLIPS = ("frame", "face-large")
_ABLATIONS = {_CLIPS: "clips.ablation", ("audio-large",): "audio.ablation"}
"""The module that tells what the material of recipes of these slots is worth."""

_ACTIONS = {
    "make": _make,
    "evaluate": _evaluate,
    "parts": _parts,
    "folds": _folds,
    "ablate": _ablate,
    "lips": _lips,
    "graphics": _graphics,
    "localise": _localise,
    "variety": _variety,
    "poison": _poison,
    "ship": _ship,
}


def _add(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return command


def _files(command: argparse.ArgumentParser) -> None:
    command.add_argument("--files", type=Path, required=True, help="labelled files, see below")


def _training(module: str) -> Any:
    """A module of the training package; raises ``MissingDependency`` naming the extra."""
    try:
        return importlib.import_module(f"deepfake_training.{module}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing.startswith("deepfake") and missing != "deepfake_training":
            raise
        raise MissingDependency(missing, extra="train") from error


def _require_signed(folder: Path) -> None:
    """Raise ``ModelError`` for a bundle that is not believed: what is made of it is signed."""
    from ..bundle import Bundle
    from ..settings import Settings
    from ..trust.signatures import Trust, require_signed

    require_signed([Bundle.read(folder)], Trust.read(Settings(models_folder=folder.parent)))


@contextmanager
def _copied(folder: Path, output: Path | None) -> Iterator[Path]:
    """A copy of a bundle under the name of its folder, gone again when the block raises; without
    ``output`` the bundle itself.
    """
    if output is None:
        yield folder
        return
    from ..bundle import SIGNATURE, Bundle

    bundle = Bundle.read(folder)
    try:
        shutil.copytree(folder, output, ignore=shutil.ignore_patterns(SIGNATURE))
    except OSError as error:
        raise SettingsError(
            f"folder {str(output)!r}: cannot be made ({error.strerror or error})",
            hint="name a folder that is not there yet",
        ) from error
    try:
        replace(bundle, name=output.name).write(output)
        yield output
    except BaseException:
        shutil.rmtree(output)
        raise


def _tell_next(folder: Path) -> None:
    """A bundle that was written is not active before somebody says so."""
    print(f"to use it: deepfake models activate {folder.name} --models {folder.parent}")
