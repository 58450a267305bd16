"""The log of our own releases: which bundle was signed when, by whom, and in which order.

``releases.jsonl`` ships with the package. Each line is a JSON object in canonical form that holds
the sha256 of the line before, so that nothing can be taken out, put in, changed or moved without
changing every line that follows; who has seen a later line can tell. Lines are only ever added::

    {"bundle_sha256": "…", "envelope_sha256": "…", "keys": ["…", "…"], "name": "image-3",
     "number": 1, "previous": "000…", "time": "2026-11-29T09:00:00Z"}
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..bundle import SIGNATURE, Bundle
from ..errors import ModelError
from .envelopes import canonical
from .keys import PublicPair

RELEASES = Path(__file__).with_name("releases.jsonl")
FIRST = "0" * 64
"""What the first line has for the one before."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """A line of the log. ``envelope_sha256`` is that of the file with the signatures."""

    number: int
    previous: str
    time: str
    name: str
    bundle_sha256: str
    envelope_sha256: str
    keys: tuple[str, ...]


def read_releases() -> list[Release]:
    """All lines, the oldest first; raises ``ModelError`` where the chain is broken."""
    previous, found = FIRST, []
    try:
        raw = RELEASES.read_bytes() if RELEASES.exists() else b""
        for number, line in enumerate(raw.splitlines(keepends=True), 1):
            values = json.loads(line)
            if canonical(values) + b"\n" != line:
                raise ValueError(f"line {number} is not as it was written")
            release = Release(**{**values, "keys": tuple(values["keys"])})
            if release.number != number or release.previous != previous:
                raise ValueError(f"line {number} does not follow the one before")
            found.append(release)
            previous = hashlib.sha256(line).hexdigest()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            f"log of releases {RELEASES.name}: {error}", hint="restore it from the repository"
        ) from error
    return found


def log_release(bundle: Bundle, pair: PublicPair) -> Release:
    """Add a signed bundle; where the last line about it says the same, that one stands."""
    releases = read_releases()
    sha256 = envelope_sha256(bundle)
    for release in releases:
        if (release.name, release.envelope_sha256) == (bundle.name, sha256):
            return release
    release = Release(
        number=len(releases) + 1,
        previous=hashlib.sha256(_line(releases[-1])).hexdigest() if releases else FIRST,
        time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        name=bundle.name,
        bundle_sha256=bundle.sha256,
        envelope_sha256=sha256,
        keys=pair.ids,
    )
    with RELEASES.open("ab") as file:
        file.write(_line(release))
    return release


def why_unlogged(bundle: Bundle, releases: list[Release]) -> str | None:
    """Why a shipped bundle is not the one that was logged, as a clause; None where it is."""
    logged = [one for one in releases if one.name == bundle.name]
    if not logged:
        return "is not in the log of releases"
    last = logged[-1]
    if (last.bundle_sha256, last.envelope_sha256) != (bundle.sha256, envelope_sha256(bundle)):
        return f"is not the one that line {last.number} of the log of releases names"
    return None


def envelope_sha256(bundle: Bundle) -> str:
    """Of the file with the signatures; raises ``ModelError`` without one."""
    try:
        return hashlib.sha256((bundle.folder / SIGNATURE).read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"bundle {bundle.name}: is not signed (no {SIGNATURE})") from error


def _line(release: Release) -> bytes:
    return canonical(asdict(release)) + b"\n"
