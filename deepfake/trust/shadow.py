"""A candidate that judges a share of what a service examines, beside the bundle that answers.

``shadow.json`` in the models folder names it; a service that runs takes that up. What both said is
kept in lines of JSON, ``shadow.jsonl`` in the folder of the service, with nothing of the media::

    {"candidate": "sha256", "active": "image-3", "kind": "image", "error": null,
     "scores": [0.12, 0.15], "words": ["authentic", "authentic"], "seconds": [0.31, 0.18]}

The active bundle comes first in every pair.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle import SLOTS, Bundle
from ..errors import ModelError, SettingsError
from .registry import locate, read_bundles, write_json

SCHEMA = "deepfake-shadow/1"
CHOICE, RESULTS = "shadow.json", "shadow.jsonl"


@dataclass(frozen=True)
class Shadow:
    """The candidate by name and sha256, and the ``share`` (0…1) of the files that it judges."""

    name: str
    sha256: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A candidate beside the bundles that answered: ``agreement`` is the share of files with one
    word, ``drift`` the mean difference of its scores, ``distance`` the largest one between the
    distributions of both (Kolmogorov and Smirnov), ``seconds`` the medians of both.
    """

    files: int
    failed: int
    agreement: float
    flips: int
    drift: float
    gap: float
    distance: float
    seconds: tuple[float, float]


def choose_shadow(folder: Path, name: str, *, share: float) -> Bundle:
    """Let a bundle of a models folder judge in the shadow. Raises ``SettingsError`` for a share
    that is none, and ``ModelError`` for one that answers already or is of a full tier.
    """
    if not 0 < share <= 1:
        raise SettingsError(f"share {share:g}: out of range", hint="give more than 0, up to 1")
    bundle = Bundle.read(locate(folder, name))
    bundle.verify()
    active = read_bundles(folder).get(bundle.slot)
    if active is None or active.sha256 == bundle.sha256 or bundle.slot not in SLOTS:
        raise ModelError(
            f"bundle {name}: has nothing to be compared with in slot {bundle.slot}",
            hint="name one that is not active, of a slot whose bundle is, and no full tier",
        )
    write_json(
        folder / CHOICE,
        {"schema": SCHEMA, "name": name, "sha256": bundle.sha256, "share": share},
    )
    return bundle


def end_shadow(folder: Path) -> None:
    """Nothing judges in the shadow any more."""
    try:
        (folder / CHOICE).unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(
            f"models folder {folder}: cannot be changed ({error.strerror})"
        ) from error


def read_shadow(folder: Path) -> Shadow | None:
    """The candidate, or None; raises ``ModelError`` for a damaged file."""
    path = folder / CHOICE
    try:
        values = json.loads(path.read_bytes())
        if values["schema"] != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        return Shadow(str(values["name"]), str(values["sha256"]), float(values["share"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"models folder {folder}: {CHOICE} cannot be read ({error})", hint="remove it"
        ) from error


def compare(path: Path, sha256: str) -> Comparison | None:
    """What the lines in ``path`` say of a candidate; None where there is none that was judged."""
    lines = [line for line in _lines(path) if line.get("candidate") == sha256]
    judged = [line for line in lines if line["error"] is None]
    if not judged:
        return None
    pairs = [line["scores"] for line in judged]
    words = [line["words"] for line in judged]
    changes = [after - before for before, after in pairs]
    return Comparison(
        files=len(judged),
        failed=len(lines) - len(judged),
        agreement=sum(before == after for before, after in words) / len(judged),
        flips=sum({before, after} == {"authentic", "synthetic"} for before, after in words),
        drift=statistics.fmean(changes),
        gap=max(map(abs, changes)),
        distance=_distance([one for one, _ in pairs], [other for _, other in pairs]),
        seconds=(
            statistics.median(line["seconds"][0] for line in judged),
            statistics.median(line["seconds"][1] for line in judged),
        ),
    )


def _distance(some: list[float], others: list[float]) -> float:
    """The largest difference of two empirical distributions."""
    count = len(some)
    return max(
        abs(sum(x <= limit for x in some) - sum(x <= limit for x in others)) / count
        for limit in {*some, *others}
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            for raw in file:
                if raw.endswith(b"\n"):
                    yield json.loads(raw)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"file {str(path)!r}: cannot be read ({error})", hint="move it away"
        ) from error
