"""``deepfake known``: media that were ruled on, of which copies are recognised."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path
from typing import Any

from ..errors import DeepfakeError, SettingsError
from ..text import printable
from .options import make_console

DESCRIPTION = """\
Keep an index of media on which somebody ruled. Its entries hold fingerprints, no media; whoever
knows a file can tell that it is in there. --known INDEX of detect, scan and serve then says which
files look like copies of them, after recompression, resizing and cropping of borders.

add     rule on files: --ruled synthetic or genuine. Whoever rules again takes back what he said
list    show the entries
remove  take out entries by their id, or the beginning of it
import  add what a .csv or .json file of ThreatExchange rules on
export  write such a file

examples:
  deepfake known add --ruled synthetic --by desk forged.jpg
  deepfake detect --known known.jsonl copy.webp

exit status: 0 all done, 1 some file could not be read or has no fingerprint, 2 wrong usage
"""


def add_known(commands: Any) -> None:
    """Add the command and its actions."""
    known = commands.add_parser(
        "known",
        help="keep an index of media that were ruled on, to recognise copies of them",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = known.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="rule on files")
    add.add_argument("files", nargs="+", type=Path, metavar="FILE")
    add.add_argument("--ruled", required=True, choices=("synthetic", "genuine"))
    add.add_argument("--by", metavar="NAME", help="who rules: a name or pseudonym (the user's)")
    add.add_argument("--note", default="", help="why, for those who read it")
    add.set_defaults(act=_add)
    actions.add_parser("list", help="show the entries").set_defaults(act=_list)
    remove = actions.add_parser("remove", help="take out entries")
    remove.add_argument("ids", nargs="+", metavar="ID", help="or its first 8 digits and more")
    remove.set_defaults(act=_remove)
    import_ = actions.add_parser("import", help="add what a file of ThreatExchange rules on")
    import_.add_argument("file", type=Path, metavar="FILE", help="a .csv or .json file")
    import_.set_defaults(act=_import)
    export = actions.add_parser("export", help="write a file of ThreatExchange")
    export.add_argument("file", type=Path, metavar="FILE", help="a .csv or .json file")
    export.set_defaults(act=_export)
    for action in actions.choices.values():
        action.add_argument(
            "--index",
            type=Path,
            default=Path("known.jsonl"),
            metavar="INDEX",
            help="the index (%(default)s)",
        )
        action.set_defaults(run=run_known)


def run_known(options: argparse.Namespace) -> int:
    """``deepfake known add|list|remove|import|export``."""
    status: int = options.act(options)
    return status


def _add(options: argparse.Namespace) -> int:
    from ..known.fingerprints import take_fingerprint
    from ..known.index import Entry, Ruled, changing, utc_of
    from ..media.opening import open_media

    by = printable(options.by or getpass.getuser())
    if not by:
        raise SettingsError("--by: is no name", hint="give one that can be printed")
    failed = 0
    with changing(options.index) as entries:
        for path in options.files:
            try:
                with open_media(path) as media:
                    fingerprint, sha256 = take_fingerprint(media), media.info.sha256
            except DeepfakeError as error:
                failed += 1
                print(f"deepfake: {printable(str(error), most=600)}", file=sys.stderr)
                continue
            entry = Entry(
                id=sha256,
                ruled=Ruled(options.ruled),
                by=by,
                at=utc_of(),
                sha256=sha256,
                fingerprint=fingerprint,
                note=printable(options.note, most=300),
            )
            entries[entry.id, entry.by] = entry
            print(f"{sha256[:12]}…  {options.ruled}  {printable(str(path))}")
            if fingerprint is None:
                failed += 1
                print(
                    f"deepfake: file {printable(str(path))}: is too plain or too short for a "
                    "fingerprint; only the very same file will be recognised",
                    file=sys.stderr,
                )
    return 1 if failed else 0


def _list(options: argparse.Namespace) -> int:
    from ..known.index import read_known
    from ..show.console import print_table

    rows = [
        [
            entry.id if len(entry.id) <= 12 else f"{entry.id[:12]}…",
            entry.ruled.value,
            entry.day,
            entry.by,
            entry.fingerprint.kind.value if entry.fingerprint else "–",
            printable(entry.note, most=60),
        ]
        for entry in read_known(options.index).entries
    ]
    print_table(["id", "ruled", "on", "by", "kind", "note"], rows, make_console())
    return 0


def _remove(options: argparse.Namespace) -> int:
    from ..known.index import changing

    removed = []
    with changing(options.index) as entries:
        for wanted in (text.rstrip("…") for text in options.ids):
            named = [
                key
                for key in entries
                if key[0] == wanted or (len(wanted) >= 8 and key[0].startswith(wanted))
            ]
            if not named:
                raise SettingsError(
                    f"entry {printable(wanted)!r}: is not in the index",
                    hint="deepfake known list shows their ids",
                )
            for key in named:
                del entries[key]
            removed += named
    for sha256, by in removed:
        print(f"removed {sha256[:12]}…, on which {by} ruled")
    return 0


def _import(options: argparse.Namespace) -> int:
    from ..known.exchange import read_exchange
    from ..known.index import changing

    found = read_exchange(options.file)
    with changing(options.index) as entries:
        entries.update(((entry.id, entry.by), entry) for entry in found.entries)
    print(f"{len(found.entries)} imported, {found.left_out} left out")
    return 0


def _export(options: argparse.Namespace) -> int:
    from ..known.exchange import write_exchange
    from ..known.index import read_known

    entries = read_known(options.index).entries
    try:
        written = write_exchange(entries, options.file)
    except OSError as error:
        raise SettingsError(
            f"exchange {str(options.file)!r}: cannot be written ({error.strerror})",
            hint="choose another place",
        ) from error
    print(f"{written} descriptors of {len(entries)} entries")
    return 0
