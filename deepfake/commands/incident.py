"""``deepfake incident``: open, contain, list what is affected, examine it again, close."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import MissingDependency, SettingsError
from ..settings import DetectOptions, user_data_folder
from .audit import add_audit_options, auditing, name_user
from .options import make_console, read_settings
from .serve import add_data, find_service, read_store

if TYPE_CHECKING:
    from ..trust.audit import AuditLog
    from ..trust.incidents import Incident

DESCRIPTION = """\
When a model, or somebody with a key, cannot be trusted any more (docs/incident-response.md):

open      say what it is about: a bundle, a key, a period, or several of them
contain   in one command: the bundle is refused from now on, and what answered before it in its slot
          does so again, in a running service within a second; the key opens nothing
affected  every report that rests on it, in the service and in results files of scans
rescan    examine those again with the present models, where the media are still there: in the place
          that a results file names, or in --media by their sha256. The service keeps both reports,
          and tells who waits for report.revised
close     end it
show      what happened when, in seconds since the bundle was activated
list      all incidents

examples:
  deepfake incident open --bundle image-100 --title "says genuine of everything" --severity 1
  deepfake incident contain inc-1
  deepfake incident affected inc-1 --results results.jsonl
  deepfake incident rescan inc-1 --results results.jsonl --media originals/
  deepfake incident close inc-1 --why "all senders were told"
"""


BEFORE = "revised before"


class Found(NamedTuple):
    """A report that is affected: where it is kept, and what it said of which file."""

    source: str
    id: str
    name: str
    time: str
    verdict: str
    sha256: str
    again: Callable[[Path | None], str | None]
    """Examines the file again, in the place that it was found in; the verdict, None without it, and
    ``BEFORE`` where that was done.
    """


def add_incident(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command and its actions."""
    incident = commands.add_parser(
        "incident",
        help="contain a bad model or key, and examine again what rests on it",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = incident.add_subparsers(dest="action", required=True, metavar="ACTION")
    acts = {
        "open": _open,
        "contain": _contain,
        "affected": _affected,
        "rescan": _rescan,
        "close": _close,
        "show": _show,
        "list": _list,
    }
    for name, act in acts.items():
        action = actions.add_parser(name, parents=parents, help=f"{name} (see above)")
        add_data(action)
        if name == "open":
            action.add_argument("--title", required=True, help="what is wrong, in a few words")
            action.add_argument("--severity", type=int, default=2, help="1 is worst, then 2, 3 (2)")
            action.add_argument("--bundle", metavar="NAME", help="that it is about")
            action.add_argument("--key", metavar="PREFIX", help="that it is about")
            action.add_argument("--since", metavar="TIME", help="as 2026-11-29T08:00:00Z")
            action.add_argument("--until", metavar="TIME", help="likewise")
        elif name != "list":
            action.add_argument("incident", metavar="ID", help="as open printed it")
        if name in ("affected", "rescan"):
            action.add_argument(
                "--results",
                type=Path,
                action="append",
                default=[],
                metavar="JSONL",
                help="results file of a scan; again for more",
            )
            action.add_argument(
                "--json", action="store_true", help="JSON lines in place of a table"
            )
        if name == "rescan":
            action.add_argument(
                "--media",
                type=Path,
                action="append",
                default=[],
                metavar="FOLDER",
                help="where media of reports may lie, under any name; again for more",
            )
        if name == "close":
            action.add_argument("--why", required=True, help="how it ended")
        if name in ("open", "contain", "rescan", "close"):
            add_audit_options(action, what="what was done")
        action.set_defaults(run=run_incident, act=act)


def run_incident(options: argparse.Namespace) -> int:
    """``deepfake incident``."""
    options.data = options.data or user_data_folder() / "service"
    log = auditing(options) if hasattr(options, "audit") else nullcontext()
    options.detector = None
    try:
        with log as opened:
            options.act(options, opened)
    finally:
        if options.detector is not None:
            options.detector.close()
    return 0


def _open(options: argparse.Namespace, log: AuditLog | None) -> None:
    from ..trust.incidents import Scope, open_incident

    incident = open_incident(
        options.data,
        title=options.title,
        severity=options.severity,
        scope=Scope(
            bundle=options.bundle, key=options.key, since=options.since, until=options.until
        ),
        who=name_user(options),
        models=options.models,
    )
    _audit(log, "incident_open", incident)
    print(incident.id)


def _contain(options: argparse.Namespace, log: AuditLog | None) -> None:
    from ..trust.changes import quarantine
    from ..trust.incidents import note, require_open
    from ..trust.signatures import Trust

    incident = require_open(options.data, options.incident)
    scope, done = incident.scope, []
    if scope.bundle is None and scope.key is None:
        raise SettingsError(
            f"incident {incident.id}: has neither a bundle nor a key to contain",
            hint="deepfake models quarantine, or deepfake keys revoke",
        )
    if scope.bundle is not None:
        why = f"{incident.id}: {incident.title}"
        trust, who = Trust.read(read_settings(options)), name_user(options)
        outcome = quarantine(options.models, scope.bundle, who=who, why=why, trust=trust)
        answering = ", ".join(one.name for one in outcome.bundles.values())
        done.append(f"{scope.bundle} is refused; {answering or 'nothing'} answers")
        done += [f"slot {slot} is suspended" for slot in outcome.suspended]
        if log:
            log.append("models_quarantine", bundles=outcome.bundles, about=scope.bundle)
    if scope.key is not None:
        with _store(options) as (_, keys):
            keys.restrict(scope.key, _module("store.keys").Restriction.SUSPENDED)
        done.append(f"key {scope.key} is suspended")
        if log:
            log.append("key_suspend", about=scope.key)
    told = "; ".join(done)
    note(options.data, incident.id, "contain", who=name_user(options), told=told)
    _audit(log, "incident_contain", incident)
    print(told)


def _affected(options: argparse.Namespace, log: None) -> None:
    from ..trust.incidents import note, read_incident

    incident = read_incident(options.data, options.incident)
    found = list(_find(options, incident))
    _print([[*one[:6]] for one in found], ["time", "verdict"], options)
    told = f"{len(found)} reports rest on it"
    if not incident.closed:
        note(options.data, incident.id, "affected", who="", told=told)
    if not options.json:
        print(told)


def _rescan(options: argparse.Namespace, log: AuditLog | None) -> None:
    from ..trust.incidents import note, require_open

    incident = require_open(options.data, options.incident)
    found = list(_find(options, incident))
    places = _index(options.media, {one.sha256 for one in found})
    rows, changed, gone = [], 0, 0
    for one in found:
        verdict = one.again(places.get(one.sha256))
        gone += verdict is None
        changed += verdict not in (None, BEFORE, one.verdict)
        rows.append([*one[:6], verdict or "media gone"])
    _print(rows, ["time", "verdict", "verdict now"], options)
    told = f"{len(found)} reports: {changed} verdicts changed, {gone} have no media any more"
    note(options.data, incident.id, "rescan", who=name_user(options), told=told)
    _audit(log, "incident_rescan", incident)
    if not options.json:
        print(told)


def _close(options: argparse.Namespace, log: AuditLog | None) -> None:
    from ..trust.incidents import note, require_open

    incident = require_open(options.data, options.incident)
    note(options.data, incident.id, "close", who=name_user(options), why=options.why)
    _audit(log, "incident_close", incident)
    print(f"{incident.id} is closed")


def _show(options: argparse.Namespace, log: None) -> None:
    from ..show.console import print_table
    from ..text import printable
    from ..trust.incidents import make_timeline, read_incident

    incident = read_incident(options.data, options.incident)
    steps = make_timeline(incident, folder=options.data, models=options.models)
    rows = [[s.what, s.time, f"{s.seconds:.3f}", printable(s.text, most=100)] for s in steps]
    print_table(["step", "time", "seconds", ""], rows, make_console())


def _list(options: argparse.Namespace, log: None) -> None:
    from ..show.console import print_table
    from ..trust.incidents import read_incidents

    rows = []
    for one in read_incidents(options.data):
        scope = one.scope
        period = f"{scope.since or ''}…{scope.until or ''}" if scope.since or scope.until else ""
        about = " ".join(part for part in (scope.bundle, scope.key, period) if part)
        state = "closed" if one.closed else "open"
        rows.append([one.id, str(one.severity), state, one.opened, about, one.title])
    heads = ["incident", "severity", "state", "opened", "about", "title"]
    print_table(heads, rows, make_console())


def _find(options: argparse.Namespace, incident: Incident) -> Iterator[Found]:
    """What is affected, in the service and the results files."""
    yield from _find_stored(options, incident)
    if incident.scope.key is None:  # a scan has none
        for path in options.results:
            yield from _find_scanned(options, incident, path)
    elif options.results:
        raise SettingsError("option results: a scan has no key", hint="leave it away")


def _find_stored(options: argparse.Namespace, incident: Incident) -> Iterator[Found]:
    kept = options.database or (options.data / "service.sqlite").exists()
    if find_service() is None or not kept:
        return
    revisions, webhooks = _module("revisions"), _module("store.webhooks")
    with _store(options) as (database, _):
        events = _module("events").Events(lambda event: webhooks.announce_event(database, event))
        found = [*revisions.find_affected(database, incident.scope, incident=incident.id)]
        for one in found:

            def again(place: Path | None, one: Any = one) -> str | None:
                if one.revised:
                    return BEFORE
                if place is None:
                    return None
                report = _detector(options).detect(place, name=one.name)
                revisions.revise(database, events, one, report, incident=incident.id)
                return str(report.verdict.value)

            yield Found(
                f"service {one.tenant}", one.id, one.name, one.time, one.verdict, one.sha256, again
            )


def _find_scanned(options: argparse.Namespace, incident: Incident, path: Path) -> Iterator[Found]:
    from ..errors import MediaError
    from ..scan.journal import read_results

    known = {option.name for option in fields(DetectOptions)}
    for line in read_results(path):
        if "error" in line or not incident.scope.covers(line):
            continue

        def again(place: Path | None, line: Any = line) -> str | None:
            asked = {key: v for key, v in line["journal"]["options"].items() if key in known}
            there = place or Path(line["path"])
            try:
                report = _detector(options).detect(there, DetectOptions(**asked), name=line["path"])
            except MediaError:
                return None
            return str(report.verdict.value) if report.media.sha256 == line["sha256"] else None

        time, verdict = line.get("examined_at") or "", line["verdict"]
        yield Found(str(path), "", line["path"], time, verdict, line["sha256"], again)


def _detector(options: argparse.Namespace) -> Any:
    """The present models, loaded once."""
    if options.detector is None:
        from ..detector import Detector

        options.detector = Detector(read_settings(options))
    return options.detector


def _index(folders: Sequence[Path], wanted: set[str]) -> dict[str, Path]:
    """Where the files with these sha256 lie."""
    import hashlib

    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise SettingsError(f"folder {str(folder)!r}: not found", hint="check --media")
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                if digest in wanted:
                    found.setdefault(digest, path)
    return found


def _print(
    rows: Sequence[Sequence[Any]], heads: Sequence[str], options: argparse.Namespace
) -> None:
    from ..show.console import print_table
    from ..text import printable

    names = ["kept in", "report", "file", heads[0], heads[1], "sha256", *heads[2:]]
    if options.json:
        for row in rows:
            print(json.dumps(dict(zip(names, row, strict=True))))
        return
    shown = [[*row[:5], str(row[5])[:12], *row[6:]] for row in rows]
    words = [[printable(str(cell), most=60) or "–" for cell in row] for row in shown]
    print_table(names, words, make_console())


@contextmanager
def _store(options: argparse.Namespace) -> Iterator[tuple[Any, Any]]:
    """The database and the keys of the service."""
    service = find_service()
    if service is None:
        raise MissingDependency("sqlalchemy", extra="server")
    settings = service.ServiceSettings(**read_store(options))
    with _module("service").open_store(settings) as opened:
        yield opened


def _module(name: str) -> Any:
    return importlib.import_module(f"deepfake_service.{name}")


def _audit(log: AuditLog | None, what: str, incident: Incident) -> None:
    if log is not None:
        log.append(what, about=incident.id)
