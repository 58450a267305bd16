"""Changes of a models folder: what was made to answer when, by whom and why, and the way back.

Which bundles answer is one file that is replaced at once, ``active.json`` (see
:mod:`deepfake.trust.registry`). ``history.jsonl`` beside it gets a line for each change with the
list as it is then (see :mod:`deepfake.trust.chain`). What was changed by other means is noted as
``found`` before the next change, so that there is always a way back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from ..bundle import DESCRIPTION, FULL_TIERS, QUICK_TIERS, Bundle
from ..errors import ModelError, SettingsError
from ..settings import user_models_folder
from ..text import printable
from . import registry
from .chain import Add, adding, read_chain
from .registry import ActiveList, Recorded, locate, read_bundles, read_list, write_list
from .signatures import REVOKED, REVOKED_SCHEMA, Trust, read_revoked, verify_bundle

HISTORY = "history.jsonl"
Check = Callable[[Bundle], None]
"""Raises ``ModelError`` for a bundle that may not be activated."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One line of a history. ``listed`` is what answers since then; ``undid`` is the number of the
    line whose list a rollback restored.
    """

    number: int
    time: str
    who: str
    what: str
    name: str
    why: str
    listed: ActiveList
    undid: int | None = None


class Outcome(NamedTuple):
    """What a quarantine came to: the bundles that answer now, and the slots that nobody does."""

    bundles: Mapping[str, Bundle]
    suspended: tuple[str, ...]


def read_history(folder: Path) -> list[Change]:
    """All changes of a models folder, the oldest first; raises ``DeepfakeError`` where the file is
    not as it was written.
    """
    return [_read(line) for line in read_chain(folder / HISTORY)]


def read_mark(folder: Path) -> tuple[tuple[int, int, int] | None, ...]:
    """What differs once something was changed that decides which bundles answer; cheap to ask."""
    found: list[tuple[int, int, int] | None] = []
    for place in (folder / registry.LIST, folder / REVOKED, user_models_folder()):
        try:
            seen = place.stat()
            found.append((seen.st_mtime_ns, seen.st_ino, seen.st_size))
        except OSError:
            found.append(None)
    return tuple(found)


def activate(
    folder: Path, name: str, *, who: str, why: str = "", check: Check
) -> dict[str, Bundle]:
    """:func:`deepfake.trust.registry.activate` of a bundle that ``check`` lets pass, noted."""
    there = locate(folder, name)
    if (there / DESCRIPTION).is_file():  # else it is a shipped one, or the call says so
        check(Bundle.read(there))
    with _changing(folder) as note:
        bundles = registry.activate(folder, name)
        note(who=who, what="activate", name=name, why=why)
    return bundles


def roll_back(folder: Path, *, who: str, why: str, check: Check) -> dict[str, Bundle]:
    """Restore the list before the last change that is not undone yet.

    A list that names a bundle which is missing, was changed, or does not pass ``check``, is passed
    over. Raises ``ModelError`` where there is none to go back to.
    """
    with _changing(folder) as note:
        changes = read_history(folder)
        present = changes[-1]
        place = present.undid or present.number
        for change in reversed(changes[: place - 1]):
            if change.listed != present.listed and _is_usable(folder, change.listed, check):
                write_list(folder, change.listed)
                note(who=who, what="rollback", name="", why=why, undid=change.number)
                return read_bundles(folder)
    raise ModelError(
        f"models folder {folder}: there is nothing to go back to",
        hint="deepfake models history shows what answered before",
    )


def quarantine(folder: Path, name: str, *, who: str, why: str, trust: Trust) -> Outcome:
    """Refuse a bundle from now on, whoever signed it; where it answers, what answered before it in
    its slot does so again, or the slot is suspended.

    Its sha256, as listed and as it lies there, is added to ``revoked.json`` beside the list. Raises
    ``ModelError`` for a bundle that is neither listed nor there.
    """
    if not (why := printable(why)):
        raise SettingsError("quarantine: needs a reason", hint="say --why")
    with _changing(folder) as note:
        listed = _present(folder)
        digests = {one.sha256 for one in listed.bundles.values() if one.name == name}
        if (locate(folder, name) / DESCRIPTION).is_file():
            digests.add(Bundle.read(locate(folder, name)).sha256)
        if not digests:
            raise ModelError(f"bundle {name!r}: not found", hint="deepfake models list shows all")
        refused = replace(
            trust,
            revoked=replace(
                trust.revoked, bundles={**trust.revoked.bundles, **dict.fromkeys(digests, why)}
            ),
        )
        slots = [slot for slot, one in listed.bundles.items() if one.name == name]
        for slot in slots:
            listed = _replace_slot(folder, listed, slot, why=why, trust=refused)
        if slots:
            write_list(folder, listed)
        _revoke(folder, dict.fromkeys(digests, why))
        note(who=who, what="quarantine", name=name, why=why)
        held = tuple(slot for slot in slots if listed.holds_back(slot))
        return Outcome(read_bundles(folder), held)


def suspend(folder: Path, slot: str, *, who: str, why: str) -> None:
    """From now on no verdict rests on a slot; activating a bundle in it ends that."""
    if not (why := printable(why)):
        raise SettingsError("suspension: needs a reason")
    with _changing(folder) as note:
        listed = _present(folder)
        write_list(folder, replace(listed, suspended={**listed.suspended, slot: why}))
        note(who=who, what="suspend", name=slot, why=why)


def _present(folder: Path) -> ActiveList:
    """The list, or what one would say that names the bundles that answer without it."""
    listed = read_list(folder)
    if listed is None:
        listed = ActiveList(
            {s: Recorded(b.name, b.sha256) for s, b in read_bundles(folder).items()}
        )
    return listed


def _find_present(folder: Path) -> ActiveList | None:
    """:func:`_present`, or None where nothing answers: the folder has no list, and no bundle that
    answers without one.
    """
    if (folder / registry.LIST).exists():
        return read_list(folder)
    try:
        return _present(folder)
    except ModelError:
        return None


@contextmanager
def _changing(folder: Path) -> Iterator[Callable[..., None]]:
    """What notes the change that is made in the block, alone; before it, what was found."""
    if not folder.is_dir():
        raise ModelError(f"models folder {folder}: not found", hint="check --models")
    try:
        with adding(folder / HISTORY) as (lines, add):
            note, found = _note(folder, add), _find_present(folder)
            if found and (not lines or _read(lines[-1]).listed != found):
                note(who="", what="found", name="", why="")
            yield note
    except OSError as error:
        raise SettingsError(
            f"models folder {folder}: cannot be changed ({error.strerror})",
            hint="copy it to a folder that you may write to, and name that with --models",
        ) from error


def _note(folder: Path, add: Add) -> Callable[..., None]:
    def note(*, who: str, what: str, name: str, why: str, undid: int | None = None) -> None:
        values: dict[str, Any] = {"who": printable(who), "what": what, "name": printable(name)}
        values |= {"why": printable(why), "list": _present(folder).to_dict()}
        add(values if undid is None else {**values, "undid": undid})

    return note


def _read(line: Mapping[str, Any]) -> Change:
    return Change(
        number=line["number"],
        time=line["time"],
        who=line["who"],
        what=line["what"],
        name=line["name"],
        why=line["why"],
        listed=ActiveList.from_dict(line["list"]),
        undid=line.get("undid"),
    )


def _is_usable(folder: Path, listed: ActiveList, check: Check) -> bool:
    try:
        for slot, record in listed.bundles.items():
            if listed.holds_back(slot):
                continue
            if slot in QUICK_TIERS and not (locate(folder, record.name) / DESCRIPTION).is_file():
                continue
            bundle = Bundle.read(locate(folder, record.name))
            if bundle.sha256 != record.sha256:
                return False
            check(bundle)
    except ModelError:
        return False
    return True


def _replace_slot(
    folder: Path, listed: ActiveList, slot: str, *, why: str, trust: Trust
) -> ActiveList:
    """The list with what answered in a slot and its tiers before, or with the slot suspended."""
    quick = QUICK_TIERS.get(slot, slot)
    tiers = (quick, *([FULL_TIERS[quick]] if quick in FULL_TIERS else ()))
    others = {one: record for one, record in listed.bundles.items() if one not in tiers}
    if slot in QUICK_TIERS:  # the quick tier answers alone
        return replace(listed, bundles=others | {quick: listed.bundles[quick]})

    def check(bundle: Bundle) -> None:
        verify_bundle(bundle, trust)

    bad = listed.bundles[slot]
    for change in reversed(read_history(folder)):
        before = {one: change.listed.bundles[one] for one in tiers if one in change.listed.bundles}
        if change.listed.holds_back(slot) or before.get(slot) in (None, bad):
            continue
        if _is_usable(folder, ActiveList(before), check):
            return replace(listed, bundles=others | before)
    if listed.others_shipped:
        return replace(listed, bundles=others)
    return replace(listed, suspended={**listed.suspended, slot: why})


def _revoke(folder: Path, reasons: Mapping[str, str]) -> None:
    """Add bundles to the revocation list beside the models."""
    path = folder / REVOKED
    keys: Mapping[str, str] = {}
    bundles: Mapping[str, str] = {}
    if path.exists():
        own = read_revoked(path, shipped=False)
        keys, bundles = own.keys, own.bundles
    values = {"schema": REVOKED_SCHEMA, "keys": dict(keys), "bundles": {**bundles, **reasons}}
    registry.write_json(path, values)
