"""Which bundles of a models folder answer, and which of them are shipped ones.

``active.json`` in the folder names the bundle of every slot with its sha256, so that nothing is
used because it merely lies there, and nothing that was changed since. ``shipped.json`` in this
package holds the sha256 of the bundles that a release ships, under their names. Neither is signed;
the bundles are (see :mod:`deepfake.trust.signatures`).

A slot may have two tiers, ``image-3`` in slot ``image`` and ``image-3-large`` in slot
``image-large``; they answer together, so they have one number. A listed bundle that is not in the
models folder is looked for in that of the user, where ``deepfake models install`` puts it, and a
full tier may be missing from both: the quick one then answers alone.

::

    {
      "schema": "deepfake-active/1",
      "bundles": {"image": {"name": "image-3", "sha256": "…"}, …}
    }

A bundle is called ``<slot>-<integer>``, or, of a user's own, ``<word>-<integer>``. One with a word
of its own never answers without a list. With ``"others": "shipped"`` in the list, every slot that
it does not name is answered by the shipped bundles, so that a folder may hold one bundle alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ..bundle import DESCRIPTION, FULL_TIERS, QUICK_TIERS, SLOTS, Bundle, parse_name
from ..errors import ModelError
from ..files import replaced
from ..settings import shipped_models_folder, user_models_folder
from ..text import printable
from .keys import PrivatePair
from .releases import Release, log_release, read_releases, why_unlogged
from .signatures import Trust, shipped_trust, sign_bundle, verify_bundle

SCHEMA = "deepfake-active/1"
LIST = "active.json"
SHIPPED = Path(__file__).with_name("shipped.json")
_OWN = re.compile(r"([A-Za-z][A-Za-z0-9_]*(?:-[A-Za-z][A-Za-z0-9_]*)*)-([0-9]{1,9})")
_NAMING = (
    "not named <slot>-<integer> or <slot>-<integer>-large, or <word>-<integer> for one of your own"
)
_SHA256 = re.compile("[0-9a-f]{64}")


class Recorded(NamedTuple):
    """A bundle as a list names it."""

    name: str
    sha256: str


@dataclass(frozen=True)
class ActiveList:
    """What a list says: a bundle for each of some slots, and whether the shipped ones answer for
    the ``others``; and the ``suspended`` slots with the reasons.
    """

    bundles: Mapping[str, Recorded]
    others_shipped: bool = False
    suspended: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ActiveList:
        """The inverse of :meth:`to_dict`; raises ``ValueError`` and the like for what is odd."""
        if values["schema"] != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        others = values.get("others")
        if others not in (None, "shipped"):
            raise ValueError(f"others are {str(others)[:40]!r}")
        suspended = values.get("suspended", {})
        for slot, why in suspended.items():
            if slot not in (*SLOTS, *QUICK_TIERS) or not isinstance(why, str):
                raise ValueError(f"slot {slot[:40]!r} cannot be suspended")
        return cls(
            {slot: _read_record(slot, values["bundles"][slot]) for slot in values["bundles"]},
            others == "shipped",
            {slot: printable(why) for slot, why in suspended.items()},
        )

    def holds_back(self, slot: str) -> bool:
        """Whether a slot, or the quick one of a full tier, is suspended."""
        return slot in self.suspended or QUICK_TIERS.get(slot) in self.suspended

    def to_dict(self) -> dict[str, Any]:
        """As the list holds it."""
        bundles = {slot: record._asdict() for slot, record in sorted(self.bundles.items())}
        others = {"others": "shipped"} if self.others_shipped else {}
        suspended = {"suspended": dict(sorted(self.suspended.items()))} if self.suspended else {}
        return {"schema": SCHEMA, **others, "bundles": bundles, **suspended}


@dataclass(frozen=True)
class Finding:
    """One bundle of a folder. ``faults`` are clauses for a person, none where all is well;
    ``bundle`` is there where its description could be read, ``folder`` where it lies. A full tier
    without a folder is not installed, which is no fault.
    """

    name: str
    bundle: Bundle | None
    active: bool
    shipped: bool
    faults: tuple[str, ...]
    folder: Path | None = None


def read_bundles(folder: Path) -> dict[str, Bundle]:
    """The active bundle of every slot that is not suspended, as ``active.json`` in ``folder`` says;
    without that list the newest of each (see :func:`newest_bundles`).

    Raises ``ModelError`` when the list names one that is not there, a full tier apart, or differs
    from its sha256, when two tiers do not belong together, when the shipped folder has no list or
    lacks a shipped slot, and when there is no bundle at all. Neither weights nor signatures are
    looked at: see :func:`deepfake.trust.signatures.require_signed`.
    """
    listed = read_list(folder)
    if listed is None:
        return newest_bundles(folder)
    _check_slots(folder, listed)
    found = _shipped_others(folder, listed)
    for slot, record in listed.bundles.items():
        if listed.holds_back(slot):
            continue
        fault = _missing(folder, record.name)
        if fault is None:
            found[slot] = Bundle.read(locate(folder, record.name))
            fault = _mismatch(folder, found[slot], record, slot=slot)
        elif slot in QUICK_TIERS:
            continue
        if fault:
            raise ModelError(f"bundle {record.name}: {fault}", hint=_remedy(folder, record.name))
    _check_tiers(folder, found)
    return found


def missing_tiers(folder: Path) -> dict[str, str]:
    """The slots of full tiers that the list names and that are not installed, with their names."""
    listed = read_list(folder)
    if listed is None:
        return {}
    missing = {
        slot: record.name
        for slot, record in listed.bundles.items()
        if slot in QUICK_TIERS and not listed.holds_back(slot) and _missing(folder, record.name)
    }
    if listed.others_shipped and not _is_shipped_folder(folder):
        others = missing_tiers(shipped_models_folder())
        missing |= {slot: name for slot, name in others.items() if slot not in _taken(listed)}
    return missing


def word_install(name: str) -> str:
    """The command that installs a full tier."""
    return f"deepfake models install FILE_OR_URL_OF_{name}"


def locate(folder: Path, name: str) -> Path:
    """Where a bundle of a models folder lies: there, or in the models folder of the user."""
    there, own = folder / name, user_models_folder() / name
    is_own = not (there / DESCRIPTION).is_file() and (own / DESCRIPTION).is_file()
    return own if is_own else there


def newest_bundles(folder: Path) -> dict[str, Bundle]:
    """Of every slot the bundle named after it with the highest number, whatever a list says; a full
    tier only beside the quick one of its number.

    Raises ``ModelError`` when one cannot be read or the folder holds none.
    """
    if odd := [name for name in _names(folder) if not _is_name(name)]:
        raise ModelError(f"bundle {odd[0]}: {_NAMING}", hint=f"slots are {', '.join(SLOTS)}")
    found = {slot: Bundle.read(folder / name) for slot, name in _newest(folder).items()}
    for name, bundle in zip(_newest(folder).values(), found.values(), strict=True):
        if fault := _misplaced(bundle):
            raise ModelError(f"bundle {name}: {fault}", hint=_remedy(folder, name))
    if not found:
        raise ModelError(
            f"models folder {folder}: holds no bundle",
            hint="set Settings.models_folder (or --models) to a folder with image-3, audio-1, …",
        )
    _check_tiers(folder, found)
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
        return ActiveList.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"models folder {folder}: {LIST} cannot be read ({error})",
            hint=f"restore it from the release, or remove it and run: deepfake models activate "
            f"NAME --models {folder}",
        ) from error


def activate(folder: Path, name: str, *, others_shipped: bool | None = None) -> dict[str, Bundle]:
    """Make a bundle of ``folder``, or of the user's models folder, the active one of its slot and
    record its present sha256; without a list, the newest ones of the other slots are recorded with
    it. A quick tier takes the place of both tiers of another number. The slot is no longer
    suspended. Gives the active bundles.

    ``others_shipped``: whether the shipped bundles answer for slots that the list does not name; by
    default as the list says, and without one for a bundle with a word of its own. In a folder where
    they do, the name of a shipped bundle that is not in it gives its slot back to them.

    Raises ``ModelError`` when a file of it differs from ``bundle.json``, for a bundle of the
    shipped folder that has the name of a shipped one and another content, and for a full tier
    without its quick one.
    """
    _enter(folder, name, others_shipped=others_shipped)
    return read_bundles(folder)


def _enter(folder: Path, name: str, *, others_shipped: bool | None = None) -> None:
    if not _is_name(name):
        raise ModelError(f"bundle {name!r}: {_NAMING}", hint="as image-100 or mine-1")
    listed = read_list(folder) if (folder / LIST).exists() else None
    if listed and listed.others_shipped and not (folder / name).exists():
        shipped = read_bundles(shipped_models_folder())
        slots = [slot for slot, bundle in shipped.items() if bundle.name == name]
        if slots:
            freed = {*slots, *(FULL_TIERS[slot] for slot in slots if slot in FULL_TIERS)}
            kept = {slot: one for slot, one in listed.bundles.items() if slot not in freed}
            held = {slot: why for slot, why in listed.suspended.items() if slot not in freed}
            write_list(folder, ActiveList(kept, True, held))
            return
    bundle = Bundle.read(locate(folder, name))
    bundle.verify()
    if fault := _misplaced(bundle) or _false_name(folder, bundle):
        raise ModelError(
            f"bundle {name}: {fault}",
            hint="restore it, or give a bundle of your own a name of its own, as image-100",
        )
    if listed is None:
        others = newest_bundles(folder) if _newest(folder) else {}
        recorded = {slot: Recorded(one.name, one.sha256) for slot, one in others.items()}
        shares = _slot(name) not in (*SLOTS, *QUICK_TIERS)
    else:
        recorded, shares = dict(listed.bundles), listed.others_shipped
    recorded[bundle.slot] = Recorded(name, bundle.sha256)
    other = recorded.get(FULL_TIERS.get(bundle.slot, ""))
    if other and other.name != f"{name}-large":
        del recorded[FULL_TIERS[bundle.slot]]
    tiers = {bundle.slot: bundle}
    for slot in (FULL_TIERS.get(bundle.slot), QUICK_TIERS.get(bundle.slot)):
        if slot in recorded and not _missing(folder, recorded[slot].name):
            tiers[slot] = Bundle.read(locate(folder, recorded[slot].name))
    _check_tiers(folder, tiers)
    if others_shipped is not None:
        shares = others_shipped
    held = dict(listed.suspended) if listed else {}
    held.pop(bundle.slot, None)
    write_list(folder, ActiveList(recorded, shares and not _is_shipped_folder(folder), held))


def write_list(folder: Path, listed: ActiveList) -> None:
    """Replace the list of a folder at once, so that no reader meets a half."""
    write_json(folder / LIST, listed.to_dict())


def ship(
    folder: Path,
    *names: str,
    keys: PrivatePair | None = None,
    recipes: Mapping[str, Path | None] | None = None,
    commit: str | None = None,
) -> list[Release]:
    """Record bundles as what the next release ships, in place of those of their slots, log and
    activate them; a quick tier before its full one. With ``keys`` they are signed before; the one
    of ``recipes`` by its name, and ``commit``, are then what a signature says of how it was made.

    For the training side of a clone. Raises ``ModelError``, also for one that is not signed by a
    pair of keys whose public halves ship with the package: everybody else would refuse it.
    """
    trust, found = shipped_trust(), []
    for name in names:
        bundle = Bundle.read(folder / name)
        if keys is not None:
            if keys.public.ids[0] not in trust.pairs:
                raise ModelError(
                    f"bundle {name}: the keys that are to sign it do not ship with the package",
                    hint="put their .pub.pem files into deepfake/trust/public_keys first",
                )
            sign_bundle(bundle, keys, recipe=(recipes or {}).get(name), commit=commit)
        signed = verify_bundle(bundle, trust)
        full = FULL_TIERS.get(bundle.slot)
        kept = {
            one: sha256
            for one, sha256 in shipped_bundles().items()
            if _slot(one) != bundle.slot and (_slot(one) != full or _number(one) == _number(name))
        }
        found.append(log_release(bundle, signed.pair))
        write_json(SHIPPED, dict(sorted((kept | {name: bundle.sha256}).items())))
        shipped_bundles.cache_clear()
        _enter(folder, name)
    read_bundles(folder)
    return found


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
    lie beside them, and about a missing list. A full tier that is not installed is told in the
    reports that would have asked it.
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
        others = [name for name in _names(folder) if name not in names and _is_name(name)]
        if others:
            found.append(f"In the models folder, but not active: {', '.join(others)}.")
        found += [
            f"Suspended, so that no verdict rests on it: {slot} ({why})."
            for slot, why in listed.suspended.items()
        ]
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


def inspect_folder(folder: Path, trust: Trust) -> list[Finding]:
    """Every bundle that lies in ``folder`` or the user's, that its list names or that answers for
    the others, with all that is wrong with it, every file compared and signatures verified. Raises
    ``ModelError`` for a damaged list or log of releases, and for a folder without bundles.
    """
    listed = read_list(folder)
    if listed is None:
        chosen = set(_newest(folder).values())
    else:
        _check_slots(folder, listed)
        chosen = {one.name for slot, one in listed.bundles.items() if not listed.holds_back(slot)}
    names = sorted({*_names(folder), *_names(user_models_folder()), *chosen}, key=_sort_key)
    releases = read_releases()
    findings = [
        _inspect(folder, name, listed, trust, releases, active=name in chosen) for name in names
    ]
    if listed is not None and listed.others_shipped:
        shipped = shipped_models_folder()
        others = [one.name for one in _shipped_others(folder, listed).values()]
        findings += [
            _inspect(shipped, name, read_list(shipped), trust, releases, active=True)
            for name in others
        ]
    if not findings:
        newest_bundles(folder)  # says so
    return findings


def _shipped_others(folder: Path, listed: ActiveList) -> dict[str, Bundle]:
    """The shipped bundles of the slots that a list leaves to them."""
    if not listed.others_shipped or _is_shipped_folder(folder):
        return {}
    taken, shipped = _taken(listed), read_bundles(shipped_models_folder())
    return {
        slot: bundle
        for slot, bundle in shipped.items()
        if slot not in taken and not listed.holds_back(slot)
    }


def _taken(listed: ActiveList) -> set[str]:
    """The slots of a list, and those of full tiers that would stand beside another quick one."""
    return {*listed.bundles, *(FULL_TIERS[s] for s in listed.bundles if s in FULL_TIERS)}


def _inspect(
    folder: Path,
    name: str,
    listed: ActiveList | None,
    trust: Trust,
    releases: list[Release],
    *,
    active: bool,
) -> Finding:
    there = locate(folder, name)
    if fault := _missing(folder, name):
        faults = [] if _slot(name) in QUICK_TIERS else [fault]
        return Finding(name, None, active, name in shipped_bundles(), tuple(faults))
    try:
        bundle = Bundle.read(there)
    except ModelError as error:
        return Finding(name, None, active, False, (str(error),), there)
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
    if active and _slot(name) in QUICK_TIERS and not faults:
        faults += _find_strangers(bundle, _read_quick(folder, name, set(records)))
    if not faults:
        faults += _find_unsigned(bundle, trust, releases)
    shipped = is_shipped(bundle) and not _misplaced(bundle)
    return Finding(name, bundle, active, shipped, tuple(faults), there)


def _find_unsigned(bundle: Bundle, trust: Trust, releases: list[Release]) -> list[str]:
    """Why a bundle whose files are whole is not believed."""
    try:
        verify_bundle(bundle, trust)
    except ModelError as error:
        return [str(error).removeprefix(f"bundle {bundle.name}: ")]
    unlogged = why_unlogged(bundle, releases) if is_shipped(bundle) else None
    return [unlogged] if unlogged else []


def _check_slots(folder: Path, listed: ActiveList) -> None:
    """Raise ``ModelError`` for a list of the shipped folder that lacks a shipped slot, or for one
    by which nothing answers.
    """
    needed = {_slot(name) for name in shipped_bundles()} if _is_shipped_folder(folder) else set()
    lacking = sorted(needed - set(listed.bundles) - set(QUICK_TIERS))
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
    if not _is_name(name):
        return _NAMING
    own_word = _slot(name) not in SLOTS and bundle.slot in SLOTS
    if bundle.name == name and (own_word or _slot(name) == bundle.slot):
        return None
    return f"the folder holds {bundle.name[:40]!r} of slot {bundle.slot[:40]!r}"


def _false_name(folder: Path, bundle: Bundle) -> str | None:
    """In the shipped folder the name of a shipped bundle belongs to it alone."""
    taken = bundle.name in shipped_bundles() and not is_shipped(bundle)
    if taken and _is_shipped_folder(folder):
        return "differs from the shipped one of this name (calibration, limits, files, …)"
    return None


def _missing(folder: Path, name: str) -> str | None:
    there = (locate(folder, name) / DESCRIPTION).is_file()
    return None if there else f"missing from {folder}, though {LIST} names it"


def _check_tiers(folder: Path, bundles: Mapping[str, Bundle]) -> None:
    """Raise ``ModelError`` for a full tier that is not that of the quick one beside it."""
    for slot, full in bundles.items():
        quick = bundles.get(QUICK_TIERS.get(slot, ""))
        faults = _find_strangers(full, quick) if slot in QUICK_TIERS else []
        if faults:
            raise ModelError(f"bundle {full.name}: {faults[0]}", hint=_remedy(folder, full.name))


def _read_quick(folder: Path, name: str, listed: set[str]) -> Bundle | None:
    """The quick tier that is listed beside a full one, or lies there where nothing is listed."""
    quick = name.removesuffix("-large")
    if (listed and quick not in listed) or _missing(folder, quick):
        return None
    return Bundle.read(locate(folder, quick))


def _find_strangers(full: Bundle, quick: Bundle | None) -> list[str]:
    """Why a full tier cannot answer beside a quick one."""
    name = full.name.removesuffix("-large")
    if quick is None or quick.name != name:
        return [f"is the full tier of {name}, which is not active"]
    calibrations = filter(None, (full.calibration, full.frames_calibration))
    if any(one.quick and one.quick.sha256 != quick.logit_sha256 for one in calibrations):
        return [f"was fused with another {name} (network, crops or pooling differ)"]
    return []


def _remedy(folder: Path, name: str) -> str:
    if locate(folder, name).parent == user_models_folder():
        return "install it again with deepfake models install, or remove its folder"
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
    known = parse_name(name)
    return (known.slot, known.number, name) if known else (name, 0, name)


def _newest(folder: Path) -> dict[str, str]:
    """The name with the highest number of each slot, of those that are named after their slot, of a
    full tier that of its quick one.
    """
    names = [name for name in _names(folder) if parse_name(name)]
    newest = {_slot(name): name for name in names if _slot(name) not in QUICK_TIERS}
    quick = set(newest.values())
    full = {_slot(name): name for name in names if name.removesuffix("-large") in quick - {name}}
    return newest | full


def _is_name(name: str) -> bool:
    return parse_name(name) is not None or _OWN.fullmatch(name) is not None


def _slot(name: str) -> str:
    """The slot that a name says, or the word of a user's own; empty for what is no name."""
    known, own = parse_name(name), _OWN.fullmatch(name)
    return known.slot if known else own[1] if own else ""


def _number(name: str) -> int | None:
    known = parse_name(name)
    return known.number if known else None


def _read_record(slot: str, values: Mapping[str, str]) -> Recorded:
    record = Recorded(values["name"], values["sha256"])
    named = _slot(record.name)
    known = slot in (*SLOTS, *QUICK_TIERS) and named and (named == slot or named not in SLOTS)
    if not known or not _SHA256.fullmatch(record.sha256):
        raise ValueError(f"slot {slot[:40]!r}")
    return record


def _is_shipped_folder(folder: Path) -> bool:
    return folder.resolve() == shipped_models_folder().resolve()


def write_json(path: Path, values: Any) -> None:
    """Replace a file of JSON at once."""
    with replaced(path) as partial:
        partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
