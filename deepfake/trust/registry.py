"""Which bundles of a models folder answer, and which of them are shipped ones.

``active.json`` in the folder names the bundle of every slot with its sha256, so that nothing is
used because it merely lies there, and nothing that was changed since. ``shipped.json`` in this
package holds the sha256 of the bundles that a release ships, under their names. Neither is signed:
they tell accidents and careless edits, not somebody who can write to both places.

::

    {
      "schema": "deepfake-active/1",
      "bundles": {"image": {"name": "image-2", "sha256": "…"}, …}
    }

A bundle is called ``<slot>-<integer>``, or, of a user's own, ``<word>-<integer>``. One with a word
of its own never answers without a list. With ``"others": "shipped"`` in the list, every slot that
it does not name is answered by the shipped bundles, so that a folder may hold one bundle alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ..bundle import DESCRIPTION, SLOTS, Bundle
from ..errors import ModelError
from ..settings import shipped_models_folder

SCHEMA = "deepfake-active/1"
LIST = "active.json"
SHIPPED = Path(__file__).with_name("shipped.json")
_NAME = re.compile(r"([A-Za-z][A-Za-z0-9_]*(?:-[A-Za-z][A-Za-z0-9_]*)*)-([0-9]{1,9})")
_NAMING = "not named <slot>-<integer>, or <word>-<integer> for one of your own"
_SHA256 = re.compile("[0-9a-f]{64}")


class Recorded(NamedTuple):
    """A bundle as a list names it."""

    name: str
    sha256: str


@dataclass(frozen=True)
class ActiveList:
    """What a list says: a bundle for each of some slots, and whether the shipped ones answer for
    the ``others``.
    """

    bundles: Mapping[str, Recorded]
    others_shipped: bool = False


@dataclass(frozen=True)
class Finding:
    """One bundle of a folder. ``faults`` are clauses for a person, none where all is well;
    ``bundle`` is there where its description could be read.
    """

    name: str
    bundle: Bundle | None
    active: bool
    shipped: bool
    faults: tuple[str, ...]


def read_bundles(folder: Path) -> dict[str, Bundle]:
    """The active bundle of every slot, as ``active.json`` in ``folder`` says; without that list the
    newest of each (see :func:`newest_bundles`).

    Raises ``ModelError`` when the list names one that is not there or differs from its sha256,
    when the shipped folder has no list or lacks a shipped slot, and when there is no bundle at all.
    Weights are not looked at: see :meth:`deepfake.bundle.Bundle.verify`.
    """
    listed = read_list(folder)
    if listed is None:
        return newest_bundles(folder)
    _check_slots(folder, listed)
    found = _shipped_others(folder, listed)
    for slot, record in listed.bundles.items():
        fault = _missing(folder, record.name)
        if fault is None:
            found[slot] = Bundle.read(folder / record.name)
            fault = _mismatch(folder, found[slot], record, slot=slot)
        if fault:
            raise ModelError(f"bundle {record.name}: {fault}", hint=_remedy(folder, record.name))
    return found


def newest_bundles(folder: Path) -> dict[str, Bundle]:
    """Of every slot the bundle named after it with the highest number, whatever a list says.

    Raises ``ModelError`` when one cannot be read or the folder holds none.
    """
    if odd := [name for name in _names(folder) if not _NAME.fullmatch(name)]:
        raise ModelError(f"bundle {odd[0]}: {_NAMING}", hint=f"slots are {', '.join(SLOTS)}")
    found = {slot: Bundle.read(folder / name) for slot, name in _newest(folder).items()}
    for name, bundle in zip(_newest(folder).values(), found.values(), strict=True):
        if fault := _misplaced(bundle):
            raise ModelError(f"bundle {name}: {fault}", hint=_remedy(folder, name))
    if not found:
        raise ModelError(
            f"models folder {folder}: holds no bundle",
            hint="set Settings.models_folder (or --models) to a folder with image-2, audio-1, …",
        )
    return found


def read_list(folder: Path) -> ActiveList | None:
    """What ``active.json`` says, or None without one; raises ``ModelError`` when it is damaged, and
    when the shipped folder has none.
    """
    path = folder / LIST
    if not path.exists():
        if _is_shipped_folder(folder):
            raise ModelError(
                f"models folder {folder}: {LIST} is missing", hint="install the package again"
            )
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["schema"] != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        others = values.get("others")
        if others not in (None, "shipped"):
            raise ValueError(f"others are {str(others)[:40]!r}")
        bundles = {slot: _read_record(slot, values["bundles"][slot]) for slot in values["bundles"]}
        return ActiveList(bundles, others == "shipped")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"models folder {folder}: {LIST} cannot be read ({error})",
            hint=f"restore it from the release, or remove it and run: deepfake models activate "
            f"NAME --models {folder}",
        ) from error


def activate(folder: Path, name: str, *, others_shipped: bool | None = None) -> dict[str, Bundle]:
    """Make a bundle of ``folder`` the active one of its slot and record its present sha256; without
    a list, the newest ones of the other slots are recorded with it. Gives the active bundles.

    ``others_shipped``: whether the shipped bundles answer for slots that the list does not name; by
    default as the list says, and without one for a bundle with a word of its own. In a folder where
    they do, the name of a shipped bundle that is not in it gives its slot back to them.

    Raises ``ModelError`` when a file of it differs from ``bundle.json``, and for a bundle of the
    shipped folder that has the name of a shipped one and another content.
    """
    if not _NAME.fullmatch(name):
        raise ModelError(f"bundle {name!r}: {_NAMING}", hint="as image-100 or mine-1")
    listed = read_list(folder) if (folder / LIST).exists() else None
    if listed and listed.others_shipped and not (folder / name).exists():
        shipped = read_bundles(shipped_models_folder())
        slots = [slot for slot, bundle in shipped.items() if bundle.name == name]
        if slots:
            kept = {slot: one for slot, one in listed.bundles.items() if slot not in slots}
            write_list(folder / LIST, kept, others_shipped=True)
            return read_bundles(folder)
    bundle = Bundle.read(folder / name)
    bundle.verify()
    if fault := _misplaced(bundle) or _false_name(folder, bundle):
        raise ModelError(
            f"bundle {name}: {fault}",
            hint="restore it, or give a bundle of your own a name of its own, as image-100",
        )
    if listed is None:
        others = newest_bundles(folder) if _newest(folder) else {}
        recorded = {slot: Recorded(one.name, one.sha256) for slot, one in others.items()}
        shares = _word(name) not in SLOTS
    else:
        recorded, shares = dict(listed.bundles), listed.others_shipped
    recorded[bundle.slot] = Recorded(name, bundle.sha256)
    if others_shipped is not None:
        shares = others_shipped
    write_list(folder / LIST, recorded, others_shipped=shares and not _is_shipped_folder(folder))
    return read_bundles(folder)


def write_list(
    path: Path, recorded: Mapping[str, Recorded], *, others_shipped: bool = False
) -> None:
    """Replace a list at once, so that no reader meets a half."""
    bundles = {slot: record._asdict() for slot, record in sorted(recorded.items())}
    others = {"others": "shipped"} if others_shipped else {}
    _write_json(path, {"schema": SCHEMA, **others, "bundles": bundles})


def ship(folder: Path, name: str) -> None:
    """Record a bundle as one that the next release ships, in place of its slot's, and activate it.

    For the training side of a clone. Raises ``ModelError``.
    """
    bundle = Bundle.read(folder / name)
    bundle.verify()
    kept = {one: sha256 for one, sha256 in shipped_bundles().items() if _word(one) != bundle.slot}
    _write_json(SHIPPED, dict(sorted((kept | {name: bundle.sha256}).items())))
    shipped_bundles.cache_clear()
    activate(folder, name)


@cache
def shipped_bundles() -> dict[str, str]:
    """The sha256 of every bundle that this version ships, by name."""
    values: dict[str, str] = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return values


def is_shipped(bundle: Bundle) -> bool:
    """Whether a bundle is one that this version ships, wherever it lies."""
    return shipped_bundles().get(bundle.name) == bundle.sha256


def warn_of(folder: Path, bundles: Mapping[str, Bundle]) -> list[str]:
    """Sentences about active bundles that are not shipped or hold stray files, about others that
    lie beside them, and about a missing list.
    """
    listed, found = read_list(folder), []
    foreign = sorted(bundle.name for bundle in bundles.values() if not is_shipped(bundle))
    if foreign:
        found.append(
            f"Not shipped with this version, so that nothing published describes them: "
            f"{', '.join(foreign)}."
        )
    if listed is None:
        found.append(f"The models folder has no {LIST}; the newest bundle of each slot is used.")
    else:
        names = {record.name for record in listed.bundles.values()}
        others = [name for name in _names(folder) if name not in names and _NAME.fullmatch(name)]
        if others:
            found.append(f"In the models folder, but not active: {', '.join(others)}.")
    for bundle in bundles.values():
        if extra := len(bundle.extra_files()):
            found.append(
                f"The folder of {bundle.name} holds files that are not part of it ({extra}); "
                "deepfake models verify names them."
            )
    return found


def digest_bundles(bundles: Mapping[str, Bundle]) -> str:
    """One sha256 for all that answer together."""
    lines = [f"{slot} {one.name} {one.sha256}\n" for slot, one in sorted(bundles.items())]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def inspect_folder(folder: Path) -> list[Finding]:
    """Every bundle that lies in ``folder``, that its list names or that answers for the others,
    with all that is wrong with it, every file compared. Raises ``ModelError`` for a damaged list
    and for a folder without bundles.
    """
    listed = read_list(folder)
    if listed is None:
        chosen = set(_newest(folder).values())
    else:
        _check_slots(folder, listed)
        chosen = {record.name for record in listed.bundles.values()}
    names = sorted({*_names(folder), *chosen}, key=_sort_key)
    findings = [_inspect(folder, name, listed, active=name in chosen) for name in names]
    if listed is not None and listed.others_shipped:
        shipped = shipped_models_folder()
        others = [one.name for one in _shipped_others(folder, listed).values()]
        findings += [_inspect(shipped, name, read_list(shipped), active=True) for name in others]
    if not findings:
        newest_bundles(folder)  # says so
    return findings


def _shipped_others(folder: Path, listed: ActiveList) -> dict[str, Bundle]:
    """The shipped bundles of the slots that a list leaves to them."""
    if not listed.others_shipped or _is_shipped_folder(folder):
        return {}
    shipped = read_bundles(shipped_models_folder())
    return {slot: bundle for slot, bundle in shipped.items() if slot not in listed.bundles}


def _inspect(folder: Path, name: str, listed: ActiveList | None, *, active: bool) -> Finding:
    if fault := _missing(folder, name):
        return Finding(name, None, active, False, (fault,))
    try:
        bundle = Bundle.read(folder / name)
    except ModelError as error:
        return Finding(name, None, active, False, (str(error),))
    records = {} if listed is None else {one.name: (s, one) for s, one in listed.bundles.items()}
    slot, record = records.get(name, (bundle.slot, None))
    whole = _mismatch(folder, bundle, record, slot=slot)
    faults = [whole] if whole else []
    if listed is not None and name not in records and not is_shipped(bundle):
        faults.append(f"neither in {LIST} nor shipped, so that nothing vouches for it")
    for file in bundle.files:
        try:
            bundle.file_bytes(file)
        except ModelError as error:
            faults.append(str(error).removeprefix(f"bundle {bundle.name}: ").split("; ")[0])
    faults += [f"file {file} is not part of it" for file in bundle.extra_files()]
    shipped = is_shipped(bundle) and not _misplaced(bundle)
    return Finding(name, bundle, active, shipped, tuple(faults))


def _check_slots(folder: Path, listed: ActiveList) -> None:
    """Raise ``ModelError`` for a list of the shipped folder that lacks a shipped slot, or for one
    by which nothing answers.
    """
    needed = {_word(name) for name in shipped_bundles()} if _is_shipped_folder(folder) else set()
    lacking = sorted(needed - set(listed.bundles))
    if lacking or not (listed.bundles or listed.others_shipped):
        slots = ", ".join(lacking) or "any slot"
        raise ModelError(
            f"models folder {folder}: {LIST} names no bundle for {slots}",
            hint="install the package again" if lacking else "run: deepfake models activate NAME",
        )


def _mismatch(folder: Path, bundle: Bundle, record: Recorded | None, *, slot: str) -> str | None:
    """Why a bundle is not what its folder's name, the list and the release say it is."""
    if fault := _misplaced(bundle) or _false_name(folder, bundle):
        return fault
    if bundle.slot != slot:
        return f"is of slot {bundle.slot}, though {LIST} names it for {slot}"
    if record is not None and bundle.sha256 != record.sha256:
        return f"was changed since {LIST} recorded it (calibration, limits, sha256 of files, …)"
    return None


def _misplaced(bundle: Bundle) -> str | None:
    name = bundle.folder.name
    if not _NAME.fullmatch(name):
        return _NAMING
    own_word = _word(name) not in SLOTS and bundle.slot in SLOTS
    if bundle.name == name and (own_word or _word(name) == bundle.slot):
        return None
    return f"the folder holds {bundle.name[:40]!r} of slot {bundle.slot[:40]!r}"


def _false_name(folder: Path, bundle: Bundle) -> str | None:
    """In the shipped folder the name of a shipped bundle belongs to it alone."""
    taken = bundle.name in shipped_bundles() and not is_shipped(bundle)
    if taken and _is_shipped_folder(folder):
        return "differs from the shipped one of this name (calibration, limits, files, …)"
    return None


def _missing(folder: Path, name: str) -> str | None:
    there = (folder / name / DESCRIPTION).is_file()
    return None if there else f"missing from {folder}, though {LIST} names it"


def _remedy(folder: Path, name: str) -> str:
    if _is_shipped_folder(folder):
        return "install the package again, or restore the folder from its release"
    restore = "restore it from where it came"
    if not (folder / name).exists():
        return f"{restore}, or activate another one in its place"
    return (
        f"{restore}, or, if the change is meant, run: deepfake models activate {name} "
        f"--models {folder}"
    )


def _names(folder: Path) -> list[str]:
    """The folders that hold a description of a bundle, in the order of slot and number."""
    names = [path.parent.name for path in folder.glob(f"*-*/{DESCRIPTION}")]
    return sorted(names, key=_sort_key)


def _sort_key(name: str) -> tuple[str, int, str]:
    known = _NAME.fullmatch(name)
    return (known[1], int(known[2]), name) if known else (name, 0, name)


def _newest(folder: Path) -> dict[str, str]:
    """The name with the highest number of each slot, of those that are named after their slot."""
    return {_word(name): name for name in _names(folder) if _word(name) in SLOTS}


def _word(name: str) -> str:
    """What stands before the number of a name; empty for one that is none."""
    known = _NAME.fullmatch(name)
    return known[1] if known else ""


def _read_record(slot: str, values: Mapping[str, str]) -> Recorded:
    record = Recorded(values["name"], values["sha256"])
    word = _word(record.name)
    known = slot in SLOTS and word and (word == slot or word not in SLOTS)
    if not known or not _SHA256.fullmatch(record.sha256):
        raise ValueError(f"slot {slot[:40]!r}")
    return record


def _is_shipped_folder(folder: Path) -> bool:
    return folder.resolve() == shipped_models_folder().resolve()


def _write_json(path: Path, values: Any) -> None:
    text = json.dumps(values, indent=2) + "\n"
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False
    ) as file:
        file.write(text)
    partial = Path(file.name)
    partial.chmod(0o644)
    partial.replace(path)
