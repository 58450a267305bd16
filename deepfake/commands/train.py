"""``deepfake train``: a detector of a user's own from folders of media."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from pathlib import Path
from typing import Any

from ..errors import MissingDependency, SettingsError
from ..settings import shipped_models_folder
from .federated import add_federated, run_federated

DESCRIPTION = """\
Train a detector of your own for one slot, in minutes on a laptop. The network that is shipped for
the slot stays as it is; a small head is fitted to what it sees in your files, tried on sources that
were left out, calibrated, and written as a bundle with a card. It is made the active one in the
folder that it is written to; every other slot is still answered by the shipped bundles.

A DIR holds a sub-folder for each source: a camera, a data set, a generator. One without sub-folders
is one source. Two sources a class are the least, and more are better: what is tried on the sources
that it learnt from says nothing of others.

  photos/phone/…   photos/scanner/…   made/generator-a/…   made/generator-b/…
"""

EXAMPLES = """\
examples:
  deepfake train --slot image --genuine photos --synthetic made --output models/mine-1
  deepfake detect --models models FILE
  pictures of other folders too, at most 200 files of each source
    deepfake train --slot image --genuine photos old/prints --synthetic made --limit 200 \\
      --output models/mine-2
  recordings of speech; videos with sound will do
    deepfake train --slot audio --genuine speakers --synthetic voices --output models/voices-1
  so that nobody can tell from the head whether one file was among yours
    deepfake train --slot image --genuine photos --synthetic made --dp-epsilon 4 \\
      --output models/mine-3
  back to the shipped detector
    deepfake models activate image-3 --models models

What is computed stays in OUTPUT.work, so that the same command goes on after Ctrl-C or with more
files. A file that cannot be read is told, left out and counted. Look at the table at the end before
you believe the detector, and at docs/training.md for how to read it. Suspicious files are shown in
OUTPUT.work/audit/audit.html.

exit status: 0 written, 1 it does no better than chance on what was left out (nothing is written),
2 wrong usage or too few sources, 130 stopped with Ctrl-C
"""


def add_train(commands: Any) -> None:
    """Add the command."""
    train = commands.add_parser(
        "train",
        help="make a detector of your own from folders of genuine and synthetic media",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    needed = train.add_argument_group("needed")
    needed.add_argument("--slot", choices=("image", "audio", "video"), help="what it is to judge")
    for word in ("genuine", "synthetic"):
        needed.add_argument(
            f"--{word}",
            type=Path,
            nargs="+",
            action="extend",
            metavar="DIR",
            help=f"folders of {word} media, a sub-folder for each source",
        )
    needed.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER/WORD-NUMBER",
        help="where to write the bundle, as models/mine-1",
    )
    choice = train.add_argument_group("choices")
    choice.add_argument(
        "--start",
        choices=("shipped", "fresh"),
        default="shipped",
        help="correct the head of the shipped network, or forget it (%(default)s)",
    )
    choice.add_argument(
        "--split",
        choices=("source", "random"),
        default="source",
        help="what is left out to try it: whole sources, or files at random, which flatters the "
        "numbers (%(default)s)",
    )
    choice.add_argument(
        "--suspicious",
        choices=("warn", "weigh", "refuse", "off"),
        default="warn",
        help="what to do about suspicious files (see deepfake data audit): tell, let them count "
        "less (not with --dp-epsilon), refuse to train, or do not look (%(default)s)",
    )
    choice.add_argument(
        "--decisions",
        type=Path,
        metavar="CSV",
        help="the table of an audit in which you wrote keep or drop",
    )
    choice.add_argument("--limit", type=int, metavar="N", help="most files of each source (all)")
    choice.add_argument("--threads", type=int, default=0, help="0 for all cores (%(default)s)")
    choice.add_argument(
        "--seed", type=int, default=1, help="of all that is drawn by chance (%(default)s)"
    )
    choice.add_argument(
        "--dp-epsilon",
        type=float,
        metavar="E",
        help="fit the head under differential privacy with this ε for each file; 1 is strong, 8 "
        "usual, and it costs accuracy (off)",
    )
    choice.add_argument(
        "--dp-delta", type=float, default=1e-5, metavar="D", help="its δ (%(default)s)"
    )
    choice.add_argument(
        "--models",
        type=Path,
        default=shipped_models_folder(),
        metavar="FOLDER",
        help="whose active network of the slot is the start (the shipped bundles)",
    )
    add_federated(train)
    train.set_defaults(run=run_train)


def run_train(options: argparse.Namespace) -> int:
    """``deepfake train``; what it computed is kept when it is stopped."""
    try:
        if options.federated is not None:
            return run_federated(options, lambda: _wish(options, _own()))
        own = _own()
        own.train(_wish(options, own))
    except KeyboardInterrupt:
        print("the same command goes on from here", file=sys.stderr)
        raise
    return 0


def _own() -> Any:
    """The module that trains; raises ``MissingDependency`` naming the extra."""
    try:
        return importlib.import_module("deepfake_training.own.train")
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "deepfake":
            raise
        raise MissingDependency(error.name or "scikit-learn", extra="train") from error


def _wish(options: argparse.Namespace, own: Any) -> Any:
    needed = ("slot", "genuine", "synthetic", "output")
    missing = [f"--{flag}" for flag in needed if getattr(options, flag) is None]
    if missing:
        raise SettingsError(f"options {', '.join(missing)}: missing", hint="see train --help")
    return own.Wish(
        slot=options.slot,
        genuine=options.genuine,
        synthetic=options.synthetic,
        output=options.output,
        command=command_of(options),
        models=options.models,
        start=options.start,
        split=options.split,
        limit=options.limit,
        threads=options.threads,
        seed=options.seed,
        suspicious=options.suspicious,
        decisions=options.decisions,
        budget=read_budget(options),
    )


def read_budget(options: argparse.Namespace) -> Any:
    """The budget of ``--dp-epsilon`` and ``--dp-delta``; None where none is asked for."""
    if options.dp_epsilon is None:
        return None
    guarantee = importlib.import_module("deepfake_training.privacy.guarantee")
    return guarantee.Budget(epsilon=options.dp_epsilon, delta=options.dp_delta)


def command_of(options: argparse.Namespace) -> str:
    """The command that has these options, on one line."""
    words = ["deepfake", "train", "--slot", options.slot]
    for flag in ("genuine", "synthetic"):
        words += [f"--{flag}", *map(str, getattr(options, flag))]
    defaults: dict[str, object] = {"start": "shipped", "split": "source", "limit": None, "seed": 1}
    defaults |= {"suspicious": "warn", "decisions": None, "dp-epsilon": None, "dp-delta": 1e-5}
    for flag, usual in defaults.items():
        if (value := getattr(options, flag.replace("-", "_"))) != usual:
            words += [f"--{flag}", str(value)]
    if options.federated is not None:
        for flag in ("federated", "certificates", "name", "address"):
            words += [f"--{flag}", str(getattr(options, flag))]
    if options.models != shipped_models_folder():
        words += ["--models", str(options.models)]
    return shlex.join([*words, "--output", str(options.output)])
