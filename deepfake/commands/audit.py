"""``deepfake audit``: verify, export and search the log of what was asked and answered."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import SettingsError
from .options import read_settings

if TYPE_CHECKING:
    from ..trust.audit import AuditLog

DESCRIPTION = """\
Read an audit log, which `deepfake detect --audit FILE` and `deepfake scan --audit FILE` write: who
asked what, the sha256 of the media (never the media, never a path), the bundles that answered with
their sha256, the verdict and the time. Its lines are chained by their hashes and signed in
checkpoints by the operator's keys.

verify  hold every line to the chain and every checkpoint to its signatures; what was changed,
        inserted, moved or cut off is named. The last line printed is the hash of the log's end:
        keep it elsewhere and --expect it, to notice a log that was cut with all that lies beside it
export  verify, then write all entries as JSON lines, or as CSV where --output ends with .csv
search  print the entries that fit, as JSON lines

examples:
  deepfake audit verify audit.jsonl
  deepfake audit export audit.jsonl --output audit.csv
  deepfake audit search audit.jsonl --bundle image-3 --since 2026-11

exit status: 0 the log is whole, 1 it is not, 2 wrong usage
"""
COLUMNS = ("number", "time", "who", "what", "media", "verdict", "error", "bundles", "about")


def add_audit(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command and its actions."""
    audit = commands.add_parser(
        "audit",
        help="verify, export or search the log of what was asked and answered",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = audit.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name in ("verify", "export", "search"):
        action = actions.add_parser(name, parents=parents, help=f"{name} a log")
        action.add_argument("log", type=Path, metavar="FILE", help="a log, of several its present")
        if name != "search":
            action.add_argument(
                "--expect", metavar="HASH", help="of a line that the log must hold, kept elsewhere"
            )
        if name == "export":
            action.add_argument(
                "--output", type=Path, metavar="FILE", help="a .csv or .jsonl file (the terminal)"
            )
        if name == "search":
            for key, text in (
                ("media", "sha256 of a file"),
                ("bundle", "name or sha256 of a bundle"),
                ("verdict", "word of a verdict"),
                ("who", "name of who asked"),
                ("since", "first time, as 2026-11-29T08 or any other beginning of one"),
                ("until", "last time, likewise"),
            ):
                action.add_argument(f"--{key}", metavar=key.upper(), help=text)
    audit.set_defaults(run=run_audit)


def add_audit_options(
    command: argparse.ArgumentParser,
    *,
    what: str = "who asked what, hashes, bundles and verdicts",
) -> None:
    """``--audit`` and what belongs to it, for commands whose doings are to be logged."""
    group = command.add_argument_group("audit log")
    group.add_argument(
        "--audit",
        type=Path,
        metavar="FILE",
        help=f"add {what} to this log (see deepfake audit)",
    )
    group.add_argument(
        "--audit-keys",
        type=Path,
        metavar="FOLDER",
        help="with the pair of private keys that signs it (your own, made on first use)",
    )
    group.add_argument(
        "--audit-who", metavar="NAME", help="who asks: a name or pseudonym (the user's)"
    )


def files_of_log(options: argparse.Namespace) -> list[Path]:
    """What ``--audit`` writes, which is never examined itself."""
    if options.audit is None:
        return []
    from ..trust.audit import list_parts

    beside = [options.audit.with_name(options.audit.name + end) for end in (".head", ".lock")]
    return [*list_parts(options.audit), *beside]


@contextmanager
def auditing(options: argparse.Namespace) -> Iterator[AuditLog | None]:
    """The log that ``--audit`` names, or None."""
    if options.audit is None:
        if options.audit_keys:
            raise SettingsError("--audit-keys: belongs to --audit FILE")
        yield None
        return
    from ..trust.audit import AuditLog
    from ..trust.keys import read_private_pair
    from ..trust.signatures import own_pair

    pair = read_private_pair(options.audit_keys) if options.audit_keys else own_pair()
    with AuditLog(options.audit, pair, who=name_user(options)) as log:
        yield log


def name_user(options: argparse.Namespace) -> str:
    """Who asks, as ``--audit-who`` or the system says."""
    import getpass

    return str(options.audit_who or getpass.getuser())


def run_audit(options: argparse.Namespace) -> int:
    """``deepfake audit``."""
    from ..trust.audit import search_entries, verify_log
    from ..trust.signatures import Trust

    trust = Trust.read(read_settings(options))
    if options.action == "search":
        given = {
            key: getattr(options, key)
            for key in ("media", "bundle", "verdict", "who", "since", "until")
        }
        for line in search_entries(options.log, **given):
            print(json.dumps(line))
        return 0
    verified = verify_log(
        options.log, trust.pairs, revoked=trust.revoked.keys, expect=options.expect
    )
    if options.action == "export":
        _export(options.log, options.output)
        return 0
    print(
        f"whole: {verified.entries} entries and {verified.checkpoints} checkpoints in "
        f"{verified.files} file(s)"
    )
    if verified.unsigned:
        print(f"the last {verified.unsigned} entries are chained, but not signed yet")
    print(verified.head)
    return 0


def _export(log: Path, output: Path | None) -> None:
    try:
        if output is None:
            _write(log, sys.stdout, as_table=False)
            return
        with output.open("w", encoding="utf-8", newline="") as file:
            _write(log, file, as_table=output.suffix == ".csv")
    except OSError as error:
        raise SettingsError(
            f"export {str(output)!r}: cannot be written ({error.strerror})",
            hint="choose another place",
        ) from error


def _write(log: Path, file: TextIO, *, as_table: bool) -> None:
    from ..scan.tables import write_cell
    from ..trust.audit import search_entries

    if not as_table:
        file.writelines(json.dumps(line) + "\n" for line in search_entries(log))
        return
    rows = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
    rows.writerow(COLUMNS)
    for line in search_entries(log):
        bundles = " ".join(f"{one['name']}:{one['sha256']}" for one in line["bundles"].values())
        values = {**line, "bundles": bundles}
        rows.writerow([write_cell(values.get(name)) for name in COLUMNS])
