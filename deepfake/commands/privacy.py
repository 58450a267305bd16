"""``deepfake privacy``: what the service keeps of media, and what it gives out or erases."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import MissingDependency
from .options import make_console
from .serve import add_data, find_service, read_store

DESCRIPTION = """\
What the service keeps of media and reports, and the rights of those who are in them.

list    the retention class of every tenant
retain  give a tenant a class: none (no media is kept), evidence (those of files that were called
        synthetic or suspicious, as long as their report), days=N (all, so many days, but no
        longer than their report: see serve --keep-days), hold (all, and nothing of the tenant is
        deleted or erased until it has another class)
export  write what is kept of a file or a tenant to a ZIP file: reports, rulings, jobs, media
erase   delete it; of a tenant the key is deleted first, without which nothing that was sealed for
        it opens any more, in no backup either
prove   the entries of the audit log about a file or a tenant, which name it by a pseudonym

A file is named by its sha256. Kept media and the bodies of reports are sealed (AES-256-GCM) with a
key for each tenant, which is wrapped by a master key: DEEPFAKE_MASTER_KEY (32 bytes in Base64),
DEEPFAKE_MASTER_KEY_FILE, a plug-in for a KMS (DEEPFAKE_KMS=MODULE:FUNCTION), or master.key in the
folder of the service.

examples:
  deepfake privacy retain shop days=14
  deepfake privacy export --subject HASH --output subject.zip
  deepfake privacy erase --subject HASH
  deepfake privacy erase --tenant shop --yes
"""


def add_privacy(commands: Any) -> None:
    """Add the command and its actions."""
    privacy = commands.add_parser(
        "privacy",
        help="what the service keeps, and what it gives out or erases on request",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = privacy.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="the retention class of every tenant").set_defaults(act=_list)
    retain = actions.add_parser("retain", help="give a tenant a retention class")
    retain.add_argument("tenant", metavar="TENANT")
    retain.add_argument("retention", metavar="CLASS", help="none, evidence, days=N or hold")
    retain.set_defaults(act=_retain)
    export = actions.add_parser("export", help="write what is kept to a ZIP file")
    export.add_argument("--output", type=Path, required=True, metavar="ZIP", help="a new file")
    export.set_defaults(act=_export)
    erase = actions.add_parser("erase", help="delete what is kept")
    erase.add_argument("--yes", action="store_true", help="do it without being asked")
    erase.set_defaults(act=_erase)
    prove = actions.add_parser("prove", help="what the audit log says about it")
    prove.set_defaults(act=_prove)
    for action in (export, erase, prove):
        action.add_argument("--subject", metavar="HASH", help="sha256 of a file")
        action.add_argument("--tenant", metavar="NAME", help="only of this tenant, or all of it")
    for action in (retain, export, erase, prove):
        action.add_argument(
            "--audit",
            type=Path,
            metavar="FILE",
            help="the audit log (audit.jsonl in the folder of the service)",
        )
    for action in actions.choices.values():
        add_data(action)
        action.set_defaults(run=run_privacy)


def run_privacy(options: argparse.Namespace) -> int:
    """``deepfake privacy list|retain|export|erase|prove``."""
    service = find_service()
    if service is None:
        raise MissingDependency("sqlalchemy", extra="server")
    settings = service.ServiceSettings(**read_store(options))
    module = importlib.import_module("deepfake_service.rights")
    with module.open_privacy(settings) as privacy:
        status: int = options.act(privacy, options)
    return status


def _list(privacy: Any, options: argparse.Namespace) -> int:
    from ..show.console import print_table

    rows = [[it.tenant, str(it.retention)] for it in privacy.kept.classes()]
    print_table(["tenant", "retention"], rows, make_console())
    return 0


def _retain(privacy: Any, options: argparse.Namespace) -> int:
    with _log(privacy, options) as log:
        privacy.retain(options.tenant, options.retention, log)
    print(f"{options.tenant}: {options.retention}")
    return 0


def _export(privacy: Any, options: argparse.Namespace) -> int:
    subject = privacy.subject(options.subject, options.tenant)
    with _log(privacy, options) as log:
        count = privacy.subjects.export(subject, options.output, log)
    print(f"{count} reports written to {options.output}")
    return 0


def _erase(privacy: Any, options: argparse.Namespace) -> int:
    subject = privacy.subject(options.subject, options.tenant)
    if not options.yes and not _confirm(options):
        print("nothing was erased", file=sys.stderr)
        return 1
    with _log(privacy, options) as log:
        erased = privacy.subjects.erase(subject, log)
    print(
        f"erased: {erased.reports} reports, {erased.rulings} rulings, {erased.jobs} jobs, "
        f"{erased.media} media"
    )
    if erased.missing:
        print(
            f"{erased.missing} dead letters have no file here; where --job-media was forgotten, "
            "give it and erase again",
            file=sys.stderr,
        )
    print(f"the audit log names it {subject.pseudonym(privacy.secret)}", file=sys.stderr)
    return 0


def _prove(privacy: Any, options: argparse.Namespace) -> int:
    subject = privacy.subject(options.subject, options.tenant)
    found = privacy.subjects.prove(subject, _place(privacy, options))
    for line in found:
        print(json.dumps(line))
    return 0 if found else 1


def _confirm(options: argparse.Namespace) -> bool:
    what = options.subject or f"all of tenant {options.tenant}"
    if not sys.stdin.isatty():
        return False
    return input(f"erase {what}? There is no way back. [yes/no] ").strip() == "yes"


def _place(privacy: Any, options: argparse.Namespace) -> Path:
    place: Path = options.audit or privacy.audit
    return place


@contextmanager
def _log(privacy: Any, options: argparse.Namespace) -> Iterator[Any]:
    from ..trust.audit import AuditLog
    from ..trust.signatures import own_pair

    with AuditLog(_place(privacy, options), own_pair(), who=privacy.who) as log:
        yield log
