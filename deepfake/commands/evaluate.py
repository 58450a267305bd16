"""``deepfake evaluate``: how well the detector does on labelled files."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from ..errors import MissingDependency
from .options import make_console, read_settings

DESCRIPTION = """\
Examine labelled files as a user's files are examined, and say how well the detector tells them
apart: for every system and every genuine source AUC, EER, TPR at 1 % and 0.1 % FPR, calibration
error and the shares of verdicts, with intervals, for the fused probability and for each network
alone. Writes evaluation.json, evaluation.html and journal.jsonl into the output folder.

MATERIAL is
  a folder with genuine/SOURCE/… and synthetic/SYSTEM/… (real and fake will do)
  a manifest: a .tsv or .csv with the columns path (beside the manifest), label, source or system,
  and repo where several sources share an origin; a folder with manifest.tsv is read by that.
  Columns language, accent, sex, age, skin_tone, region, device, camera and compression put files
  into groups, of which false accusations and misses are compared; so do folders below a source
  whose names are such as language=sw
  an evaluation.json of an earlier run, which is shown again (with --markdown, --compare)

One class alone will do: of genuine files it tells how many are wrongly accused.
"""

EXAMPLES = """\
views, of pictures, sounds and clips:
  as-is       the file itself
  web         768 pixels, JPEG 60; MP3 at 64 kbit/s; H.264 at CRF 32
  messenger   1280 pixels, JPEG 75 twice; Opus at 16 kbit/s; 360 lines, H.264 at CRF 40
  screenshot  of pictures: on a page of a screen, PNG
  telephone   of sounds: 300–3400 Hz, µ-law
  12fps       of clips: 12 frames a second

examples:
  your own files, as they are and as they circulate, no more than 50 of each source
    deepfake evaluate my-files/ --views all --limit 50 --output results/mine
  a new bundle beside the shipped ones, on the same files
    deepfake evaluate my-files/ --output results/shipped
    deepfake evaluate my-files/ --models models-new/ --output results/new \\
      --compare results/shipped/evaluation.json
  another detector beside ours: a command that prints a score, or a Python function
    deepfake evaluate my-files/ --output results/both --peer 'theirs=python3 predict.py --file {}'
    deepfake evaluate my-files/ --output results/both --peer theirs=python:their.module:score
  the tables of a result for a document, and the result without the names of your files
    deepfake evaluate results/mine/evaluation.json --markdown --publish mine.json > accuracy.md

A stopped run goes on where it was when the same command is given again. A file that cannot be read
is counted and listed, and so is each failure of a peer; the exit status is then 1.
"""


def add_evaluate(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command."""
    evaluate = commands.add_parser(
        "evaluate",
        parents=parents,
        help="measure the accuracy on labelled files of your own, beside other detectors",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    evaluate.add_argument("material", type=Path, metavar="MATERIAL", help="see above")
    evaluate.add_argument(
        "--output",
        type=Path,
        default=Path("evaluation"),
        metavar="DIR",
        help="folder for the result, the page and the journal (%(default)s)",
    )
    evaluate.add_argument(
        "--views", default="as-is", metavar="LIST", help="see below, or all (%(default)s)"
    )
    evaluate.add_argument(
        "--limit",
        type=int,
        default=0,
        metavar="N",
        help="at most N files of each source, the same ones for the same seed; 0 for all (0)",
    )
    evaluate.add_argument(
        "--workers", type=int, default=2, metavar="N", help="files at once (%(default)s)"
    )
    evaluate.add_argument(
        "--seed", type=int, default=1, help="of the choice of files and the draws (%(default)s)"
    )
    evaluate.add_argument(
        "--draws",
        type=int,
        default=1000,
        metavar="N",
        help="bootstrap draws behind each interval (%(default)s)",
    )
    evaluate.add_argument(
        "--markdown",
        choices=("full", "summary"),
        nargs="?",
        const="full",
        help="print the tables as Markdown, for documents; a summary has no rows of single sources",
    )
    evaluate.add_argument(
        "--publish",
        type=Path,
        metavar="JSON",
        help="also write the result without names, hashes and scores of single files; with "
        "--markdown summary without single sources too",
    )
    evaluate.add_argument(
        "--intervals",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="print each number with its 95 %% interval (where there is room)",
    )
    evaluate.add_argument(
        "--measured-groups",
        action="store_true",
        help="compare false accusations and misses by format, size and sample rate, too",
    )
    others = evaluate.add_argument_group("beside others")
    others.add_argument(
        "--compare",
        type=Path,
        metavar="JSON",
        help="the evaluation.json of an earlier run over the same files: paired tests of what "
        "changed",
    )
    others.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="another detector: a command that prints a score (higher for synthetic) as its last "
        "number, {} for the file, run without a shell; or NAME=python:MODULE:FUNCTION, called "
        "with a pathlib.Path; again for more",
    )
    others.add_argument(
        "--peer-seconds",
        type=float,
        default=120.0,
        metavar="S",
        help="longest that a command may take for one file (%(default)g)",
    )
    evaluate.set_defaults(run=run_evaluate)


def run_evaluate(options: argparse.Namespace) -> int:
    """``deepfake evaluate``."""
    try:
        command = importlib.import_module("deepfake_training.evaluation.command")
    except ImportError as error:
        package = {"sklearn": "scikit-learn"}.get(error.name or "", error.name or "scipy")
        raise MissingDependency(package, extra="train") from error
    request = command.Request(
        place=options.material,
        output=options.output,
        views=options.views,
        limit=options.limit,
        workers=options.workers,
        seed=options.seed,
        draws=options.draws,
        peers=options.peer,
        peer_seconds=options.peer_seconds,
        compare=options.compare,
        markdown=options.markdown,
        publish=options.publish,
        intervals=options.intervals,
        measured_groups=options.measured_groups,
    )
    status: int = command.run_evaluation(
        request,
        read_settings(options),
        console=make_console(),
        errors=make_console(stderr=True),
    )
    return status
