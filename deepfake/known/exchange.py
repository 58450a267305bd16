"""Entries in the forms of ThreatExchange: descriptors as JSON, or as CSV with their fields as head.

A descriptor has an ``indicator`` of a ``type``: ``HASH_PDQ`` (64 hexadecimal digits),
``HASH_VIDEO_VPDQ`` (a JSON list of ``pdq,quality,seconds``, as python-threatexchange writes it) or
``HASH_SHA256``; other types are counted and left out. ``status`` MALICIOUS is read as synthetic and
NON_MALICIOUS as genuine, which is what they mean in an exchange about synthetic media and nowhere
else; UNKNOWN and SUSPICIOUS rule on nothing. For sounds ThreatExchange has no type: ours,
``HASH_SOUND_DEEPFAKE``, is read by this program alone. What is of no kind of theirs, the crops of a
picture, is not exchanged, so an entry that comes from elsewhere finds fewer cropped copies.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import SettingsError
from ..text import printable
from ..types import Kind
from .fingerprints import FRAME_SECONDS, Fingerprint
from .index import Entry, Ruled, utc_of

PDQ, VPDQ, SHA256, SOUND = "HASH_PDQ", "HASH_VIDEO_VPDQ", "HASH_SHA256", "HASH_SOUND_DEEPFAKE"
COLUMNS = ("id", "type", "indicator", "status", "owner", "added_on", "description")
QUALITY = 100
"""Of our frames, which are of enough structure to have a hash."""
MOST_BYTES = 2 * 1024**3
_STATUS = {Ruled.SYNTHETIC: "MALICIOUS", Ruled.GENUINE: "NON_MALICIOUS"}
_RULED = {status: ruled for ruled, status in _STATUS.items()}


class Imported(NamedTuple):
    """Entries, and how many descriptors rule on nothing, are of other types, or are damaged."""

    entries: list[Entry]
    left_out: int


def read_exchange(path: Path) -> Imported:
    """The entries of a ``.csv`` or ``.json`` file. Raises ``SettingsError`` for another one."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SettingsError(f"exchange {str(path)!r}: is too large", hint="split it")
        text = path.read_text(encoding="utf-8-sig")
        rows = [*(_read_csv(text) if path.suffix.lower() == ".csv" else _read_json(text))]
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise SettingsError(
            f"exchange {str(path)!r}: cannot be read ({printable(str(error))})",
            hint="give descriptors of ThreatExchange as .json, or as .csv with a head",
        ) from error
    entries = [entry for row in rows if (entry := _read(row)) is not None]
    return Imported(entries, len(rows) - len(entries))


def write_exchange(entries: Iterable[Entry], path: Path) -> int:
    """Write descriptors, CSV where the name ends so and JSON else; how many there are."""
    rows = [row for entry in entries for row in _words(entry)]
    if path.suffix.lower() == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            table.writerows(rows)
    else:
        data = [row | {"owner": {"name": row["owner"]}} for row in rows]
        path.write_text(json.dumps({"data": data}, indent=1) + "\n", encoding="utf-8")
    return len(rows)


def _read_csv(text: str) -> Iterator[Mapping[str, Any]]:
    csv.field_size_limit(1_000_000)
    table = csv.DictReader(io.StringIO(text))
    if not {"type", "indicator"} <= {*(table.fieldnames or ())}:
        raise ValueError("its head names no type and indicator")
    yield from table


def _read_json(text: str) -> Iterator[Mapping[str, Any]]:
    values = json.loads(text)
    rows = values.get("data") if isinstance(values, dict) else values
    if not isinstance(rows, list):
        raise ValueError("has no list of descriptors under data")
    yield from (row if isinstance(row, dict) else {} for row in rows)


def _read(row: Mapping[str, Any]) -> Entry | None:
    """The entry of one descriptor, None of one that rules on nothing we know."""
    indicator = row.get("indicator") or row.get("raw_indicator")
    if isinstance(indicator, Mapping):
        indicator = indicator.get("indicator")
    owner = row.get("owner")
    owner = owner.get("name") or owner.get("id") if isinstance(owner, Mapping) else owner
    try:
        indicator, ruled = str(indicator).strip(), _RULED[str(row.get("status"))]
        sha256 = indicator.lower() if row.get("type") == SHA256 else None
        return Entry(
            id=printable(str(row.get("id") or sha256 or indicator[:64])),
            ruled=ruled,
            by=printable(str(owner or "ThreatExchange")),
            at=_read_time(row.get("added_on") or row.get("last_updated")),
            sha256=sha256,
            fingerprint=None if sha256 else _read_indicator(str(row.get("type")), indicator),
            note=printable(str(row.get("description") or ""), most=300),
        )
    except (KeyError, ValueError, OverflowError, RecursionError):
        return None


def _read_indicator(type: str, indicator: str) -> Fingerprint:
    values: dict[str, Any] = {"kind": Kind.IMAGE, "pdq": [], "parts": "", "sound": ""}
    if type == PDQ:
        values["pdq"] = [indicator.lower()]
    elif type == VPDQ:
        frames = [str(frame).split(",") for frame in json.loads(indicator)]
        values |= {"kind": Kind.VIDEO, "pdq": [frame[0] for frame in frames if int(frame[1]) >= 50]}
    elif type == SOUND:
        values |= {"kind": Kind.AUDIO, "sound": indicator}
    else:
        raise ValueError("of a type that is not read")
    return Fingerprint.from_dict(values)


def _read_time(value: Any) -> str:
    """A time as ThreatExchange has it, ``2020-07-01T18:31:15+0000`` or seconds since 1970."""
    text = str(value or "")
    if text.isdigit():
        return utc_of(datetime.fromtimestamp(int(text), UTC))
    moment = datetime.fromisoformat(text)
    return utc_of(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _words(entry: Entry) -> Iterator[dict[str, str]]:
    """The descriptors of an entry: of its bytes, and of what each hash is of."""
    shared = {
        "status": _STATUS[entry.ruled],
        "owner": entry.by,
        "added_on": entry.at.replace("Z", "+0000"),
        "description": entry.note,
    }
    indicators = [(SHA256, entry.sha256)] if entry.sha256 else []
    found = entry.fingerprint
    if found is not None:
        hashes = [bytes(row).hex() for row in found.whole_hashes]
        if found.kind is Kind.IMAGE:
            indicators += [(PDQ, text) for text in hashes]
        elif hashes:
            # of frames that have a hash; nobody matches by their times
            frames = [
                f"{text},{QUALITY},{at * FRAME_SECONDS:.3f}" for at, text in enumerate(hashes)
            ]
            indicators += [(VPDQ, json.dumps(frames))]
        if found.kind is Kind.AUDIO:
            indicators += [(SOUND, base64.b64encode(found.sound).decode())]
    for number, (type, indicator) in enumerate(indicators):
        yield shared | {
            "id": f"{entry.id}-{number}",
            "type": type,
            "indicator": indicator,
        }
