"""``deepfake redteam``: attacks on the detector, counted."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from ..errors import MissingDependency, SettingsError
from ..settings import EFFORTS
from .options import make_console, read_settings

DESCRIPTION = """\
Attack the detector with labelled files and say what it takes to fool it, both ways: synthetic files
that lose their alarm, genuine ones that get one. Every attacked file is examined as a user's file
is. Writes redteam.json, redteam.html (with pictures of what was changed and curves of success
against queries), journal.jsonl and the attacked files themselves into the output folder.

MATERIAL is what deepfake evaluate reads, a folder with genuine/SOURCE/… and synthetic/SYSTEM/… or a
manifest with the columns path, label, and source or system; or the redteam.json of an earlier run,
whose table is shown again (with --markdown for a document).
"""

EXAMPLES = """\
families of attacks (--attacks, with names of single ones; --list shows all):
  laundering    what people do: networks, messengers, screenshots, photos of screens, memes,
  filters,
                phones, music beds, codecs, speed and pitch; clips coded and framed anew
  regeneration  through a denoiser, an autoencoder, a vocoder, a coder of speech
  black-box     by questions alone, at most --budget for a file, answered as a service would under
                --answers score (all digits), rounded (one digit) or word (the verdict)
  white-box     along the gradient of the whole chain, --steps of them; needs model.safetensors
  framing       planted metadata, labels, watermarks and manifests

examples:
  a look within minutes
    deepfake redteam my-files/ --slot image --quick --output results/quick
  what laundering does to speech, to this detector and to another one
    deepfake redteam my-files/ --slot audio --attacks laundering --output results/laundered \\
      --peer 'theirs=python3 predict.py --file {}'
  what a service gives away by its answers
    deepfake redteam my-files/ --slot image --attacks black-box --budget 1000 --answers word \\
      --output results/words
  a new bundle, its gradients, and whether what they make misleads other backends too
    deepfake redteam my-files/ --slot image --models models-new/ --attacks white-box \\
      --backends onnxruntime,torch --output results/new

A query costs what examining a file costs; --effort quick asks the quick tier of pictures alone. A
stopped run goes on where it was when the same command is given again. The exit status is 1 where a
file could not be attacked or a peer failed.
"""


def add_redteam(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command."""
    redteam = commands.add_parser(
        "redteam",
        parents=parents,
        help="attack the detector with labelled files and count what fools it",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    redteam.add_argument("material", type=Path, nargs="?", metavar="MATERIAL", help="see above")
    redteam.add_argument("--slot", choices=("image", "audio", "video"), help="what is attacked")
    redteam.add_argument(
        "--output",
        type=Path,
        default=Path("redteam"),
        metavar="DIR",
        help="folder for result, page, journal and attacked files (%(default)s)",
    )
    redteam.add_argument(
        "--attacks", default="all", metavar="LIST", help="names or families (%(default)s)"
    )
    redteam.add_argument("--list", action="store_true", help="print the attacks and their sources")
    redteam.add_argument(
        "--quick", action="store_true", help="an attack or two of each family, weakly, on few files"
    )
    _strength(redteam.add_argument_group("strength"))
    redteam.add_argument(
        "--effort", choices=EFFORTS, default="auto", help="which tier of pictures answers (auto)"
    )
    redteam.add_argument(
        "--limit", type=int, default=0, metavar="N", help="most files of each source; 0 for all (0)"
    )
    redteam.add_argument(
        "--workers", type=int, default=2, metavar="N", help="files at once (%(default)s)"
    )
    redteam.add_argument(
        "--draws", type=int, default=1000, metavar="N", help="bootstrap draws (%(default)s)"
    )
    redteam.add_argument(
        "--weights",
        type=Path,
        metavar="FOLDER",
        help="with taef2.safetensors, for the attack autoencoder, which is left out without it",
    )
    redteam.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    others = redteam.add_argument_group("beside others")
    others.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="another detector, asked about every attacked file; as in deepfake evaluate",
    )
    others.add_argument(
        "--peer-seconds",
        type=float,
        default=120.0,
        metavar="S",
        help="longest that a command may take for one file (%(default)g)",
    )
    others.add_argument(
        "--backends",
        default="",
        metavar="LIST",
        help="backends that judge the attacked files as well, as peers do",
    )
    redteam.set_defaults(run=run_redteam)


def _strength(group: Any) -> None:
    group.add_argument(
        "--budget", type=int, default=200, metavar="N", help="most queries for a file (%(default)s)"
    )
    group.add_argument(
        "--answers",
        choices=("score", "rounded", "word"),
        default="score",
        help="what the attacked service tells (%(default)s)",
    )
    group.add_argument(
        "--steps", type=int, default=30, metavar="N", help="of white-box attacks (%(default)s)"
    )
    group.add_argument(
        "--epsilon",
        type=float,
        default=8.0,
        metavar="LEVELS",
        help="largest change of a pixel, of 255 (%(default)g)",
    )
    group.add_argument(
        "--snr",
        type=float,
        default=30.0,
        metavar="DB",
        help="how far below a sound its change lies (%(default)g)",
    )
    group.add_argument("--seed", type=int, default=1, help="of all chance (%(default)s)")


def run_redteam(options: argparse.Namespace) -> int:
    """``deepfake redteam``."""
    try:
        command = importlib.import_module("deepfake_training.redteam.command")
        tools = importlib.import_module("deepfake_training.redteam.tools")
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "deepfake":
            raise
        package = {"sklearn": "scikit-learn"}.get(error.name or "", error.name or "torch")
        raise MissingDependency(package, extra="train") from error
    if options.list:
        return int(command.list_everything(make_console()))
    stored = options.material is not None and options.material.suffix.lower() == ".json"
    if options.material is None or (options.slot is None and not stored):
        raise SettingsError(
            "redteam: material and slot are missing", hint="give MATERIAL and --slot, or --list"
        )
    request = command.Request(
        place=options.material,
        output=options.output,
        slot=options.slot or "image",
        attacks=options.attacks,
        strength=tools.Strength(
            budget=options.budget,
            steps=options.steps,
            epsilon=options.epsilon,
            snr=options.snr,
            answers=options.answers,
            seed=options.seed,
        ),
        effort=options.effort,
        limit=options.limit,
        workers=options.workers,
        draws=options.draws,
        quick=options.quick,
        weights=options.weights,
        peers=options.peer,
        peer_seconds=options.peer_seconds,
        backends=options.backends,
        markdown=options.markdown,
    )
    status: int = command.run_redteam(
        request,
        read_settings(options),
        console=make_console(),
        errors=make_console(stderr=True),
    )
    return status
