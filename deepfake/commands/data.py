"""``deepfake data``: what in training data is not what it should be."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from ..errors import MissingDependency, SettingsError
from ..settings import shipped_models_folder
from .options import make_console

DESCRIPTION = """\
Look at labelled files before a detector learns from them: the same content in both classes or in
two splits, near-duplicates, wrong labels, outliers, traits such as a format or a silence that tell
the classes apart, patterns that few files share, what looks like a planted trigger in the features
of the shipped network, metadata that contradict the label, and terms and origins that are unknown.

FOLDER is
  a folder with genuine/SOURCE/… and synthetic/SYSTEM/… (real and fake will do)
  a manifest (.tsv or .csv) with the columns path, label, source or system, or a folder with one;
  columns split, licence, origin or repo, and sha256 are held against the files
In its place --genuine and --synthetic give folders as `deepfake train` reads them.
"""

EXAMPLES = """\
examples:
  deepfake data audit my-files/ --output audits/mine
  deepfake data audit --genuine photos --synthetic made --limit 100 --output audits/mine
  after a look at audits/mine/audit.html and a word (keep or drop) in its decisions.csv
    deepfake data audit my-files/ --output audits/mine --decisions audits/mine/decisions.csv
    deepfake train --slot image --genuine photos --synthetic made --output models/mine-1 \\
      --suspicious weigh --decisions audits/mine/decisions.csv

Writes audit.html, with the suspicious files side by side, and decisions.csv. A finding is a reason
to look, not a verdict: rare but right files are found as well. What is computed stays in
OUTPUT.work, so that the same command goes on after Ctrl-C. How much is found is in
docs/security/data-audit.md.

exit status: 0 nothing grave, 1 something that should be decided, 2 wrong usage, 130 stopped with
Ctrl-C
"""


def add_data(commands: Any) -> None:
    """Add the command and its action."""
    data = commands.add_parser(
        "data",
        help="look for duplicates, wrong labels, shortcuts and triggers in training data",
        description="Look at training data before a detector learns from it.",
    )
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    audit = actions.add_parser(
        "audit",
        help="audit labelled files and write a review page",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    audit.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="see above")
    for word in ("genuine", "synthetic"):
        audit.add_argument(
            f"--{word}",
            type=Path,
            nargs="+",
            action="extend",
            default=[],
            metavar="DIR",
            help=f"folders of {word} media, a sub-folder for each source",
        )
    audit.add_argument(
        "--output",
        type=Path,
        default=Path("audit"),
        metavar="DIR",
        help="folder for the page and the table of decisions (%(default)s)",
    )
    audit.add_argument(
        "--decisions", type=Path, metavar="CSV", help="what was decided after an earlier audit"
    )
    audit.add_argument("--limit", type=int, metavar="N", help="most files of each source (all)")
    audit.add_argument("--threads", type=int, default=0, help="0 for all cores (%(default)s)")
    audit.add_argument(
        "--seed", type=int, default=1, help="of all that is drawn by chance (%(default)s)"
    )
    audit.add_argument(
        "--models",
        type=Path,
        default=shipped_models_folder(),
        metavar="FOLDER",
        help="whose active network of the kind of media looks at them (the shipped bundles)",
    )
    audit.set_defaults(run=run_audit)


def run_audit(options: argparse.Namespace) -> int:
    """``deepfake data audit``; what it computed is kept when it is stopped."""
    folders = bool(options.genuine), bool(options.synthetic)
    if (options.folder is None) != all(folders) or (options.folder and any(folders)):
        raise SettingsError(
            "data audit: needs one labelled folder, or --genuine and --synthetic",
            hint="for example: deepfake data audit my-files/",
        )
    for name, value, least in (("limit", options.limit, 1), ("threads", options.threads, 0)):
        if value is not None and value < least:
            raise SettingsError(
                f"option --{name} {value}: out of range",
                hint=f"give a whole number from {least} on",
            )
    try:
        auditing = importlib.import_module("deepfake_training.own.auditing")
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "deepfake":
            raise
        raise MissingDependency(error.name or "scikit-learn", extra="train") from error
    request = auditing.Request(
        place=options.folder,
        genuine=options.genuine,
        synthetic=options.synthetic,
        output=options.output,
        models=options.models,
        limit=options.limit,
        threads=options.threads,
        seed=options.seed,
        decisions=options.decisions,
    )
    try:
        found = auditing.audit(request, console=make_console())
    except KeyboardInterrupt:
        print("the same command goes on from here", file=sys.stderr)
        raise
    return int(bool(found.grave))
