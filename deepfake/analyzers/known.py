"""Is this a copy of a file on which somebody ruled?"""

from __future__ import annotations

from ..known.fingerprints import Fingerprint
from ..known.index import Copy, Known, Ruled
from ..reasons import Code
from ..types import Declares, Evidence, Status, Weight

SOURCE = "known"
MOST_NAMED = 5
"""Copies that ``details`` lists."""


def look_up(fingerprint: Fingerprint | None, known: Known, *, sha256: str) -> list[Evidence]:
    """What was ruled on files of which this one is a copy; no evidence where none are known."""
    if not known.entries:
        return []
    copies = known.find(fingerprint, sha256=sha256)
    if not copies:
        return [
            Evidence(
                source=SOURCE,
                status=Status.OK,
                claim=f"It is no copy of a known file, of {len(known.entries):,} in the index, "
                "which says nothing of it.",
            )
        ]
    ruled = {copy.entry.ruled for copy in copies}
    first = copies[0]
    if len(ruled) > 1:
        reason, declares = Code.KNOWN_DISPUTED, None
        other = next(copy for copy in copies if copy.entry.ruled is not first.entry.ruled)
        claim = f"{_word(first)} But {_word_ruling(other)}."
    elif first.entry.ruled is Ruled.SYNTHETIC:
        reason, declares = Code.KNOWN_SYNTHETIC, Declares.GENERATED
        claim = f"{_word(first)} That is a ruling, which may be wrong."
    else:
        reason, declares = Code.KNOWN_GENUINE, None
        claim = f"{_word(first)} A part of it may have been changed since."
    return [
        Evidence(
            source=SOURCE,
            status=Status.OK,
            claim=claim,
            reason=reason,
            weight=Weight.RULING,
            declares=declares,
            details={"copies": [_details(copy) for copy in copies[:MOST_NAMED]]},
        )
    ]


def _word(copy: Copy) -> str:
    if copy.difference is None:
        return (
            f"This is the file that {copy.entry.by} ruled {copy.entry.ruled} on {copy.entry.day}."
        )
    return (
        f"It looks like a copy of a file that {copy.entry.by} ruled {copy.entry.ruled} on "
        f"{copy.entry.day} ({copy.difference:.1%} of the bits of their fingerprints differ)."
    )


def _word_ruling(copy: Copy) -> str:
    return f"{copy.entry.by} ruled {copy.entry.ruled} on {copy.entry.day} on another like it"


def _details(copy: Copy) -> dict[str, object]:
    entry = copy.entry
    return {
        "id": entry.id,
        "ruled": entry.ruled.value,
        "by": entry.by,
        "at": entry.at,
        "sha256": entry.sha256,
        "note": entry.note,
        "difference": copy.difference,
    }
